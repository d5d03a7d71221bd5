"""Delivery into a real sqlite store: all of it, once, also when batches are sent again or refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from recexp.tracking import run_directory, store
from recexp.tracking.delivered import REJECTED_FILE, Delivered
from recexp.tracking.delivery import Delivery, Never, NotNow
from recexp.tracking.outcome import outcome
from recexp.tracking.sender import drain
from recexp.tracking.tracker import Tracker

Open = Callable[[], Tracker]
Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def target(root: Path, run_dir: Path) -> store.Store:
    return store.of_run(run_dir, store.resolve(None, root))


@pytest.fixture
def client(target: store.Store) -> MlflowClient:
    return MlflowClient(target.uri)


def _all(run_dir: Path, target: store.Store) -> Delivery:
    delivery = Delivery(run_dir, target)
    while delivery.step():
        pass
    return delivery


def test_everything_arrives_as_it_was_recorded(
    journalled: Open, run_dir: Path, target: store.Store, client: MlflowClient, tmp_path: Path
) -> None:
    (run_dir / "config.yaml").write_text("a: 1\n")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "leaf.txt").write_text("leaf")
    tracker = journalled()
    tracker.params({"optim.lr": 0.001, "name": "Łódź"})
    tracker.tags({"git.sha": "abc", "t": "old"})
    tracker.tags({"t": "new"})
    values = [0.1 + 0.2, -1e-300, math.nan, math.inf, 3.0]
    for step, value in enumerate(values):
        tracker.metrics({"train/loss": value, "val/x": float(step)}, step)
    tracker.artifact(run_dir / "config.yaml")
    tracker.artifact(tmp_path / "tree", "folder")
    tracker.dataset("ml1m", "f" * 64, "https://u:secret@h/ml-1m.zip", "train,eval")
    tracker.finish("FINISHED")
    _all(run_dir, target)

    run_id = Delivered.load(run_dir).run_id
    run = client.get_run(run_id)
    assert run.data.params == {"optim.lr": "0.001", "name": "Łódź"}
    assert run.data.tags["t"] == "new"
    assert run.data.tags["recexp.run"] == run_directory.state(run_dir).uuid
    history = [m.value for m in sorted(client.get_metric_history(run_id, "train/loss"), key=lambda m: m.step)]
    assert [history[i] for i in (0, 1, 4)] == [values[i] for i in (0, 1, 4)]
    assert math.isnan(history[2])
    assert history[3] >= 1.7976931348623157e308
    assert {f.path for f in client.list_artifacts(run_id)} == {"config.yaml", "folder"}
    assert [f.path for f in client.list_artifacts(run_id, "folder")] == ["folder/leaf.txt"]
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest, given.tags[0].value) == ("ml1m", "f" * 36, "train,eval")
    assert "secret" not in given.dataset.source
    assert "f" * 64 in given.dataset.source
    assert (run.info.status, run.info.end_time >= run.info.start_time) == ("FINISHED", True)
    assert run_directory.resolve(run_dir.parents[2], run_id) == run_dir


def test_sending_again_changes_nothing(
    journalled: Open, run_dir: Path, target: store.Store, rows: Rows, root: Path
) -> None:
    tracker = journalled()
    tracker.params({"a": 1})
    for step in range(2500):
        tracker.metrics({"train/loss": step * 0.1, "train/nan": math.nan}, step)
    tracker.dataset("d", "0" * 64, "here", "train")
    tracker.finish("FINISHED")
    _all(run_dir, target)
    (run_dir / run_directory.DELIVERED_FILE).unlink()
    _all(run_dir, target)
    assert rows("SELECT count(*) FROM runs") == [(1,)]
    assert rows("SELECT key, count(*) FROM metrics GROUP BY key") == [("train/loss", 2500), ("train/nan", 2500)]
    assert rows("SELECT count(*) FROM inputs") == [(1,)]
    assert outcome(run_dir).complete


def test_a_journal_is_sent_in_few_calls(
    journalled: Open, run_dir: Path, target: store.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = journalled()
    for step in range(2000):
        tracker.metrics({"train/loss": 1.0}, step)
    tracker.finish("FINISHED")
    sizes = []
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *_, metrics, params, tags: sizes.append(len(metrics)))
    _all(run_dir, target)
    assert sizes == [800, 800, 400]


def test_a_resumed_run_runs_again_and_then_ends(
    journalled: Open, run_dir: Path, target: store.Store, client: MlflowClient, rows: Rows
) -> None:
    first = journalled()
    first.metrics({"train/loss": 1.0}, 1)
    first.finish("KILLED")
    delivery = _all(run_dir, target)
    run_id = Delivered.load(run_dir).run_id
    assert client.get_run(run_id).info.status == "KILLED"
    second = journalled()
    second.metrics({"train/loss": 1.0}, 1)
    second.metrics({"train/loss": 0.5}, 2)
    second.flush()
    while delivery.step():
        pass
    assert client.get_run(run_id).info.status == "RUNNING"
    second.finish("FINISHED")
    _all(run_dir, target)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert rows("SELECT run_uuid, step FROM metrics ORDER BY step") == [(run_id, 1), (run_id, 2)]


def test_a_creation_whose_answer_was_lost_is_found(
    journalled: Open, run_dir: Path, target: store.Store, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    journalled().finish("FINISHED")
    create = MlflowClient.create_run

    def lose_the_answer(self: MlflowClient, *args: Any, **options: Any) -> None:
        create(self, *args, **options)
        raise MlflowException("read timed out")

    monkeypatch.setattr(MlflowClient, "create_run", lose_the_answer)
    with pytest.raises(NotNow):
        _all(run_dir, target)
    monkeypatch.undo()
    _all(run_dir, target)
    assert rows("SELECT status FROM runs") == [("FINISHED",)]


def test_a_creation_that_takes_effect_late_leaves_no_twin(
    journalled: Open, run_dir: Path, target: store.Store, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = journalled()
    tracker.metrics({"train/loss": 1.0}, 1)
    late: list[Callable[[], Any]] = []
    create = MlflowClient.create_run

    def hang(self: MlflowClient, *args: Any, **options: Any) -> None:
        late.append(lambda: create(self, *args, **options))
        raise MlflowException("read timed out")

    tracker.flush()
    monkeypatch.setattr(MlflowClient, "create_run", hang)
    with pytest.raises(NotNow):
        _all(run_dir, target)
    monkeypatch.undo()
    delivery = _all(run_dir, target)
    late[0]()
    tracker.finish("FINISHED")
    while delivery.step():
        pass
    active = rows("SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'")
    assert active == [(Delivered.load(run_dir).run_id,)]


def test_what_is_refused_for_good_is_kept_aside_and_the_rest_arrives(
    journalled: Open, run_dir: Path, target: store.Store, rows: Rows
) -> None:
    tracker = journalled()
    tracker.params({"good": 1, "b(a)d": 2})
    tracker.artifact(run_dir / "gone.txt")
    tracker.metrics({"train/loss": 1.0}, 1)
    tracker.flush()
    with (run_dir / "journal.jsonl").open("ab") as file:
        file.write(b"damaged\n")
    tracker.metrics({"train/loss": 0.5}, 2)
    tracker.finish("FINISHED")
    _all(run_dir, target)
    refused = [json.loads(line)["entry"] for line in (run_dir / REJECTED_FILE).read_text().splitlines()]
    assert [entry.get("key") or entry["e"] for entry in refused] == ["b(a)d", "artifact", "damaged"]
    assert rows("SELECT key FROM params") == [("good",)]
    assert rows("SELECT step FROM metrics ORDER BY step") == [(1,), (2,)]
    result = outcome(run_dir)
    assert result.rejected == 3
    assert REJECTED_FILE in " ".join(result.notes)


@pytest.mark.parametrize("trouble", [MlflowException("locked", 1), ConnectionError("refused"), ValueError("odd")])
def test_trouble_loses_nothing(
    journalled: Open,
    run_dir: Path,
    target: store.Store,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception,
) -> None:
    tracker = journalled()
    tracker.metrics({"train/loss": 1.0}, 1)
    tracker.finish("FINISHED")

    def fail(*_: Any, **__: Any) -> None:
        raise trouble

    monkeypatch.setattr(MlflowClient, "log_batch", fail)
    with pytest.raises(NotNow):
        _all(run_dir, target)
    assert not (run_dir / REJECTED_FILE).exists()
    assert outcome(run_dir).undelivered == 1
    monkeypatch.undo()
    _all(run_dir, target)
    assert rows("SELECT count(*) FROM metrics") == [(1,)]


def test_a_run_that_was_deleted_in_mlflow_stops_the_delivery(
    journalled: Open, run_dir: Path, target: store.Store, client: MlflowClient
) -> None:
    tracker = journalled()
    tracker.flush()
    delivery = _all(run_dir, target)
    client.delete_run(Delivered.load(run_dir).run_id)
    tracker.metrics({"train/loss": 1.0}, 1)
    tracker.flush()
    with pytest.raises(Never, match="was deleted"):
        delivery.step()
    assert not (run_dir / REJECTED_FILE).exists()


def test_draining_a_dead_run_ends_it(run_dir: Path, target: store.Store, client: MlflowClient) -> None:
    with run_directory.claim(run_dir):
        tracker = Tracker(run_dir, target=None)
        tracker.metrics({"train/loss": 1.0}, 1)
        tracker.flush()
        tracker._closing.set()
        drain(run_dir, target)
        assert client.get_run(Delivered.load(run_dir).run_id).info.status == "RUNNING", "it is alive"
    assert drain(run_dir, target) is None
    assert client.get_run(Delivered.load(run_dir).run_id).info.status == "KILLED"
    assert run_directory.state(run_dir).status == "KILLED"
    assert outcome(run_dir).complete
