"""Clicks as a user types them: every model on every kind of data, every task, the options that choose what is best."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import losses, measured, rows, same, validated, weights
from in_process import Done, InProcess

LOG = ["dataset=criteo_synthetic", "dataset.impressions=3000", "dataset.max_cardinality=40", "dataset.days=3"]
FEW = [
    "trainer.max_steps=6", "trainer.log_every_n_steps=2", "trainer.updates_per_block=4", "dataset.batch_size=64",
    "dataset.eval_batch_size=512",
]  # fmt: skip
SMALL_OF = {
    "dlrm": ["model.arch_sparse_feature_size=4", "model.arch_mlp_bot=[8,4]", "model.arch_mlp_top=[8,1]"],
    "deepfm": ["model.dim=4", "model.hidden=[8,6]"],
    "fm": ["model.dim=4"],
    "lr": [],
}
RATED = ["dataset=ml1m_synthetic", "dataset.users=60", "dataset.items=90", "dataset.events_per_user=20"]
METRICS = {f"test/{name}" for name in ("auc", "logloss", "accuracy", "ap", "calibration", "ece")}
EPOCHS = ["trainer.max_steps=null", "trainer.limit_train_batches=5"]
PLAIN = ["model=dlrm", *SMALL_OF["dlrm"], *LOG, *FEW]


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], InProcess]:
    cache = tmp_path_factory.mktemp("cache")
    return lambda folder: InProcess(folder, cache)


@pytest.fixture
def recexp(in_folder: Callable[[Path], InProcess], tmp_path: Path) -> InProcess:
    return in_folder(tmp_path)


@pytest.fixture(scope="module")
def trained(in_folder: Callable[[Path], InProcess], tmp_path_factory: pytest.TempPathFactory) -> tuple[InProcess, Done]:
    recexp = in_folder(tmp_path_factory.mktemp("trained"))
    return recexp, recexp.run(*PLAIN)


def rated_file(path: Path) -> list[str]:
    """Words that name a file of 60 users with 12 ratings each, from 1 to 5."""
    lines = [f"u{u},i{(u * 5 + n * n) % 60},{1 + (u + n) % 5},{1000 + n}" for u in range(60) for n in range(12)]
    path.write_text("user,item,rating,time\n" + "\n".join(lines) + "\n")
    return ["dataset=interactions", f"dataset.path={path}"]


# ---- what goes together


@pytest.mark.parametrize(("model", "dataset"), itertools.product(SMALL_OF, ("log", "rated", "own file")))
def test_every_model_trains_on_every_kind_of_data(recexp: InProcess, model: str, dataset: str) -> None:
    data = {"log": LOG, "rated": RATED}.get(dataset) or rated_file(recexp.folder / "rows.csv")
    done = recexp.run(f"model={model}", *SMALL_OF[model], *data, *FEW)
    (run,) = recexp.runs()
    table = rows(run)
    assert set(table) == METRICS == set(done.tests)
    assert all(math.isfinite(value) for value in measured(run).values())
    assert table["test/auc"]["floor"] == 0.5
    assert all(row["floor"] is not None for row in table.values())
    assert 0 < table["test/logloss"]["floor"] < 0.75  # that of a coin is 0.693
    assert [step for step, _ in losses(run)] == [2, 4, 6]
    assert "floor" in done.out
    assert ("SYNTHETIC" in done.out) == (dataset != "own file")


@pytest.mark.slow
@pytest.mark.parametrize("model", SMALL_OF)
def test_what_is_learnt_is_worth_more_than_the_base_rate(recexp: InProcess, model: str) -> None:
    learn = {"dlrm": ["optim.lr=0.3"], "deepfm": ["optim.lr=0.005"]}.get(model, [])
    words = ["dataset=criteo_synthetic", "dataset.impressions=60000", "dataset.batch_size=256", *SMALL_OF[model]]
    recexp.run(f"model={model}", *words, *learn, "trainer.max_epochs=3")
    table = rows(recexp.runs()[0])
    assert table["test/auc"]["value"] > 0.6
    assert table["test/logloss"]["value"] < table["test/logloss"]["floor"]


# ---- other tasks


def test_prepared_first_the_training_finds_it(in_folder: Callable[[Path], InProcess], tmp_path: Path) -> None:
    recexp = InProcess(tmp_path / "runs", tmp_path / "cache")
    done = recexp.run("task=prepare", *PLAIN)
    assert "3,000" in done.out
    prepared = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.suffix == ".npy"}
    assert prepared
    assert "built" not in recexp.run(*PLAIN).err
    assert {path: path.stat().st_mtime_ns for path in prepared} == prepared
    assert len(recexp.runs()) == 1


def test_evaluated_again_the_numbers_are_the_same(trained: tuple[InProcess, Done]) -> None:
    recexp, first = trained
    (run,) = recexp.runs()
    for more in ([], ["dataset.eval_batch_size=1"], ["dataset.eval_batch_size=100000"]):
        assert recexp.run("task=evaluate", f"ckpt={run}", *more).tests == first.tests
    assert recexp.run(*PLAIN, "task=evaluate").tests == first.tests
    assert recexp.runs() == [run]


def test_a_finished_run_is_shown_again(trained: tuple[InProcess, Done]) -> None:
    recexp, first = trained
    again = recexp.run(*PLAIN, "resume=true")
    assert "finished" in again.err
    assert again.tests == first.tests
    assert len(recexp.runs()) == 1


def test_a_training_is_made_longer(recexp: InProcess) -> None:
    recexp.run(*PLAIN, *EPOCHS, "trainer.max_epochs=2")
    (run,) = recexp.runs()
    recexp.run(*PLAIN, *EPOCHS, "trainer.max_epochs=3", f"resume={run}")
    assert [step for step, _ in losses(run)] == [2, 4, 6, 8, 10, 12, 14]
    recexp.run(*PLAIN, *EPOCHS, "trainer.max_epochs=3")
    assert same(weights(recexp.runs()[1]), weights(run))


def test_a_training_that_a_limit_ended_within_an_epoch_is_not_made_longer(recexp: InProcess) -> None:
    """It would train nothing, or skip the rest of the epoch."""
    recexp.run(*PLAIN, "trainer.max_steps=3")
    run = next((recexp.folder / "runs").glob("*/001"))
    done = recexp.run(*PLAIN, "trainer.max_steps=6", f"resume={run}", code=2)
    assert "trainer.max_steps=3, within an epoch of" in done.err
    assert "resume=false" in done.err


def test_what_is_no_part_of_a_result_changes_no_weight(trained: tuple[InProcess, Done], recexp: InProcess) -> None:
    (usual,) = trained[0].runs()
    words = ["log_level=debug", "trainer.updates_per_block=1", "trainer.checkpoint_every_n_steps=2"]
    recexp.run(*PLAIN, *words, "dataset.eval_batch_size=7", "device.threads=2")
    (run,) = recexp.runs()
    assert run.parent.name == usual.parent.name
    assert same(weights(run), weights(usual))
    assert losses(run) == losses(usual)
    # Products of 7 rows and of 512 are rounded differently.
    assert measured(run) == pytest.approx(measured(usual), rel=1e-6)


def test_a_sweep_trains_each_choice(recexp: InProcess) -> None:
    recexp.run("-m", *PLAIN, "optim.lr=0.1,0.2", "model.arch_interaction_op=dot,cat")
    found = [json.loads((run / "run.json").read_text()) for run in recexp.runs()]
    assert len(found) == 4
    assert len({run.parent for run in recexp.runs()}) == 4
    assert len({round(measured(run)["test/logloss"], 9) for run in recexp.runs()}) == 4


def test_a_checkpoint_of_another_model_is_refused(trained: tuple[InProcess, Done], tmp_path: Path) -> None:
    (run,) = trained[0].runs()
    copy = shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "copy.ckpt")
    for words in (["model=lr", *LOG], [*PLAIN, "model.arch_mlp_top=[9,1]"]):
        said = trained[0].refused("task=evaluate", f"ckpt={copy}", *words, code=1)
        assert "does not fit this configuration" in said


# ---- the area and what is best


def test_a_histogram_of_the_scores_has_its_error_bound_beside_it(trained: tuple[InProcess, Done]) -> None:
    recexp, _ = trained
    (run,) = recexp.runs()
    exact = measured(run)["test/auc"]
    bounds = []
    for bins in (16, 65536):
        words = ["problem.auc=histogram", f"problem.auc_bins={bins}"]
        found = recexp.run("task=evaluate", *PLAIN, f"ckpt={run}", *words).tests
        assert set(found) == METRICS | {"test/auc_error_bound"}
        bound = float(found["test/auc_error_bound"])
        assert abs(float(found["test/auc"]) - exact) <= bound + 1e-4, "four digits are printed"
        bounds.append(bound)
    assert bounds[1] < bounds[0] / 5


#: A rate at which the loss falls and rises again.
RISING = [*PLAIN, *EPOCHS, "trainer.max_epochs=6", "optim.lr=4.0", "trainer.monitor=val/logloss"]


def test_a_monitored_loss_is_best_where_it_is_smallest(recexp: InProcess) -> None:
    done = recexp.run(*RISING)
    (run,) = recexp.runs()
    found = validated(run, "val/logloss")
    best = min(found, key=found.__getitem__)
    assert min(found) < best < max(found), "nothing to choose from"
    assert f"val/logloss {found[best]:.4f} after {best} updates" in done.out
    recexp.run(*RISING, f"trainer.max_epochs={best // 5}")
    assert same(weights(run, "best.ckpt"), weights(recexp.runs()[1]))


def test_early_stopping_waits_for_a_smaller_loss(recexp: InProcess) -> None:
    recexp.run(*RISING)
    recexp.run(*RISING, "trainer.early_stop_patience=1")
    whole, stopped = (validated(run, "val/logloss") for run in recexp.runs())
    values = [whole[step] for step in sorted(whole)]
    rises = next(place for place in range(1, 6) if values[place] >= values[place - 1])
    assert stopped == {step: whole[step] for step in sorted(whole)[: rises + 1]}
    assert rises < 5, "it never rises"


def test_a_metric_that_is_not_computed_cannot_be_monitored(recexp: InProcess) -> None:
    said = recexp.refused(*PLAIN, "trainer.monitor=val/ndcg_at_10", code=1)
    assert "val/auc" in said
    assert "val/logloss" in said


def test_without_validation_the_last_state_is_tested(recexp: InProcess) -> None:
    words = ["dataset.recipe=bars_x4", "dataset.validation_share=0"]
    own = [word for word in PLAIN if not word.startswith("dataset.days")]
    recexp.run(*own, *words)
    (run,) = recexp.runs()
    assert set(measured(run)) == METRICS
    assert validated(run, "val/auc") == {}
    assert not (run / "checkpoints" / "best.ckpt").exists() or same(weights(run, "best.ckpt"), weights(run))
