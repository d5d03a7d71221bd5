"""Ratings as impressions: a rating at or above a threshold is a click; users, items and their columns are fields."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.config import targets
from recexp.config.suggest import closest, did_you_mean
from recexp.datasets.attributes import Attribute, Attributes
from recexp.datasets.events import DataMeta, Events
from recexp.datasets.impressions import PARTS, Field, Impressions
from recexp.datasets.places import Places
from recexp.errors import ConfigError, DataError
from recexp.storage.checksum import sha256_json

RECIPE = 1
"""Goes up whenever the same ratings and options would give other rows."""

USER, ITEM = "user", "item"
_log = logging.getLogger(__name__)

Parts = npt.NDArray[np.uint8]


def from_events(events: Events, dataset: Mapping[str, Any], problem: Mapping[str, Any], places: Places) -> Impressions:
    """Pose rated events as clicks.

    Fields are ``user`` and ``item``, whose ids are those of the events, then the columns that the dataset states about
    users and about items. Rows keep the order of the events (by user, then time) within their part. Ids that occur in
    no training row stay ids; ``meta.notes`` counts them: ``unseen_in_training_users``, ``unseen_in_training_items``,
    and ``unseen_in_training_events``, the rows of validation and test with at least one of both.

    Args:
        events: The ratings.
        dataset: The composed node; ``attributes``, if there is one, names the function that reads such columns.
        problem: The composed node: ``threshold``, ``fields`` (None: all), ``split``, ``split_seed``,
            ``validation_share``, ``test_share``.
        places: Where the columns are looked for.

    Raises:
        ConfigError: ``fields`` names one that does not exist.
        DataError: all labels are equal, a part would be empty, or the columns cannot be read.
    """
    word, chosen = str(dataset["name"]), problem["fields"]
    label = _labels(events, word, problem["threshold"])
    attributes = Attributes()
    if dataset.get("attributes") and not (chosen is not None and set(chosen) <= {USER, ITEM}):
        attributes = targets.load(dataset["attributes"])(dataset, places)
    columns = _columns(events, attributes)
    _check_fields(word, chosen, [field.name for field, _, _ in columns])
    columns = [column for column in columns if chosen is None or column[0].name in chosen]
    part = cut(
        events.time,
        split=problem["split"],
        seed=problem["split_seed"],
        validation_share=problem["validation_share"],
        test_share=problem["test_share"],
    )
    counts = _counts(part, word)
    order = np.argsort(part, kind="stable")
    stated = {
        "recipe": RECIPE,
        "events": events.meta.fingerprint,
        "fields": [field.name for field, _, _ in columns],
        "attributes": [attribute.stated() for _, attribute, _ in columns if attribute is not None],
        **{key: problem[key] for key in ("split", "validation_share", "test_share")},
        "threshold": float(problem["threshold"]),
        "split_seed": problem["split_seed"] if problem["split"] == "random" else None,
    }
    return Impressions(
        label=label[order],
        dense=np.zeros((len(events), 0), dtype=np.float32),
        ids=_ids(columns, order),
        fields=tuple(field for field, _, _ in columns),
        dense_names=(),
        bounds=(0, counts[0], counts[0] + counts[1], len(events)),
        split=_said(problem),
        meta=_meta(events, part, attributes, sha256_json(stated)),
    )


def cut(time: npt.NDArray[np.int64], *, split: str, seed: int, validation_share: float, test_share: float) -> Parts:
    """The part of each row, as a position in ``PARTS``: uint8[N].

    Shares are exact: of N rows, ``N * share`` to the nearest whole number, halves up, belong to validation and to test.

    Args:
        time: Of each row, int64[N].
        split: random: which rows is decided by ``seed`` and N alone; time: the latest are test, those before them
            validation, and of rows of one time the earlier rows come first.
        seed: Of the random order.
        validation_share: Share of all rows.
        test_share: Share of all rows.
    """
    rows = len(time)
    order = np.argsort(time, kind="stable") if split == "time" else np.random.default_rng(seed).permutation(rows)
    test = int(rows * test_share + 0.5)
    validation = int(rows * validation_share + 0.5)
    train = max(0, rows - test - validation)
    part = np.zeros(rows, dtype=np.uint8)
    part[order[train:]] = PARTS.index("val")
    part[order[train + validation :]] = PARTS.index("test")
    return part


def _labels(events: Events, word: str, threshold: float) -> npt.NDArray[np.uint8]:
    label = (events.rating >= threshold).astype(np.uint8)
    if len(label) and label.min() < label.max():
        return label
    low, high = (float(events.rating.min()), float(events.rating.max())) if len(label) else (0.0, 0.0)
    if low == high:
        why = f"every rating is {low:.12g}, as where there is no column of ratings"
        way = "Name that column (dataset.columns.rating), or pose another problem."
    else:
        why = f"ratings are {low:.12g} to {high:.12g}"
        way = f"Set problem.threshold above {low:.12g} and up to {high:.12g}, or lower dataset.min_rating."
    what = "none" if not label.any() else "all"
    raise DataError(
        f"dataset={word}: {what} of {len(label):,} rows would be clicks with problem.threshold={threshold:.12g} "
        f"({why}), and from equal labels nothing can be learned. {way}"
    )


_Column = tuple[Field, Attribute | None, npt.NDArray[np.int32]]


def _columns(events: Events, attributes: Attributes) -> list[_Column]:
    """Field, its attribute (None: the ids themselves) and whom it belongs to, of all that there are."""
    return [
        (Field(USER, events.num_users + 1), None, events.user),
        (Field(ITEM, events.num_items + 1), None, events.item),
        *((each.field, each, events.user) for each in attributes.users),
        *((each.field, each, events.item) for each in attributes.items),
    ]


def _check_fields(word: str, chosen: list[str] | None, legal: list[str]) -> None:
    problems = [
        f"problem.fields: dataset={word} has no field {name!r}; it has {', '.join(legal)}."
        f"{did_you_mean(closest(str(name), legal))}"
        for name in chosen or []
        if name not in legal
    ]
    if problems:
        raise ConfigError(problems)


def _ids(columns: list[_Column], order: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    ids = np.empty((len(order), sum(field.slots for field, _, _ in columns)), dtype=np.int32)
    slot = 0
    for field, attribute, entity in columns:
        own = entity[order]
        ids[:, slot : slot + field.slots] = own[:, None] if attribute is None else attribute.of(own)
        slot += field.slots
    return ids


def _counts(part: Parts, word: str) -> list[int]:
    counts = [int(count) for count in np.bincount(part, minlength=len(PARTS))]
    if not all(counts):
        listed = ", ".join(f"{name} {count:,}" for name, count in zip(PARTS, counts, strict=True))
        raise DataError(
            f"dataset={word}: {len(part):,} rows leave a part empty ({listed}). Change problem.validation_share and "
            f"problem.test_share, or take more data."
        )
    return counts


def _meta(events: Events, part: Parts, attributes: Attributes, fingerprint: str) -> DataMeta:
    train = part == PARTS.index("train")
    notes, strange = {}, np.zeros(len(part), dtype=np.bool_)
    for name, ids, largest in ((USER, events.user, events.num_users), (ITEM, events.item, events.num_items)):
        known = np.zeros(largest + 1, dtype=np.bool_)
        known[ids[train]] = True
        unseen = ~known[ids]
        notes[f"unseen_in_training_{name}s"] = len(np.unique(ids[unseen]))
        strange |= unseen
    notes["unseen_in_training_events"] = int(np.count_nonzero(strange))
    if strange.any():
        _log.info("%s: %s", events.meta.name, ", ".join(f"{what.replace('_', ' ')} {n:,}" for what, n in notes.items()))
    verified = False if attributes.verified is False else events.meta.verified
    return replace(events.meta, fingerprint=fingerprint, verified=verified, notes={**events.meta.notes, **notes})


def _said(problem: Mapping[str, Any]) -> str:
    validation, test = problem["validation_share"], problem["test_share"]
    shares = f"{100 * validation:.12g} % of the rows validation, {100 * test:.12g} % test"
    if problem["split"] == "time":
        return f"by time: the latest, {shares}"
    return f"random by seed {problem['split_seed']}: {shares}"
