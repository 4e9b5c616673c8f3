"""LLC (2024) as published."""
