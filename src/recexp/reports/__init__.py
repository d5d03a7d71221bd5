"""What a person gets to see of a run: progress, the final table, learning curves."""
