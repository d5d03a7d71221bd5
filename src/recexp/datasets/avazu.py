"""Avazu's mobile advertising log of the Kaggle challenge of 2014: 40,428,967 lines of ten days."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from recexp.datasets.click_logs.build import BUILD, Build, LogFormat
from recexp.datasets.click_logs.fields import Column
from recexp.datasets.click_logs.find import Names, given, lying_in
from recexp.datasets.click_logs.layout import Kind, Layout
from recexp.datasets.click_logs.recipe import Recipe, recipe_of
from recexp.datasets.malformed import Policy
from recexp.datasets.places import Places
from recexp.datasets.table import ImpressionRecording
from recexp.errors import DataError
from recexp.storage.checksum import sha256_json

_COLUMNS: tuple[tuple[str, Kind], ...] = (
    ("id", "ignored"), ("click", "label"), ("hour", "number"), ("C1", "number"), ("banner_pos", "number"),
    ("site_id", "hex"), ("site_domain", "hex"), ("site_category", "hex"), ("app_id", "hex"), ("app_domain", "hex"),
    ("app_category", "hex"), ("device_id", "hex"), ("device_ip", "hex"), ("device_model", "hex"),
    ("device_type", "number"), ("device_conn_type", "number"), *((f"C{place}", "number") for place in range(14, 22)),
)  # fmt: skip
LAYOUT = Layout(",", tuple(name for name, _ in _COLUMNS), tuple(kind for _, kind in _COLUMNS), header=True)


def _fields() -> tuple[Column, ...]:
    """In the order of the file, the three of the hour last, as FuxiCTR has them."""
    kinds: tuple[Kind, ...] = ("number", "hex")
    place = {kind: {name: at for at, name in enumerate(LAYOUT.named(kind))} for kind in kinds}
    plain = [
        Column(name, place[kind][name], "id" if kind == "hex" else "number")
        for name, kind in _COLUMNS
        if kind in place and name != "hour"
    ]
    at = place["number"]["hour"]
    of_hour = (Column("hour", at, "hour"), Column("weekday", at, "weekday"), Column("is_weekend", at, "is_weekend"))
    return (*plain, *of_hour)


FORMAT = LogFormat(LAYOUT, _fields())
#: reczoo/BARS Avazu_x4_001: no id of the line, the hour as three fields, ids with fewer than 2 rows are rare, 8:1:1.
PRESET = Recipe("log1p", "rare", 2, "frequency", "random", days=10, split_seed=2018)
NAMES = Names(
    file="train",
    plain=("avazu*.gz", "avazu*.csv", "train.gz", "train.csv", "train"),
    archives=("avazu*.zip", "avazu*.tar.gz"),
    folders=("avazu", "avazu-ctr-prediction"),
)


def read(dataset: Mapping[str, Any], places: Places) -> ImpressionRecording:
    """The reader of ``dataset=avazu``; its file cannot be fetched without an account.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: it is not there or is ambiguous.
    """
    recipe = recipe_of(dataset, PRESET)
    found = given(dataset, NAMES)
    if found is None and places.data is not None:
        # In a folder of many datasets "train" may be anything: only names that say what they are count there.
        folders = [places.data / name for name in NAMES.folders if (places.data / name).is_dir()]
        own = dataclasses.replace(NAMES, plain=NAMES.plain[:2], folders=())
        found = lying_in(places.data, own) or next((lying_in(each, NAMES) for each in folders), None)
    if found is None:
        raise DataError(
            f"dataset={dataset['name']}: there is no copy of yours, and the file cannot be fetched without an account. "
            f"Download train.gz from https://www.kaggle.com/c/avazu-ctr-prediction/data and name it with "
            f"dataset.path=FILE, or put it into a folder avazu of paths.data (RECEXP_DATA)."
        )
    build = Build(found, FORMAT, recipe, Policy.of(dataset), places.progress)
    options = {"build": BUILD, **dataclasses.asdict(recipe)}
    return ImpressionRecording(sha256_json([each.identity() for each in found]), options, build.write)
