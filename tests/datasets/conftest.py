"""Small sources of data and a way to prepare them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recexp.datasets.events import Events
from recexp.datasets.prepare import prepare

ROWS = b"user,item,rating,time\nb,y,3.5,10\na,z,4,5\nb,z,1,10\na,x,2,7\n"


@pytest.fixture
def rows_csv(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_bytes(ROWS)
    return path


@pytest.fixture
def interactions(tmp_path: Path) -> Callable[..., Events]:
    """``interactions(path, **options)`` prepares a user's file with a cache in the test's own folder."""

    def run(path: Path, **options) -> Events:
        columns = {"user": "user", "item": "item", "rating": "rating", "time": "time", **options.pop("columns", {})}
        node = {
            "_target_": "recexp.datasets.interactions.read", "name": "interactions", "path": str(path),
            "columns": columns, **options,
        }  # fmt: skip
        return prepare(node, data=None, cache=tmp_path / "cache")

    return run


@pytest.fixture
def binding_permissions(tmp_path: Path) -> None:
    """Skips where permissions do not bind, as for the superuser."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        (folder / "probe").touch()
    except PermissionError:
        return
    pytest.skip("permissions do not bind this user")
