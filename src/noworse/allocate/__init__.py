"""The knapsack, and the search within a tolerance."""
