"""MovieLens latest-small (2018): 100,836 ratings of 610 users; ids renumbered 1.. in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recexp.datasets import published
from recexp.datasets.fetch import Release
from recexp.datasets.lines import Layout
from recexp.datasets.places import Places
from recexp.datasets.table import Recording

ML_LATEST_SMALL = published.Published(
    release=Release(
        word="ml_latest_small",
        title="ml-latest-small",
        url="https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
        sha256="696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    ),
    rating_file="ratings.csv",
    rating_sha256="aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646",
    rating_bytes=2_483_723,
    layout=Layout(separator=",", width=4, user=0, item=1, rating=2, time=3, rating_range=(0.5, 5), unique=True),
    header=("userId", "movieId", "rating", "timestamp"),
)


def read(dataset: Mapping[str, Any], places: Places) -> Recording:
    """The reader of ``dataset=ml_latest_small``."""
    return published.read(ML_LATEST_SMALL, dataset, places)
