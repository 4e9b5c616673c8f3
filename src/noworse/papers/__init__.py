"""Both papers as published, plugged into the seams that every user has."""
