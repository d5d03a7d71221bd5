"""A folder for what these tests install and build once: published whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[3]


class Missing(Exception):
    """Something that this machine does not have; the tests that need it are skipped with this reason."""


def folder() -> Path:
    """$RECEXP_TEST_CACHE, or .ascend in the repository."""
    found = Path(os.environ.get("RECEXP_TEST_CACHE") or ROOT / ".ascend").resolve()
    found.mkdir(parents=True, exist_ok=True)
    return found


def published(name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``name`` of the cache, filled by ``make`` unless it is there.

    It gets its name after ``make`` is through: a process that is killed leaves nothing that looks finished.
    """
    target = folder() / name
    if target.is_dir():
        return target
    with FileLock(folder() / f"{name}.lock"):
        if not target.is_dir():
            partial = folder() / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(target)
    return target


def digest(*parts: str | Path) -> str:
    """A short hash of texts and of the contents of files."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        found.update(b"\0")
    return found.hexdigest()[:12]
