"""The three stories: compress, quantize, decompose."""
