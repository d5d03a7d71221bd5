"""Datasets of sessions: found, given to the recipe, and written as arrays; what the words of the family share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recexp.datasets.click_files import ARCHIVES, Found, Lookup, given, in_archive
from recexp.datasets.events import TEST, TRAIN
from recexp.datasets.fetch import Release, fetch
from recexp.datasets.malformed import Policy
from recexp.datasets.places import Places
from recexp.datasets.remember import remembered_sha256
from recexp.datasets.session_recipe import Recipe
from recexp.datasets.table import LargeRecording, Written
from recexp.errors import ConfigError, DataError
from recexp.storage.archive import describe_content
from recexp.storage.atomic import remove
from recexp.storage.checksum import sha256_file, sha256_json

BUILD = 1
"""Goes up whenever the same files and options would give other arrays."""

CLICKS = "yoochoose-clicks.dat"
CLICKS_LINES = 33_003_944
CLICKS_BYTES = 1_486_798_186
RAW_NAMES = tuple(
    f"{folder}{name}"
    for folder in ("", "yoochoose/", "yoochoose-data/")
    for name in (CLICKS, *(f"yoochoose-data{ending}" for ending in ARCHIVES))
)
COLUMNS = {"session": "SessionId", "item": "ItemId", "time": "Time"}
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class ClickSet:
    """What distinguishes one word from another.

    Attributes:
        word: In the configuration.
        lookup: Names in the user's folder of datasets.
        share: Of the training pairs of raw clicks the last 1/share are kept.
    """

    word: str
    lookup: Lookup
    share: int = 1

    @property
    def release(self) -> Release:
        """Where the raw clicks are published; no checksum is."""
        pairs = " or ".join(f"{train} and {test}" for train, test in self.lookup.pairs[:1])
        return Release(
            word=self.word,
            title="yoochoose-data",
            url="https://s3-eu-west-1.amazonaws.com/yc-rdata/yoochoose-data.7z",
            sha256=None,
            otherwise=f"name prepared files such as {pairs} with dataset.train=FILE dataset.test=FILE, or use "
            f"generated clicks: dataset=rsc15_synthetic",
        )


def read(wanted: ClickSet, dataset: Mapping[str, Any], places: Places) -> LargeRecording:
    """The user's files where there are any, else the published archive.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: what is named is not there or is ambiguous.
    """
    refuse_ratings(dataset)
    found = given(dataset)
    if found is None and places.data is not None:
        found = wanted.lookup.find(places.data)
    if found is None:
        content = sha256_json({"url": wanted.release.url, "lines": CLICKS_LINES, "bytes": CLICKS_BYTES})
    else:
        content = _content(found, places.cache)

    def write(folder: Path) -> Written:
        files, origin = (found, None) if found is not None else _fetched(wanted, places)
        written = build(files, dataset, places, folder, wanted.share)
        if origin is None:
            return written
        if written.rows_read != CLICKS_LINES:
            raise DataError(
                f"{files.members[0]}: {written.rows_read:,} lines; the published file has {CLICKS_LINES:,}. Delete the "
                f"archive, so that it is fetched again, or name your own copy with dataset.path=FILE."
            )
        return dataclasses.replace(written, origin=origin)

    return LargeRecording(content, options(dataset, wanted.share), write)


def refuse_ratings(dataset: Mapping[str, Any]) -> None:
    """Clicks have no rating: a bound on it would be ignored or leave nothing.

    Raises:
        ConfigError: there is one.
    """
    if dataset.get("min_rating") is not None:
        raise ConfigError([
            f"dataset.min_rating={dataset['min_rating']}: clicks have no rating. Leave it out, or set null."
        ])  # fmt: skip


def options(dataset: Mapping[str, Any], share: int) -> dict[str, Any]:
    """What shapes the arrays beside the files."""
    return {"build": BUILD, "columns": _columns(dataset), **dataclasses.asdict(_recipe(dataset, share))}


def _columns(dataset: Mapping[str, Any]) -> dict[str, str]:
    return {**COLUMNS, **{key: str(value) for key, value in dict(dataset.get("columns") or {}).items()}}


def _recipe(dataset: Mapping[str, Any], share: int) -> Recipe:
    least = int(dataset.get("min_session_length", Recipe.min_session_length))
    return Recipe(
        min_item_support=int(dataset.get("min_item_support", Recipe.min_item_support)),
        min_session_length=least,
        min_test_length=least,
        holdout=round(float(dataset.get("test_days", 1.0)) * _DAY_MS),
        share=share,
    )


def _content(found: Found, cache: Path) -> str:
    """Stands for the content of the files: of an archive, its own sum and the names in it."""
    sums = {path: _known_sha256(path, cache) for path in {member.path for member in found.members}}
    return sha256_json([[sums[member.path], member.name] for member in found.members])


def _known_sha256(path: Path, cache: Path) -> str:
    return remembered_sha256(path, "", cache, lambda: _sha256(path))


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _fetched(wanted: ClickSet, places: Places) -> tuple[Found, str]:
    """The published clicks, by the size that is told of them: there is no checksum."""
    if places.data is None:
        local = "your own copy: none was named (dataset.path, dataset.train, paths.data or RECEXP_DATA)"
    else:
        local = f"your own copy: {places.data} holds none of {wanted.lookup}"
    archive, origin = fetch(wanted.release, places, local)
    entries = in_archive(archive, describe_content(archive))
    clicks = [each for each in entries if f"/{each.name}".endswith(f"/{CLICKS}")]
    if len(clicks) != 1 or clicks[0].size != CLICKS_BYTES:
        held = ", ".join(f"{each.name} ({each.size:,} bytes)" for each in entries[:10]) or "nothing"
        remove(archive)
        raise DataError(
            f"{wanted.release.url}: what came holds {held}; expected {CLICKS} with {CLICKS_BYTES:,} bytes. It was "
            f"deleted. The published file may have changed, or something on the way replaced it."
        )
    return Found((clicks[0],)), origin


def build(found: Found, dataset: Mapping[str, Any], places: Places, folder: Path, share: int = 1) -> Written:
    """Read the files and write the arrays into ``folder``.

    Raises:
        DataError: malformed rows that the policy does not allow, damaged files, or nothing is left.
        OSError: the disk refuses.
    """
    from recexp.datasets.click_text import Reading  # Arrow takes time to import, and a second start needs none
    from recexp.datasets.session_build import SessionBuild
    from recexp.datasets.session_spill import spill

    work = folder / "work"
    work.mkdir()
    reading = Reading(_columns(dataset), Policy.of(dataset), work, places.progress)
    recipe = _recipe(dataset, share)
    origin = " + ".join(str(member) for member in found.members)
    if found.is_raw:
        sources = [reading.raw(found.members[0])]
    else:
        sources = [reading.prepared(*pair) for pair in zip(found.members, (TRAIN, TEST), strict=True)]
        recipe = dataclasses.replace(recipe, min_item_support=0, min_session_length=1, share=1)
    spilled = spill(sources, work / "clicks", origin)
    tally = reading.tally
    if tally.sequences not in {0, len(sources)}:
        raise DataError(f"{origin}: one has a header and times, the other sessions line by line. Name two of one kind.")
    if tally.sequences:
        recipe = dataclasses.replace(recipe, holdout=None)
    done = SessionBuild(spilled, recipe, work, places.progress)
    ordered = done.run()
    stated, num_items = ordered.write(folder)
    remove(work)
    left_out = {reason: count for reason, count in sorted(done.left_out.items()) if count}
    return Written(stated, ordered.sessions, num_items, tally.rows, tally.malformed, left_out, origin)
