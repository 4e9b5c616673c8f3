"""L2 (Shi et al., ICCV 2023) as published."""
