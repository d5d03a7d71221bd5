"""Models: one file per word of ``model=``, each with its network and its loss."""
