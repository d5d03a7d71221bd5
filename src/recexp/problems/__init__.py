"""Problems: the contract between a dataset and a model."""
