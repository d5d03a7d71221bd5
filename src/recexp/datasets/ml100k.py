"""MovieLens-100K: 100,000 ratings of 943 users on 1,682 items; ids as in the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recexp.datasets import published
from recexp.datasets.fetch import Release
from recexp.datasets.lines import Layout
from recexp.datasets.places import Places
from recexp.datasets.table import Recording

ML100K = published.Published(
    release=Release(
        word="ml100k",
        title="ml-100k",
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    ),
    rating_file="u.data",
    rating_sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    rating_bytes=1_979_173,
    layout=Layout(
        separator="\t", width=4, user=0, item=1, rating=2, time=3, largest=(943, 1682), rating_range=(1, 5), unique=True
    ),
)


def read(dataset: Mapping[str, Any], places: Places) -> Recording:
    """The reader of ``dataset=ml100k``."""
    return published.read(ML100K, dataset, places)
