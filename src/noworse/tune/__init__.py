"""Tuning by gradient: weights, steps and zones together, at a given size."""
