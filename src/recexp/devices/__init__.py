"""Kinds of device a run can be on: instances for the Trainer, precision, random states, clock and memory."""
