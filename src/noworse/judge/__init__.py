"""The judge: statistics of the verdict, and verification of files."""
