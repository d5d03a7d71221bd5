"""One file per dataset word, the readers they share, and the build-once cache."""
