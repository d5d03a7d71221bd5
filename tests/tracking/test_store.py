"""Which store is meant, which is refused, and its creation by many at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recexp.config.settings import TrackingSettings
from recexp.errors import ConfigError, RecexpError
from recexp.tracking import run_directory, store


def test_the_order_of_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store.resolve_uri(TrackingSettings(), tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert store.resolve_uri(TrackingSettings(), tmp_path) == "http://server:5000"
    monkeypatch.chdir(tmp_path)
    given = store.resolve("sqlite:///mine.db", tmp_path)
    assert given.uri == f"sqlite:///{tmp_path}/mine.db"
    assert given.artifact_location == f"file://{tmp_path}/mlartifacts"


@pytest.mark.parametrize(
    "uri", ["file:///tmp/mlruns", "mlruns", "/tmp/mlruns", "./x", "ftp://h/x", "http://", "sqlite://", "sqlite:////tmp"]
)
def test_what_cannot_work_is_refused_before_anything_starts(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        store.check_uri(uri)


@pytest.mark.parametrize("uri", ["https://u:secret@h:1/x", "postgresql+psycopg2://u:secret@h/db", "mysql://h/db"])
def test_servers_and_databases_are_taken(uri: str) -> None:
    store.check_uri(uri)
    assert "secret" not in store.Store(uri).shown


def test_a_refusal_shows_no_password() -> None:
    with pytest.raises(ConfigError) as refusal:
        store.check_uri("ftp://u:secret@h/x")
    assert "secret" not in str(refusal.value)


def test_a_run_stays_in_its_store_and_credentials_stay_out_of_its_directory(tmp_path: Path) -> None:
    path = run_directory.create(tmp_path, "a")
    assert store.recorded(path) is None
    mine = store.resolve("http://u:secret@one", tmp_path)
    assert store.of_run(path, mine) == mine
    assert all(b"secret" not in file.read_bytes() for file in path.iterdir())
    assert store.of_run(path, mine) == mine, "the credentials are those of now"
    assert store.of_run(path, store.resolve("http://two", tmp_path)).uri == "http://one"


def test_the_default_store_moves_with_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    old = tmp_path / "old"
    path = run_directory.create(old, "a")
    store.of_run(path, store.resolve(None, old))
    new = old.rename(tmp_path / "new")
    moved = store.recorded(new / "runs" / "a" / "001")
    assert moved is not None
    assert moved.uri == f"sqlite:///{new}/mlflow.db"


def test_another_database_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"SQLite is something else" * 100)
    with pytest.raises(RecexpError, match="no MLflow store"):
        store.initialise(store.resolve(f"sqlite:///{tmp_path}/mlflow.db", tmp_path))
    assert (tmp_path / "mlflow.db").read_bytes() == b"SQLite is something else" * 100


@pytest.mark.slow
def test_eight_processes_record_into_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from recexp.config.settings import TrackingSettings
from recexp.tracking import run_directory
from recexp.tracking.tracker import Tracker
root = Path(sys.argv[1])
path = run_directory.create(root, "a")
with run_directory.claim(path):
    tracker = Tracker.open(path, TrackingSettings(drain_timeout=60.0), root)
    tracker.params({"seed": 1})
    for step in range(50):
        tracker.metrics({"train/loss": step * 0.1}, step)
    outcome = tracker.finish("FINISHED")
sys.exit(0 if outcome.complete and not outcome.rejected else outcome.describe())
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    said = [process.communicate(timeout=240)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 8, said
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [e for e in client.search_experiments() if e.name == "recexp"]
    runs = client.search_runs([experiments[0].experiment_id])
    assert len(experiments) == 1
    assert [run.info.status for run in runs] == ["FINISHED"] * 8
    assert all(len(client.get_metric_history(run.info.run_id, "train/loss")) == 50 for run in runs)
