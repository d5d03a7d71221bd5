"""Speed and memory as ratios measured in one run; dated results are in docs/benchmarks.md."""
