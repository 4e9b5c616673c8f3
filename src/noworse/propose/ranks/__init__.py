"""Low-rank factors of a layer's weight: what each rank loses, and what it costs (LLC's decomposition)."""
