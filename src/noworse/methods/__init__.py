"""How ŵ is found: one file per family of cheaper tensors."""
