"""Recording of runs: a journal on disk first, MLflow behind it."""
