"""Outfits as a user types them: training, every task, options, what a result depends on, and what is learnt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from finished_runs import losses, measured, rows, same, same_state, validated, weights
from in_process import Done, InProcess
from small_outfits import FEW, NARROW, SMALL

DRAWN = {
    f"test/{name}_{protocol}"
    for protocol in ("random_category", "same_category")
    for name in ("fitb", "pairwise", "auc")
}
ERRORS = {f"{name}_se" for name in DRAWN if "auc" not in name}
PUBLISHED = {"test/fitb_published", "test/auc_published"}
EPOCHS = ["trainer.max_steps=null", "trainer.limit_train_batches=5"]


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
    return recexp, recexp.run(*SMALL)


def some_slow(cases: Iterable[str], fast: tuple[str, ...]) -> list[Any]:
    """The cases as parameters, those that are not named behind the marker."""
    return [pytest.param(case, marks=[] if case in fast else pytest.mark.slow) for case in cases]


# ---- a run


def test_a_training_reports_its_metrics_beside_those_of_categories_alone(trained: tuple[InProcess, Done]) -> None:
    recexp, done = trained
    (run,) = recexp.runs()
    table = rows(run)
    assert DRAWN | ERRORS | PUBLISHED <= set(table) == set(done.tests)
    assert set(table) - DRAWN - ERRORS - PUBLISHED <= {"test/fitb_published_answerable", "test/auc_published_complete"}
    assert all(0 <= value <= 1 for value in measured(run).values())
    for name in ("test/fitb_same_category", "test/pairwise_same_category", "test/auc_same_category"):
        assert table[name]["floor"] == (0.25 if "fitb" in name else 0.5), "categories say nothing there"
    assert table["test/fitb_random_category"]["floor"] > 0.4
    assert "floor" in done.out
    assert "SYNTHETIC" in done.out
    assert [step for step, _ in losses(run)] == [2, 4, 6]
    assert all(math.isfinite(value) for _, value in losses(run))


@pytest.mark.slow
def test_mlflow_has_the_run(recexp: InProcess, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    recexp.run(*SMALL, "tracking=mlflow", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "tracking.drain_timeout=120")
    (run,) = recexp.runs()
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (one for one in client.search_experiments() if one.name != "Default")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert {name: found.data.metrics[name] for name in measured(run)} == pytest.approx(measured(run))
    assert found.data.params["model.steps"] == "3"
    assert found.data.params["problem.negatives.category"] == "mixed"
    assert found.data.tags["data.synthetic"] == "true"
    assert {"recexp.protocol", "recexp.identity"} <= set(found.data.tags)


# ---- other tasks


def test_evaluated_again_the_numbers_are_the_same(trained: tuple[InProcess, Done]) -> None:
    recexp, first = trained
    (run,) = recexp.runs()
    for size in ([], ["dataset.eval_batch_size=1"], ["dataset.eval_batch_size=100000"]):
        assert recexp.run("task=evaluate", f"ckpt={run}", *size).tests == first.tests
    assert recexp.run(*SMALL, "task=evaluate").tests == first.tests
    assert recexp.runs() == [run]


def test_a_finished_run_is_shown_again(trained: tuple[InProcess, Done]) -> None:
    recexp, first = trained
    again = recexp.run(*SMALL, "resume=true")
    assert "finished" in again.err
    assert again.tests == first.tests
    assert len(recexp.runs()) == 1


def test_prepared_first_the_training_finds_it(tmp_path: Path) -> None:
    recexp = InProcess(tmp_path / "runs", tmp_path / "cache")
    done = recexp.run("task=prepare", *SMALL)
    assert "dataset polyvore_synthetic (SYNTHETIC)" in done.out
    assert "train 60, val 6, test 6" in done.out
    assert "image 6, text 30" in done.out
    built = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert built
    assert "built" not in recexp.run(*SMALL).err
    assert {path: path.stat().st_mtime_ns for path in built} == built


def test_prepare_reads_the_real_outfits(recexp: InProcess, real_data: Path) -> None:
    words = ["model=ngnn", "dataset=polyvore", "dataset.features=category", f"paths.data={real_data}"]
    out = recexp.run("task=prepare", *words).out
    assert "train 16,983, val 0, test 2,697" in out
    assert "119,122 in 120 categories" in out
    assert "category 1" in out
    assert "3,076 questions, 7,076 labelled outfits" in out


def test_questions_can_be_written(recexp: InProcess, tmp_path: Path) -> None:
    done = recexp.run("task=questions", *SMALL, f"task.output={tmp_path}/asked", "problem.repeats=2")
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("asked/*/*")}
    names = ("fill_in_blank_test.json", "fashion_compatibility_prediction.txt")
    assert written == {
        f"asked/{protocol}/{name}" for protocol in ("random_category", "same_category") for name in names
    }
    assert "same_category" in done.out
    refused = recexp.run("task=questions", "model=attrec", "dataset=ml1m_synthetic", code=2)
    assert "problem=next_item asks none" in refused.err


@pytest.mark.slow
def test_a_sweep_trains_each_choice(recexp: InProcess) -> None:
    recexp.run("-m", *SMALL, "problem.negatives.category=random,same", "model.edges=complete,mean")
    assert len({run.parent for run in recexp.runs()}) == 4
    assert len({losses(run)[-1] for run in recexp.runs()}) == 4


def test_a_training_is_made_longer(recexp: InProcess) -> None:
    recexp.run(*SMALL, *EPOCHS, "trainer.max_epochs=2")
    (run,) = recexp.runs()
    recexp.run(*SMALL, *EPOCHS, "trainer.max_epochs=3", f"resume={run}")
    assert [step for step, _ in losses(run)] == [2, 4, 6, 8, 10, 12, 14]
    recexp.run(*SMALL, *EPOCHS, "trainer.max_epochs=3")
    assert same(weights(recexp.runs()[1]), weights(run))
    assert same_state(recexp.runs()[1], run)


def test_a_checkpoint_of_another_width_is_refused(trained: tuple[InProcess, Done]) -> None:
    (run,) = trained[0].runs()
    said = trained[0].refused(
        *SMALL, "task=evaluate", f"ckpt={run}", "model.hidden_image=5", "model.hidden_text=5", code=1
    )
    assert "does not fit this configuration" in said


# ---- what a result depends on


def test_what_is_no_part_of_a_result_changes_no_weight(trained: tuple[InProcess, Done], recexp: InProcess) -> None:
    (usual,) = trained[0].runs()
    words = ["log_level=debug", "trainer.updates_per_block=1", "trainer.checkpoint_every_n_steps=2"]
    recexp.run(*SMALL, *words, "dataset.eval_batch_size=5", "device.threads=2", "problem.floor=false")
    (run,) = recexp.runs()
    assert run.parent.name == usual.parent.name
    assert same(weights(run), weights(usual))
    assert same_state(run, usual)
    assert losses(run) == losses(usual)
    assert measured(run) == measured(usual)
    assert all(row["floor"] is None for row in rows(run).values())


PARTS_OF_A_RESULT = {
    "problem.shuffle_features=true": True,
    "problem.negatives.category=same": True,
    "problem.negatives.refresh=never": False,  # in the first epoch
    "problem.pairs_per_outfit=4": True,
    "problem.shuffle=outfits": True,
    "problem.eval_seed=7": False,
    "problem.repeats=2": False,
    "problem.ties=strict": False,
    "problem.protocols=[same_category]": False,
    "problem.validate=true": False,  # the dataset has outfits for it
    "model.loss=neg_sigmoid": True,
    "model.consistency=reference_bug": True,
    "model.edges=cooccurrence": True,
    "model.steps=0": True,
    "model.beta=0.9": True,
    "model.init_readout=reference": True,
    "model.l2=0.1 optim.rows=all": True,
    "seed=2": True,
    "dataset.seed=2": True,
    "optim.lr=0.01": True,
}
SHOWN = ("problem.shuffle_features=true", "problem.negatives.category=same", "problem.ties=strict", "model.steps=0")


@pytest.mark.parametrize("words", some_slow(PARTS_OF_A_RESULT, fast=SHOWN))
def test_what_is_a_part_of_a_result_makes_another_run(
    trained: tuple[InProcess, Done], recexp: InProcess, words: str
) -> None:
    """True: another training, too."""
    (usual,) = trained[0].runs()
    recexp.run(*SMALL, *words.split())
    (run,) = recexp.runs()
    assert run.parent.name != usual.parent.name
    assert (losses(run) != losses(usual)) == PARTS_OF_A_RESULT[words]


def test_gradients_by_hand_and_those_of_the_graph_agree_in_a_whole_run(recexp: InProcess) -> None:
    words = [*SMALL, "trainer.max_steps=12"]
    recexp.run(*words)
    recexp.run(*words, "trainer.kernels=plain")
    recexp.run(*words, "debug.overflow=warn")
    usual, *others = recexp.runs()
    for other in others:
        assert not same(weights(other), weights(usual)), "nothing was computed in another way"
        for (step, value), (_, expected) in zip(losses(other), losses(usual), strict=True):
            assert value == pytest.approx(expected, rel=1e-4), step
        for name, value in weights(usual).items():
            assert (weights(other)[name] - value).abs().max() < 1e-3, name


def test_visiting_touched_rows_is_visiting_all_of_them(trained: tuple[InProcess, Done], recexp: InProcess) -> None:
    (touched,) = trained[0].runs()
    recexp.run(*SMALL, "optim.rows=all")
    (run,) = recexp.runs()
    assert measured(run) == measured(touched)
    for name, value in weights(touched).items():
        assert (weights(run)[name] - value).abs().max() < 1e-6, name


# ---- what is best, and when to stop

VALIDATED = [*SMALL, *EPOCHS, "problem.validate=true", "trainer.max_epochs=5", "optim.lr=0.05"]


def test_the_best_state_of_validation_outfits_is_tested(recexp: InProcess) -> None:
    monitor = "val/pairwise_random_category"
    recexp.run(*VALIDATED, f"trainer.monitor={monitor}")
    (run,) = recexp.runs()
    found = validated(run, monitor)
    assert sorted(found) == [5, 10, 15, 20, 25]
    best = min(step for step in found if found[step] == max(found.values()))
    assert not [name for name in validated_names(run) if "published" in name], "those are about test outfits"
    recexp.run(*VALIDATED, f"trainer.monitor={monitor}", f"trainer.max_epochs={best // 5}")
    assert same(weights(run, "best.ckpt"), weights(recexp.runs()[1]))


def validated_names(run: Path) -> set[str]:
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return {name for event in events if event["e"] == "metrics" for name in event["m"] if name.startswith("val/")}


def test_early_stopping_waits_for_a_better_state(recexp: InProcess) -> None:
    recexp.run(*VALIDATED)
    recexp.run(*VALIDATED, "trainer.early_stop_patience=1")
    whole, stopped = (validated(run, "val/fitb_random_category") for run in recexp.runs())
    values = [whole[step] for step in sorted(whole)]
    falls = next(at for at in range(1, 5) if values[at] <= max(values[:at]))
    assert stopped == {step: whole[step] for step in sorted(whole)[: falls + 1]}


# ---- what a user may try

ODD: dict[str, str | None] = {
    "dataset.batch_size=1": None,
    "dataset.batch_size=100000": None,
    "problem.protocols=[published]": None,
    "problem.protocols=[published] problem.validate=true": "problem.validate=true needs others",
    "problem.repeats=1": None,
    "problem.ties=first": None,
    "problem.pairs_per_outfit=1": None,
    "problem.pairs_per_outfit=20": None,
    "problem.negatives.category=frequency": None,
    "problem.shuffle=none problem.drop_last=true": None,
    "model.hidden_image=1 model.hidden_text=1": None,
    "model.hidden_image=3 model.consistency=none": None,
    "model.beta=0": None,
    "model.beta=1": None,
    "model.consistency_weight=0": None,
    "model.reduction=sum": None,
    "trainer.accumulate_grad_batches=2": None,
    "trainer.gradient_clip_val=0.1": None,
    "trainer.limit_eval_users=2": None,
    "precision=bf16": None,
    "precision=mixed": None,
    "optim.name=adam optim.rows=all optim.alpha=null optim.eps=null": None,
    "optim.name=adagrad optim.alpha=null optim.eps=null": None,
    "dataset.outfits=10": None,
    "dataset.structure=0": None,
    "trainer.monitor=val/ndcg_at_10 problem.validate=true": "val/fitb_random_category",
    "dataset.categories=5": ">= 8",
}
FAST = ("dataset.batch_size=1", "problem.protocols=[published] problem.validate=true", "precision=bf16")


@pytest.mark.parametrize("words", some_slow(ODD, fast=FAST))
def test_odd_values_work_or_are_explained(recexp: InProcess, words: str) -> None:
    done = recexp.attempt(*SMALL, *words.split())
    said = ODD[words]
    if said is None:
        assert done.code == 0, done.err
        (run,) = recexp.runs()
        assert all(math.isfinite(value) for value in measured(run).values())
        assert all(value.isfinite().all() for value in weights(run).values())
        assert "Warning" not in done.err
        assert any(name.startswith("test/fitb_") for name in measured(run))
    else:
        assert done.code in (1, 2)
        assert said in done.err
        assert "Traceback" not in done.err


# ---- what is learnt


def binomial(run: Path) -> float:
    """Standard error of a guess among four answers, over the distinct outfits that are asked about."""
    config: dict[str, Any] = json.loads((run / "config.json").read_text())
    return math.sqrt(0.25 * 0.75 / max(1, config["dataset"]["outfits"] // 10))


#: Told apart from items of a random category, real ones are known by their categories, and features are not learnt.
LEARNS = ["model=ngnn", "dataset=polyvore_synthetic", "trainer.max_epochs=4", "problem.negatives.category=same"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_features_are_learnt_and_shuffled_ones_teach_nothing(recexp: InProcess) -> None:
    """Categories alone are at chance where all answers are of one category; so is who cannot see the features."""
    recexp.run(*LEARNS)
    recexp.run(*LEARNS, "problem.shuffle_features=true")
    seen, shuffled = recexp.runs()
    name = "test/fitb_same_category"
    assert rows(seen)[name]["floor"] == 0.25
    assert measured(seen)[name] > 0.35
    assert measured(seen)[name] > 0.25 + 5 * binomial(seen)
    assert abs(measured(shuffled)[name] - 0.25) < 3 * math.hypot(binomial(shuffled), measured(shuffled)[f"{name}_se"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_real_outfits_categories_are_learnt_at_least_as_well_as_by_counting(
    recexp: InProcess, real_data: Path
) -> None:
    words = ["dataset=polyvore", "dataset.features=category", f"paths.data={real_data}", "trainer.max_epochs=3"]
    recexp.run("model=ngnn", *words)
    table = rows(recexp.runs()[0])
    name = "test/fitb_random_category"
    assert table[name]["value"] >= table[name]["floor"] - table[f"{name}_se"]["value"]
    assert table["test/fitb_same_category"]["value"] == 0.25
    assert table["test/auc_random_category"]["value"] > 0.75


def test_real_outfits_without_vectors(recexp: InProcess, real_data: Path) -> None:
    words = [*NARROW[:1], "dataset=polyvore", "dataset.features=category", f"paths.data={real_data}", *FEW]
    done = recexp.run(*words, "trainer.limit_eval_users=200", "dataset.eval_batch_size=512")
    assert "the model is told nothing of an item but its category" in done.err
    table = rows(recexp.runs()[0])
    assert {"test/fitb_published_answerable", "test/auc_published_complete"} <= set(table)
    assert "3,076 questions, 1,159 with all answers in this data" in str(table["test/fitb_published"])
    assert table["test/fitb_same_category"]["value"] == table["test/fitb_same_category"]["floor"] == 0.25
