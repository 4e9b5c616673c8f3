"""What a model is to us: its tensors, and its norms folded."""
