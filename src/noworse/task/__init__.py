"""What a job names: batches, the task, distances between outputs, sizes, patterns."""
