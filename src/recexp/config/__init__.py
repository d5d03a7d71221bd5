"""Configuration: what is legal, what was chosen, what is wrong with it, and the identity of a run."""
