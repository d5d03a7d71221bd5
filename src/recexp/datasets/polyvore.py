"""Polyvore's outfits, from the files that NGNN's authors filtered or from those that were first published."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recexp.datasets.fetch import Release, fetch
from recexp.datasets.malformed import Policy
from recexp.datasets.outfit_files import ngnn, questions, xthan
from recexp.datasets.outfit_files.build import BUILD, Build, Opened
from recexp.datasets.outfit_files.place import Found, Place, place_at
from recexp.datasets.outfit_files.vector_files import VectorFiles
from recexp.datasets.outfit_files.vector_places import find_vectors
from recexp.datasets.places import Places
from recexp.datasets.table import OutfitRecording
from recexp.errors import ConfigError, DataError
from recexp.storage.checksum import sha256_json

RELEASE = Release(
    word="polyvore",
    title="polyvore",
    url="https://github.com/xthan/polyvore-dataset/raw/master/polyvore.tar.gz",
    sha256=None,
    otherwise="use generated outfits: dataset=polyvore_synthetic",
)
GIT_BLOB = "8b0082c981226a75e21ecf928712511ed9eb79d0"
"""The published archive as git names it; there is no other checksum."""

USUAL = (
    "NGNN/data", "polyvore-ngnn", "polyvore.tar.xz", "polyvore.tar.gz", "polyvore.tar", "polyvore.zip", "polyvore",
    "polyvore-xthan", "polyvore-dataset", "NGNN", "NGNN.zip", "NGNN-master.zip",
)  # fmt: skip
NGNN_ADDRESS = "https://github.com/CRIPAC-DIG/NGNN"
VECTORS_ADDRESS = "https://drive.google.com/open?id=1ibYEw0H9L9O9OLbxCiAlcZkt_IYuwKfd"
_READERS = {"ngnn": ngnn.files, "xthan": xthan.files}
_log = logging.getLogger(__name__)


def read(dataset: Mapping[str, Any], places: Places) -> OutfitRecording:
    """The reader of ``dataset=polyvore``: the user's files where there are any, else what was first published.

    Raises:
        ConfigError: settings that contradict each other or the files that are there.
        DataError: what is named or needed is not there.
    """
    return _Reading(dataset, places).recording()


@dataclass(frozen=True)
class _Source:
    """Where outfits are: ``word`` says in which files."""

    word: str
    place: Place
    found: dict[str, Found]


class _Reading:
    """What the options make of what lies in the places."""

    def __init__(self, dataset: Mapping[str, Any], places: Places) -> None:
        self._dataset, self._places, self._policy = dataset, places, Policy.of(dataset)
        self._features = str(dataset.get("features", "all"))
        self._min_count = int(dataset.get("min_category_count", ngnn.MIN_CATEGORY_COUNT))

    def recording(self) -> OutfitRecording:
        wanted = str(self._dataset.get("source", "auto"))
        source = self._source(wanted)
        if source is None and wanted == "ngnn":
            raise DataError(f"dataset.source=ngnn: {self._nowhere()} {_ways()}")
        word = "xthan" if source is None else source.word
        by_name = (self._dataset.get("text") or ("names" if word == "xthan" else "files")) == "names"
        self._check(word, by_name=by_name)
        by_name = by_name and self._needs("text")
        image = self._vectors("image", source) if self._needs("image") else None
        text = self._vectors("text", source) if self._needs("text") and not by_name else None
        names = self._names(source) if by_name else {}
        build = Build(
            lambda: self._opened(source, names), image, text, by_name, str(self._dataset.get("missing", "error")),
            self._dataset.get("text_words", "all") == "last", int(self._dataset.get("min_items", 3)),
            self._places.progress,
        )  # fmt: skip
        return OutfitRecording(self._content(source, names, image, text), self._options(build, word), build.write)

    def _check(self, word: str, *, by_name: bool) -> None:
        """Options that have no effect on the files that were found, which the settings alone do not tell."""
        problems = []
        if word == "ngnn" and self._min_count != ngnn.MIN_CATEGORY_COUNT:
            problems.append(
                f"dataset.min_category_count={self._min_count}: NGNN's files, which were found, are filtered with "
                f"{ngnn.MIN_CATEGORY_COUNT} already. Leave it out, or filter the raw outfits: dataset.source=xthan."
            )
        if self._dataset.get("text_words") == "last" and not by_name:
            problems.append(
                "dataset.text_words=last is about the items' names, and NGNN's files, which were found, come with "
                "vectors of words. Leave it out, or use the names: dataset.text=names."
            )
        if self._dataset.get("text_path") is not None and by_name:
            problems.append(
                f"dataset.text_path={self._dataset['text_path']} has no effect: the raw outfits, which were found, "
                "come with the items' names. Leave it out, or use the vectors: dataset.text=files."
            )
        if problems:
            raise ConfigError(problems)

    def _needs(self, kind: str) -> bool:
        return self._features in {"all", kind}

    def _options(self, build: Build, word: str) -> dict[str, Any]:
        return {
            "build": BUILD, "source": word, "min_items": build.min_items, "features": self._features,
            "missing": build.missing, "by_name": build.by_name, "last_word": build.last_word,
            "min_category_count": self._min_count,
        }  # fmt: skip

    def _content(
        self, source: _Source | None, names: Mapping[str, Found], image: VectorFiles | None, text: VectorFiles | None
    ) -> str:
        found = {} if source is None else dict(source.found)
        named = {name: file.sha256(self._places.cache) for name, file in {**found, **names, **self._questions}.items()}
        return sha256_json({
            "files": named, "blob": GIT_BLOB if source is None else None,
            "vectors": [None if files is None else files.identity() for files in (image, text)],
        })  # fmt: skip

    @cached_property
    def _places_found(self) -> list[Place]:
        """Where to look, in order: what the user names, or the usual names in the folder of datasets."""
        given = self._dataset.get("path")
        if given is not None:
            return [place_at(Path(str(given)).expanduser(), "dataset.path")]
        data = self._places.data
        if data is None or not data.is_dir():
            if data is not None:
                _log.warning("the folder of datasets %s (paths.data or RECEXP_DATA) does not exist", data)
            return []
        return [place_at(data / name, "paths.data") for name in USUAL if (data / name).exists()]

    def _source(self, wanted: str) -> _Source | None:
        words = [*_READERS] if wanted == "auto" else [wanted]
        found = next(self._sources(words), None)
        if found is None and self._dataset.get("path") is not None:
            place = self._places_found[0]
            names = " or ".join({"ngnn": ngnn.TRAIN, "xthan": xthan.PARTS[0]}[word] for word in words)
            raise DataError(f"dataset.path={place}: it holds no {names}, but {place.shown()}. {_ways()}")
        return found

    def _sources(self, words: list[str]) -> Iterator[_Source]:
        for word in words:
            for place in self._places_found:
                files = _READERS[word](place)
                if files is not None:
                    yield _Source(word, place, files)

    def _names(self, source: _Source | None) -> dict[str, Found]:
        """Files with the items' names, for outfits whose own files have none."""
        if source is None or source.word == "xthan":
            return {}
        beside = next(self._sources(["xthan"]), None)
        if beside is None:
            raise DataError(
                f"dataset.text=names: {source.place} and the folders beside it hold no {xthan.PARTS[0]} with the "
                f"items' names. Unpack {RELEASE.url} there, or use dataset.text=files or dataset.features=category."
            )
        return beside.found

    @cached_property
    def _questions(self) -> dict[str, Found]:
        given = self._dataset.get("questions")
        if given is None:
            return next((found for found in map(questions.files, self._places_found) if found), {})
        place = place_at(Path(str(given)).expanduser(), "dataset.questions")
        found = questions.files(place)
        if not found:
            wanted = f"{questions.BLANK[0]} or {questions.LABELLED[0]}"
            raise DataError(f"dataset.questions={place}: it holds no {wanted}, but {place.shown()}.")
        return found

    def _vectors(self, kind: str, source: _Source | None) -> VectorFiles:
        option = f"{kind}_path"
        given = self._dataset.get(option)
        if given is not None:
            return VectorFiles(place_at(Path(str(given)).expanduser(), f"dataset.{option}").path)
        beside = next(iter(source.found.values())) if source is not None else None
        found = find_vectors(kind, beside, self._places.data)
        if found is None:
            where = RELEASE.url if source is None else source.place
            raise DataError(
                f"dataset.features={self._features}: {kind} vectors of the items are missing; beside the outfits of "
                f"{where} lie none. NGNN's authors offer them at {VECTORS_ADDRESS}, to be fetched by hand: name their "
                f"folder or archive with dataset.{option}=PATH. To train on the outfits without vectors, from "
                f"the categories of items alone: dataset.features=category."
            )
        return found

    def _opened(self, source: _Source | None, names: Mapping[str, Found]) -> Opened:
        verified, origin, asked = None, "", self._questions
        if source is None:
            source, origin, verified = *self._fetched(), True
            asked = asked or questions.files(source.place)
        found = source.found
        return Opened(
            (lambda: ngnn.read(found, self._policy))
            if source.word == "ngnn"
            else (lambda: xthan.read(found, self._policy, min_category_count=self._min_count)),
            origin or str(source.place),
            asked,
            (lambda: xthan.names_of(names, self._policy)) if names else None,
            verified,
        )

    def _fetched(self) -> tuple[_Source, str]:
        archive, origin = fetch(RELEASE, self._places, f"your own copy: {self._nowhere()}")
        if git_blob(archive) != GIT_BLOB:
            archive.unlink()
            raise DataError(
                f"{RELEASE.url}: what came is not the published archive (git blob {GIT_BLOB}); it was deleted. Start "
                f"again, or name your own copy with dataset.path=PATH."
            )
        found = xthan.files(Place(archive))
        if found is None:
            raise DataError(f"{archive} holds no {xthan.PARTS[0]}, but {Place(archive).shown()}.")
        return _Source("xthan", Place(archive), found), origin

    def _nowhere(self) -> str:
        if self._places.data is None:
            return "no folder was named (dataset.path, paths.data or RECEXP_DATA)."
        return f"{self._places.data} holds none of {', '.join(USUAL)} with such outfits."


def git_blob(path: Path) -> str:
    """The name that git gives a file's content: the sha1 of ``blob SIZE``, a zero byte and the content."""
    found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _ways() -> str:
    return (
        f"NGNN's filtered outfits lie in the folder data of {NGNN_ADDRESS}, the raw ones in {RELEASE.url}: name a "
        f"folder or an archive with dataset.path=PATH, put it into a folder that paths.data or RECEXP_DATA names, or "
        f"use {RELEASE.otherwise.removeprefix('use ')}."
    )
