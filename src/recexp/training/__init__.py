"""What surrounds the step: checkpoints, resuming, stopping, throughput, reporting."""
