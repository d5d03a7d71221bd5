"""Criteo's display advertising logs, of the Kaggle challenge or the Terabyte ones, under a published recipe.

Who has files in their format (a generator, say) calls ``recording(dataset, places, sources=[paths], ...)``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recexp.config.suggest import closest, did_you_mean
from recexp.datasets.click_logs.build import BUILD, Build, LogFormat
from recexp.datasets.click_logs.fields import Column
from recexp.datasets.click_logs.find import Names, given, lying_in
from recexp.datasets.click_logs.layout import Layout
from recexp.datasets.click_logs.recipe import PRESETS, recipe_of
from recexp.datasets.click_logs.text_source import TextSource
from recexp.datasets.fetch import Release, fetch
from recexp.datasets.malformed import Policy
from recexp.datasets.places import Places
from recexp.datasets.table import ImpressionRecording, WrittenImpressions
from recexp.errors import ConfigError, DataError
from recexp.storage.archive import find_file
from recexp.storage.checksum import sha256_json

LINES = 45_840_617
"""Of the challenge's train.txt; there is no published checksum."""

NUMBERS = tuple(f"I{place}" for place in range(1, 14))
IDS = tuple(f"C{place}" for place in range(1, 27))
FORMAT = LogFormat(
    Layout("\t", ("label", *NUMBERS, *IDS), ("label", *["number"] * 13, *["hex"] * 26)),  # type: ignore[arg-type]
    tuple(Column(name, place) for place, name in enumerate(IDS)),
    numbers=True,
)
NAMES = Names(
    file="train.txt",
    plain=("train.txt", "train.txt.gz"),
    archives=("criteo*.tar.gz", "kaggle-display*.tar.gz", "dac*.tar.gz", "criteo*.zip", "dac*.zip", "criteo*.tar.xz"),
    days="day_*",
    folders=("criteo", "dac", "criteo-kaggle", "criteo_kaggle"),
)
RELEASE = Release(
    word="criteo",
    title="criteo-research-kaggle-display-advertising-challenge-dataset",
    url="http://go.criteo.net/criteo-research-kaggle-display-advertising-challenge-dataset.tar.gz",
    sha256=None,
    otherwise="use generated lines in this format: dataset=criteo_synthetic",
)


def read(dataset: Mapping[str, Any], places: Places) -> ImpressionRecording:
    """The reader of ``dataset=criteo``: the user's files where there are any, else the published archive.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: what is named is not there or is ambiguous.
    """
    _build(dataset, places, [])  # a mistake in the recipe is told before anything is looked for
    found = given(dataset, NAMES)
    if found is None and places.data is not None:
        found = lying_in(places.data, NAMES)
    if found is not None:
        return _recording(dataset, places, found, sha256_json([each.identity() for each in found]))
    content = sha256_json({"url": RELEASE.url, "lines": LINES})
    recording = _recording(dataset, places, [], content)

    def write(folder: Path, workspace: Path) -> WrittenImpressions:
        if places.data is None:
            local = "your own copy: none was named (dataset.path, paths.data or RECEXP_DATA)"
        else:
            local = f"your own copy: {places.data} holds none of {NAMES}"
        archive, origin = fetch(RELEASE, places, local)
        name, size = find_file(archive, NAMES.file) or (NAMES.file, 0)
        written = _build(dataset, places, [TextSource(archive, name, size)]).write(folder, workspace)
        if written.rows_read != LINES:
            raise DataError(
                f"{archive}: {written.rows_read:,} lines; the published one has {LINES:,}. Delete the archive, so that "
                "it is fetched again, or name it, or your own copy, with dataset.path=FILE."
            )
        return dataclasses.replace(written, origin=origin)

    return dataclasses.replace(recording, write=write)


def recording(
    dataset: Mapping[str, Any],
    places: Places,
    *,
    sources: Sequence[Path],
    content: str | None = None,
    synthetic: bool = False,
) -> ImpressionRecording:
    """What the options of ``dataset`` make of files in the format of ``train.txt``.

    Args:
        dataset: The composed node: ``recipe`` and what overrides it, ``malformed`` and ``malformed_limit``.
        places: Only the progress is used.
        sources: Plain files or gzip, in the order of time; several are days.
        content: Stands for their content; then they need not be there before ``write`` is called. None: their sizes,
            times of change and samples of them do.
        synthetic: Generated, not recorded.

    Raises:
        ConfigError: options of the recipe that contradict each other.
        DataError: a source cannot be read.
    """
    found = [TextSource(path) for path in sources]
    known = content or sha256_json([each.identity() for each in found])
    return _recording(dataset, places, found, known, synthetic=synthetic)


def _recording(
    dataset: Mapping[str, Any], places: Places, found: Sequence[TextSource], content: str, *, synthetic: bool = False
) -> ImpressionRecording:
    build = _build(dataset, places, found)
    options = {"build": BUILD, **dataclasses.asdict(build.recipe)}
    return ImpressionRecording(content, options, build.write, synthetic)


def _build(dataset: Mapping[str, Any], places: Places, found: Sequence[TextSource]) -> Build:
    word = str(dataset.get("recipe", "dlrm_kaggle"))
    if word not in PRESETS:
        hint = did_you_mean(closest(word, [*PRESETS]))
        raise ConfigError([f"dataset.recipe={word}: there is no such recipe; legal are {', '.join(PRESETS)}.{hint}"])
    if dataset.get("days") is not None and len(found) > 1:
        raise ConfigError([
            f"dataset.days={dataset['days']} has no effect: each of the {len(found)} files is a day. Leave it out."
        ])  # fmt: skip
    return Build(found, FORMAT, recipe_of(dataset, PRESETS[word]), Policy.of(dataset), places.progress)
