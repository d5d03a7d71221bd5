"""Where data is looked for and kept: the user's own folder, the cache, and who is told about progress."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from recexp.storage.download import Progress


@dataclass(frozen=True)
class Places:
    """Folders that a dataset may read from and write to.

    ``data`` is the user's folder of copies (only read, None where there is none), ``cache`` is ours. ``progress`` is
    called with (description, done, total or None).
    """

    data: Path | None
    cache: Path
    progress: Progress | None = None


def data_folder(setting: str | None) -> Path | None:
    """The user's folder of datasets: ``paths.data`` if set, else RECEXP_DATA, else None."""
    chosen = setting or os.environ.get("RECEXP_DATA")
    return Path(chosen).expanduser() if chosen else None


def cache_folder(setting: str | None) -> Path:
    """The folder of downloads and prepared arrays: ``paths.cache``, else RECEXP_CACHE, else ~/.cache/recexp."""
    chosen = setting or os.environ.get("RECEXP_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "recexp"
