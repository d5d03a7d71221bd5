"""Outfits in the files of those who published them: outfits, questions, names and vectors of items."""
