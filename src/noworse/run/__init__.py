"""What surrounds a run: processes, checkpoints, precision, memory."""
