"""The rate R(ŵ): entropy of codes, its differentiable counter, and the controller of the file size."""
