"""The product in formats of others."""
