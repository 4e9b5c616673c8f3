"""Representations of each tensor, each with its bits and predicted loss."""
