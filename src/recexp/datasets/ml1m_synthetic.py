"""Generated events in MovieLens-1M's format, with order in them that a sequential model can find."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.lines import Layout
from recexp.datasets.malformed import Malformed, Policy
from recexp.datasets.places import Places
from recexp.datasets.table import Recording, Table
from recexp.errors import ConfigError
from recexp.storage.atomic import atomic_file
from recexp.storage.checksum import sha256_json

_GENERATOR = 1
_FIRST_SECOND = 978_300_000


@dataclass(frozen=True)
class Recipe:
    """What is planted.

    Attributes:
        users: Number of users.
        items: Number of items; every one belongs to a cluster.
        events_per_user: Mean length of a user's history; the shortest have half of it.
        clusters: Groups of items; each has one group that likes to come next.
        structure: Probability that the next item comes from that group; else any item by popularity. 0: no order.
        seed: Of the generator.
    """

    users: int = 600
    items: int = 400
    events_per_user: int = 40
    clusters: int = 40
    structure: float = 0.8
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that contradict each other: a user rates an item once."""
        problems = []
        if self.events_per_user * 3 > self.items:
            problems.append(
                f"dataset.events_per_user={self.events_per_user}: at most a third of dataset.items={self.items}, since "
                f"a user rates an item once."
            )
        if self.events_per_user < 6:
            problems.append(f"dataset.events_per_user={self.events_per_user}: at least 6, so that every user has 3.")
        if self.clusters > self.items // 2:
            problems.append(
                f"dataset.clusters={self.clusters}: at most half of dataset.items={self.items}, so that each holds two."
            )
        if problems:
            raise ConfigError(problems)

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> Recipe:
        """From the ``dataset`` node of a configuration."""
        return cls(**{name: dataset[name] for name in cls.__dataclass_fields__ if name in dataset})


def read(dataset: Mapping[str, Any], places: Places) -> Recording:
    """The reader of ``dataset=ml1m_synthetic``: writes a ratings.dat into the cache and reads it as any other."""
    if dataset.get("path"):
        raise ConfigError(["dataset=ml1m_synthetic is generated: dataset.path has no meaning. Use dataset=ml1m."])
    recipe = Recipe.of(dataset)
    content = sha256_json({"generator": _GENERATOR, **asdict(recipe)})

    def load() -> tuple[Table, str]:
        path = places.cache / "generated" / f"ml1m_synthetic-{content[:16]}" / "ratings.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, recipe)
        return _parse(path, recipe, dataset, places), f"{path} (generated)"

    return Recording(content, {"min_rating": dataset.get("min_rating")}, load, synthetic=True)


def _parse(path: Path, recipe: Recipe, dataset: Mapping[str, Any], places: Places) -> Table:
    from recexp.datasets.text_table import read_text

    layout = Layout(
        separator="::", width=4, user=0, item=1, rating=2, time=3, largest=(recipe.users, recipe.items),
        rating_range=(1, 5), unique=True,
    )  # fmt: skip
    with path.open("rb") as stream:
        return read_text(stream, layout, Malformed(str(path), Policy.of(dataset)), places.progress, path.stat().st_size)


def write(path: Path, recipe: Recipe) -> None:
    """Write the generated ratings as ``user::item::rating::time`` lines, sorted by user, atomically."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [pa.array(column).cast(pa.string()) for column in generate(recipe)]
    lines = pc.binary_join_element_wise(*columns, "::")
    text = io.BytesIO("\n".join([*lines.to_pylist(), ""]).encode())
    with atomic_file(path, expected_bytes=len(text.getbuffer())) as stream:
        stream.write(text.getbuffer())


def generate(recipe: Recipe) -> tuple[npt.NDArray[np.int64], ...]:
    """User, item, rating and time of all events, int64[N] each, by user and in the order of time.

    Popularity falls as 1 / rank ** 0.6; clusters cut across the ranks. A step goes to the successor cluster with
    probability ``structure``. Ratings are high for it and random else; the seconds between events are random, and 0
    at times, as in the original.
    """
    rng = np.random.default_rng(recipe.seed)
    low = recipe.events_per_user // 2
    length = low + rng.integers(0, 2 * (recipe.events_per_user - low) + 1, recipe.users)
    length = np.minimum(length, recipe.items // 2)
    weight = 1.0 / np.arange(1, recipe.items + 1) ** 0.6
    rank = rng.permutation(recipe.items)
    popularity = weight[rank]
    cluster = rng.permutation(recipe.items) % recipe.clusters
    ring = rng.permutation(recipe.clusters)
    chain = np.empty_like(ring)
    chain[ring] = np.roll(ring, 1)  # one ring through all clusters
    items, followed = _walk(recipe, rng, int(length.max()), popularity, cluster, chain)
    inside = np.arange(items.shape[1]) < length[:, None]
    user = np.repeat(np.arange(1, recipe.users + 1), length)
    rating = np.where(followed, rng.integers(3, 6, items.shape), rng.integers(1, 6, items.shape))
    gaps = rng.integers(0, 90, items.shape)
    start = _FIRST_SECOND + rng.integers(0, 86_400 * 365, (recipe.users, 1))
    time = start + np.cumsum(gaps, axis=1)
    return user, items[inside] + 1, rating[inside], time[inside]


def _walk(
    recipe: Recipe,
    rng: np.random.Generator,
    steps: int,
    popularity: npt.NDArray[Any],
    cluster: npt.NDArray[np.int64],
    chain: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """All users step by step: items int64[users, steps] from 0, and whether the step followed the chain."""
    everyone = np.arange(recipe.users)
    unseen = np.ones((recipe.users, recipe.items), dtype=np.bool_)
    items = np.empty((recipe.users, steps), dtype=np.int64)
    followed = np.empty((recipe.users, steps), dtype=np.bool_)
    member = cluster[None, :] == np.arange(recipe.clusters)[:, None]
    at = _draw(rng, unseen * popularity)
    followed[:, 0] = False
    for step in range(steps):
        if step:
            wanted = unseen & member[chain[cluster[at]]]
            follows = (rng.random(recipe.users) < recipe.structure) & wanted.any(axis=1)
            at = _draw(rng, np.where(follows[:, None], wanted, unseen) * popularity)
            followed[:, step] = follows
        items[:, step] = at
        unseen[everyone, at] = False
    return items, followed


def _draw(rng: np.random.Generator, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """One column for each row, with probability proportional to its weight."""
    cumulated = np.cumsum(weights, axis=1)
    threshold = rng.random((len(weights), 1)) * cumulated[:, -1:]
    drawn: npt.NDArray[np.int64] = np.minimum((cumulated <= threshold).sum(axis=1), weights.shape[1] - 1)
    return drawn
