"""What an error of ŵ does to the loss."""
