"""Coarser tensors without data: steps from the tensors alone, by one slope or by a bound of the error."""
