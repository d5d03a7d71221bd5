"""One ready-made empty MLflow store, copied for each test, and a run that a test may record."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recexp.tracking import run_directory, store
from recexp.tracking.run_directory import Claim
from recexp.tracking.tracker import Tracker


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    store.initialise(store.Store(f"sqlite:///{folder / 'mlflow.db'}", artifact_location=folder.as_uri()))
    return folder / "mlflow.db"


@pytest.fixture
def root(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def run_dir(root: Path) -> Path:
    return run_directory.create(root, "attrec-tiny", identity="i" * 64)


@pytest.fixture
def journalled(run_dir: Path) -> Iterator[Callable[[], Tracker]]:
    """Opens trackers that write the journal only; delivery is up to the test."""
    claims: list[Claim] = []

    def open_one() -> Tracker:
        for claim in claims:
            claim.release()
        claims[:] = [run_directory.claim(run_dir)]
        return Tracker(run_dir, target=None)

    yield open_one
    for claim in claims:
        claim.release()


@pytest.fixture
def rows(root: Path) -> Callable[..., list[tuple[Any, ...]]]:
    """SQL on the store's file: what is there, seen without MLflow."""

    def ask(query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(root / "mlflow.db")) as connection:
            return connection.execute(query, values).fetchall()

    return ask
