"""Uniform quantisers of weights and activations: where they clip, how they round."""
