"""An empty folder, and a command line in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from whole_commands import Recexp


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def recexp(tmp_path: Path, cache: Path) -> Recexp:
    return Recexp(tmp_path, cache)


@pytest.fixture(scope="session")
def recexp_in(cache: Path) -> Callable[[Path], Recexp]:
    return lambda folder: Recexp(folder, cache)
