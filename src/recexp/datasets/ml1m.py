"""MovieLens-1M: 1,000,209 ratings of 6,040 users; ids as in the file, items up to 3,952."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recexp.datasets import published
from recexp.datasets.fetch import Release
from recexp.datasets.lines import Layout
from recexp.datasets.package_index import SourceArchive
from recexp.datasets.places import Places
from recexp.datasets.table import Recording

LAYOUT = Layout(
    separator="::", width=4, user=0, item=1, rating=2, time=3, largest=(6040, 3952), rating_range=(1, 5), unique=True
)

ML1M = published.Published(
    release=Release(
        word="ml1m",
        title="ml-1m",
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        package=SourceArchive(
            name="scikit-rec",
            version="0.3.0",
            sha256="949b0ea7b79047b85e49d08466c49837fb74dd1f7d61ce6557f4caf6d680f7fd",
            member="examples/data/movielens-1m/ml-1m.zip",
        ),
    ),
    rating_file="ratings.dat",
    rating_sha256="506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",
    rating_bytes=24_594_131,
    layout=LAYOUT,
)


def read(dataset: Mapping[str, Any], places: Places) -> Recording:
    """The reader of ``dataset=ml1m``."""
    return published.read(ML1M, dataset, places)
