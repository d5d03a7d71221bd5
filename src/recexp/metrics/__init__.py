"""Metrics: exact, global over all processes, accumulated on the device."""
