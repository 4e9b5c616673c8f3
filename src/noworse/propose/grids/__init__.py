"""Grids: steps, dead zones, compensated rounding, bias correction."""
