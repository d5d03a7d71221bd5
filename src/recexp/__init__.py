"""recexp: recommender experiments, one command a cell of the grid."""

__version__ = "0.1.0"
