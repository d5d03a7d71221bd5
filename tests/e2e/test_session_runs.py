"""GRU4Rec and the session problem as a user types them: every pair that goes together, every option, every mistake."""

from __future__ import annotations

import csv
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import Done, InProcess

GRU4REC = ["model=gru4rec", "dataset=rsc15_synthetic"]
FEW = ["trainer.max_steps=6", "trainer.log_every_n_steps=2", "trainer.updates_per_block=4"]
SMALL = [*GRU4REC, *FEW, "model.layers=[12]", "model.samples=16", "dataset.batch_size=16"]
SMALL_OF = {"gru4rec": ["model.layers=[12]", "model.samples=16"], "attrec": ["model.dim=8"]}
FAST_CELLS = {("gru4rec", "rsc15_synthetic", "next_item")}
METRICS = {
    "session": {f"test/{name}_at_{k}" for name in ("recall", "mrr") for k in (1, 5, 10, 20)},
    "next_item": {
        *(f"test/{name}{candidates}" for name in ("hr_at_10", "hr_at_50", "mrr") for candidates in ("", "_sampled101")),
        *(f"test/ndcg{kind}" for kind in ("_at_10", "_at_50", "_ln_at_10_sampled101", "_ln_at_50_sampled101")),
    },
}  # fmt: skip


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
    return recexp, recexp.run(*SMALL, "trainer.max_steps=60")


def some_slow(cases: Iterable[str], fast: tuple[str, ...]) -> list[Any]:
    """The cases as parameters, those that are not named behind the marker."""
    return [pytest.param(case, marks=[] if case in fast else pytest.mark.slow) for case in cases]


def losses(run: Path) -> list[tuple[int, float]]:
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    points = [event for event in events if event["e"] == "metrics" and "train/loss" in event["m"]]
    return [(point["step"], point["m"]["train/loss"]) for point in points]


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def measured(run: Path) -> dict[str, float]:
    rows = json.loads((run / "result.json").read_text())["summary"]["metrics"]
    return {row["name"]: row["value"] for row in rows}


# ---- what goes together


@pytest.mark.parametrize(("model", "dataset", "problem"), [
    pytest.param(*cell, marks=[] if cell in FAST_CELLS else pytest.mark.slow)
    for cell in itertools.product(("gru4rec", "attrec"), ("rsc15_synthetic", "ml1m_synthetic"), METRICS)
])  # fmt: skip
def test_every_pair_trains_and_reports_the_metrics_of_its_problem(
    recexp: InProcess, model: str, dataset: str, problem: str
) -> None:
    words = [f"model={model}", f"dataset={dataset}", f"problem={problem}", *SMALL_OF[model], *FEW]
    recexp.run(*words, "trainer.limit_eval_users=100")
    (run,) = recexp.runs()
    values = measured(run)
    assert set(values) == METRICS[problem]
    assert all(0 <= value <= 1 for value in values.values())
    assert [step for step, _ in losses(run)] == [2, 4, 6]


@pytest.mark.slow
def test_what_is_learnt_is_worth_more_than_popularity(recexp: InProcess) -> None:
    recexp.run(*GRU4REC, "trainer.max_epochs=2")
    (run,) = recexp.runs()
    rows = json.loads((run / "result.json").read_text())["summary"]["metrics"]
    (row,) = (row for row in rows if row["name"] == "test/recall_at_20")
    assert row["value"] > 2 * row["floor"] > 0


# ---- mistakes

SAYS = {
    "problem=sesion": "there is no problem 'sesion'. Did you mean session?",
    "problem=click": "problem=click with model=gru4rec: the model does not solve it.",
    "model.loss=bpr model.final_act=softmax": "With bpr: linear, relu, tanh, elu, selu, leaky_relu, or null.",
    "model.final_act=tanh": "With cross_entropy: softmax, softmax_tanh, softmax_relu, or null.",
    "model.bptt_steps=5": "it needs model.training=bptt.",
    "model.keep_prob=0.6 model.dropout_hidden=0.4": "and so does model.keep_prob=0.6. Write one of them.",
    "model.keep_prob=1.5": "from 0 to 1",
    "optim.rows=touched optim.weight_decay=0.1": "Set optim.rows=all or optim.weight_decay=0.",
    "problem.negatives.count=5": "such a model draws its own: model.samples, model.sample_alpha.",
    "problem.drop_last=true": "the schedule of sessions has no rest that could be left out.",
    "trainer.early_stop_patience=3": "it needs problem.validate=true.",
    "trainer.monitor=val/mrr_at_20": "it needs problem.validate=true.",
    "model.layers=[0]": "a list of whole numbers >= 1",
    "model.layers=[]": "at least one",
    "problem.k=[]": "at least one",
    "problem=next_item problem.protocols=[]": "at least one",
    "problem=next_item problem.ties=median": "there is no setting problem.ties",
    "model.embedding_dim=3": "it needs model.embedding=separate.",
    "model.bpreg=3": "it needs model.loss=bpr_max.",
    "dataset.min_rating=3": "clicks have no rating",
    "dataset=rsc15 dataset.train=a.txt": "set dataset.test=FILE, too",
}


@pytest.mark.parametrize("words", SAYS)
def test_a_mistake_is_explained(recexp: InProcess, words: str) -> None:
    chosen = GRU4REC[: 1 if "dataset=" in words else 2]
    said = recexp.refused(*chosen, *words.split(), code=2)
    assert "1 mistake" in said
    assert SAYS[words] in said
    assert recexp.runs() == []


def test_all_mistakes_are_told_at_once_and_soon(tmp_path: Path) -> None:
    words = [
        "model.loss=bpr", "model.final_act=softmax", "model.bptt_steps=5", "model.keep_prob=1.5", "optim.rows=touched",
        "optim.weight_decay=0.1", "problem.negatives.count=5", "trainer.early_stop_patience=3",
    ]  # fmt: skip
    code = "import sys; from recexp.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *GRU4REC, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert time.monotonic() - began < 5  # 0.7 s on an idle machine
    assert done.stdout.split() == ["2", "False"]
    assert "6 mistakes" in done.stderr
    for key in ("final_act=softmax", "bptt_steps=5", "keep_prob=1.5", "weight_decay=0.1", "count=5", "patience=3"):
        assert key in done.stderr


def test_the_other_name_of_an_option_is_the_same_run(recexp: InProcess) -> None:
    recexp.run(*SMALL, "model.keep_prob=0.7")
    done = recexp.run(*SMALL, "model.dropout_hidden=0.3", "resume=true")
    assert "finished" in done.err
    assert len(recexp.runs()) == 1


# ---- the split


@pytest.fixture
def shuffled(tmp_path: Path) -> list[str]:
    """Prepared files whose sessions were dealt out at random."""
    draw = np.random.default_rng(3)
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for session in range(200):
        part = lines["test" if draw.random() < 0.2 else "train"]
        item = draw.integers(0, 25)
        part += [f"{session}\t{item + step}\t{1_400_000_000 + session * 100 + step}" for step in range(3)]
    for name, rows in lines.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(["SessionId\tItemId\tTime", *rows]) + "\n")
    return ["dataset=rsc15", *(f"dataset.{name}={tmp_path / name}.txt" for name in lines)]


def test_a_split_that_leaks_is_refused_unless_it_is_accepted(recexp: InProcess, shuffled: list[str]) -> None:
    said = recexp.refused(*SMALL, *shuffled, code=1)
    assert re.search(r"\d+ of \d+ test sessions end before the training sessions do", said)
    assert "problem.leakage=allow" in said
    assert recexp.runs() == []
    recexp.run(*SMALL, *shuffled, "problem.leakage=allow")
    (run,) = recexp.runs()
    assert set(measured(run)) == METRICS["session"]


# ---- evaluation


def test_evaluated_again_the_numbers_are_the_same(trained: tuple[InProcess, Done]) -> None:
    recexp, first = trained
    (run,) = recexp.runs()
    evaluate = ["task=evaluate", f"ckpt={run}"]
    assert recexp.run(*evaluate).tests == first.tests
    for size in (1, 100_000):
        assert recexp.run(*evaluate, f"dataset.eval_batch_size={size}").tests == first.tests
    assert recexp.run(*SMALL, "trainer.max_steps=60", "task=evaluate").tests == first.tests
    assert recexp.runs() == [run]


@pytest.mark.slow
def test_the_size_of_an_evaluation_batch_moves_no_bit(recexp: InProcess) -> None:
    for size in (1, 130, 100_000):
        recexp.run(*SMALL, f"dataset.eval_batch_size={size}", "problem.validate=true")
    first, *others = [measured(run) for run in recexp.runs()]
    assert others == [first, first]
    assert len({run.parent for run in recexp.runs()}) == 1


def test_how_ties_are_ranked_shows(trained: tuple[InProcess, Done]) -> None:
    """In bfloat16 many of the 300 items have the score of the target."""
    recexp, _ = trained
    (run,) = recexp.runs()
    words = ["task=evaluate", "model=gru4rec", f"ckpt={run}", "precision=bf16"]
    ranked = [recexp.run(*words, f"problem.ties={ties}").tests for ties in ("conservative", "median", "standard")]
    values = [float(test["test/mrr_at_20"]) for test in ranked]
    assert values[0] < values[1] < values[2]
    assert recexp.run(*words).tests == ranked[0]


def test_a_checkpoint_of_another_model_or_width_is_refused(trained: tuple[InProcess, Done], recexp: InProcess) -> None:
    (run,) = trained[0].runs()
    said = trained[0].refused("task=evaluate", "model=gru4rec", f"ckpt={run}", "model.layers=[13]", code=1)
    assert "does not fit this configuration" in said
    recexp.run("model=attrec", "dataset=rsc15_synthetic", "problem=session", *FEW)
    (other,) = recexp.runs()
    for place in (other, other / "checkpoints" / "last.ckpt"):
        said = recexp.refused("task=evaluate", *GRU4REC, f"ckpt={place}", code=1)
        assert "does not fit this configuration" in said
    assert recexp.runs() == [other]


def test_under_another_problem_it_is_evaluated_as_that_problem(trained: tuple[InProcess, Done]) -> None:
    recexp, _ = trained
    (run,) = recexp.runs()
    done = recexp.run("task=evaluate", f"ckpt={run}", "problem=next_item", "trainer.limit_eval_users=100")
    assert set(done.tests) == METRICS["next_item"]


# ---- options of the trainer


def test_gradients_by_hand_and_those_of_the_graph_agree_in_a_whole_run(recexp: InProcess) -> None:
    words = [*SMALL, "trainer.max_steps=10"]
    recexp.run(*words)
    recexp.run(*words, "trainer.kernels=plain")
    recexp.run(*words, "debug.overflow=warn")
    recexp.run(*words, "debug.dump=[3]", "debug.dump.backend=own")
    by_hand, plain, watched, dumped = recexp.runs()
    with (dumped / "dump" / "step3" / "rank0" / "statistics.csv").open() as stream:
        assert {"network.output", "network.weight_hh.0"} < {
            row["name"] for row in csv.DictReader(stream) if row["kind"] == "gradient"
        }
    for other in (plain, watched, dumped):
        for (step, value), (_, expected) in zip(losses(other), losses(by_hand), strict=True):
            assert value == pytest.approx(expected, rel=1e-4), step
        for name, value in weights(other).items():
            # Adagrad divides by the gradient's own size: a rounding of 1e-8 moves a weight by up to 0.2 * 1e-8 / 1e-3.
            torch.testing.assert_close(value, weights(by_hand)[name], rtol=1e-3, atol=2e-4)
    assert same(weights(watched), weights(dumped))
    assert not same(weights(watched), weights(by_hand)), "the run by hand has to be by hand"


OPTIONS = {
    "clipped": ["trainer.gradient_clip_val=0.05", "trainer.gradient_clip_algorithm=norm_per_tensor"],
    "accumulated": ["trainer.accumulate_grad_batches=2"],
    "bf16": ["precision=bf16"],
    "mixed": ["precision=mixed"],
    "windows": ["model.training=bptt", "model.bptt_steps=3"],
    "two layers": ["model.layers=[12,10]"],
    "onehot": ["model.embedding=onehot"],
    "adam": ["optim.name=adam", "optim.lr=0.01", "optim.rows=all"],
    "lazy adam": ["optim.name=lazy_adam", "optim.lr=0.01"],
    "rowwise adagrad": ["optim.name=rowwise_adagrad"],
    "a schedule": ["optim.schedule=step", "optim.schedule.step_size=2", "optim.schedule.gamma=0.5"],
    "the older rules": ["model.end_rule=legacy", "model.session_order=id", "model.reduction=mean", "model.samples=0"],
    "validated": ["problem.validate=true", "trainer.limit_train_batches=4", "trainer.max_epochs=2"],
}


@pytest.mark.parametrize("option", some_slow(OPTIONS, fast=("a schedule",)))
def test_an_option_works_and_has_an_effect(recexp: InProcess, option: str) -> None:
    recexp.run(*SMALL)
    done = recexp.run(*SMALL, *OPTIONS[option])
    assert "Warning" not in done.err
    usual, run = recexp.runs()
    if option != "validated":
        assert [step for step, _ in losses(run)] == [2, 4, 6]
    assert all(np.isfinite(value) for _, value in losses(run))
    assert all(value.isfinite().all() for value in weights(run).values())
    assert losses(run) != losses(usual)
    assert set(measured(run)) == METRICS["session"]


def test_the_lengths_of_a_training(recexp: InProcess) -> None:
    words = ["trainer.limit_train_batches=3", "trainer.max_steps=null", "trainer.max_epochs=2"]
    recexp.run(*SMALL, *words, "trainer.log_every_n_steps=1")
    recexp.run(*SMALL, *words, "trainer.log_every_n_steps=1", "trainer.max_steps=5")
    longer, cut = [losses(run) for run in recexp.runs()]
    assert [step for step, _ in longer] == [1, 2, 3, 4, 5, 6]
    assert cut == longer[:5]


# ---- what a user may try

ODD = {
    "dataset.batch_size=1": None,
    "dataset.batch_size=5000": None,
    "problem.k=[1000]": None,
    "model.samples=0 dataset.batch_size=1": "one session at a time has no negatives in its batch",
    "model.samples=0 dataset.batch_size=2": None,
    "model.samples=1": None,
    "model.sample_alpha=0": None,
    "model.dropout_hidden=1": None,
    "model.dropout_embed=1": None,
    "model.keep_prob=0": None,
    "model.layers=[1]": None,
    "model.training=bptt model.bptt_steps=5000": None,
    "model.init_sigma=0": None,
    "trainer.limit_eval_users=1": None,
    "dataset.test_days=0": None,
    "dataset.test_days=100": "no training session is left",
    "dataset.min_item_support=100000": "no session is left",
    "dataset.min_session_length=1000": "no session is left",
    "dataset.path=x.txt": "is generated: dataset.path has no meaning",
}


@pytest.mark.parametrize("words", some_slow(ODD, fast=("dataset.batch_size=1", "model.samples=0 dataset.batch_size=1")))
def test_an_odd_option_works_or_is_refused_with_a_sentence(recexp: InProcess, words: str) -> None:
    says = ODD[words]
    if says is None:
        recexp.run(*SMALL, "trainer.max_steps=2", *words.split())
        (run,) = recexp.runs()
        assert all(np.isfinite(value) for value in measured(run).values())
    else:
        done = try_it(recexp, *SMALL, *words.split())
        assert says in done.err


FINAL = {
    "cross_entropy": ("softmax", "softmax_tanh", "softmax_relu"),
    **dict.fromkeys(("bpr", "top1", "bpr_max", "top1_max"), ("linear", "tanh", "relu", "elu", "selu", "leaky_relu")),
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", FINAL)
def test_every_final_activation_of_a_loss_trains(recexp: InProcess, loss: str) -> None:
    for final in ("null", *FINAL[loss]):
        more = ["model.final_scale=1.05"] if final == "selu" else []  # with 1 it is elu
        recexp.run(*SMALL, "trainer.max_steps=4", f"model.loss={loss}", f"model.final_act={final}", *more)
    found = [losses(run)[-1] for run in recexp.runs()]
    assert len(found) == 1 + len(FINAL[loss])
    assert all(np.isfinite(value) for _, value in found)
    # What null stands for is one of them.
    assert len(set(found)) == len(FINAL[loss])


def try_it(recexp: InProcess, *words: str) -> Done:
    """A command that has to be refused, as a mistake or for the data."""
    done = recexp.attempt(*words)
    assert done.code in (1, 2), done.out
    assert "Traceback" not in done.err
    return done


def table(rows: list[tuple[object, ...]], head: str = "user,item,rating,time") -> str:
    return "\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n"


def three_each(sessions: int, item: Callable[[int, int], object]) -> list[tuple[object, ...]]:
    return [(f"s{s}", item(s, step), 1, s * 10 + step) for s in range(sessions) for step in range(3)]


MIXED = [(f"s{s}", (s * 7 + step * step) % 23, 1, s * 10 + step) for s in range(120) for step in range(1 + s % 4)]
FILES = {
    "some of one event": (table(MIXED), [], None),
    "all of one event": (table([(f"s{n}", n % 7, 1, n) for n in range(50)]), [], "no session has two events"),
    "one session": (table([("a", "x", 1, 1), ("a", "y", 1, 2)]), [], "no session is left to train on"),
    "two sessions": (table([(s, i, 1, t) for t, (s, i) in enumerate(["ax", "ay", "bx", "by"])]), [], None),
    "two sessions, validated": (
        table([(s, i, 1, t) for t, (s, i) in enumerate(["ax", "ay", "bx", "by"])]), ["problem.validate=true"],
        "no session is left to train on",
    ),
    "no time": (
        table([(f"s{n // 3}", n * n % 7) for n in range(90)], "user,item"),
        ["dataset.columns.time=null", "dataset.columns.rating=null"], None,
    ),
    "no time, not said": (
        table([(f"s{n // 3}", n * n % 7) for n in range(90)], "user,item"), ["dataset.columns.rating=null"],
        "there is no column 'time': set dataset.columns.time=NAME",
    ),
    "one moment": (
        table([(f"s{n // 3}", n * n % 7, 1, 5) for n in range(90)]), [], "all that end at the same time as the first",
    ),
    "no event": (table([]), [], "there is no event"),
    "unseen items": (
        table([*three_each(90, lambda s, n: (s + n) % 5), *((f"z{s}", f"q{s}{n}", 1, 5000 + s * 10 + n)
              for s in range(12) for n in range(3))]), [], "nothing can be evaluated",
    ),
    "one item": (table(three_each(40, lambda s, n: "i")), [], None),
    "one item, no samples": (table(three_each(40, lambda s, n: "i")), ["model.samples=0"], None),
    "all items met, histories": (
        table([(s, i, 1, t) for t, (s, i) in enumerate(["ax", "ay", "ax", "ay", "bx", "by"])]), ["problem=next_item"],
        "leave p1 and p2 out of problem.protocols",
    ),
    "one item, windows": (
        table(three_each(40, lambda s, n: "i")), ["model=attrec", "problem=session"],
        "use problem.negatives.exclude=none",
    ),
    "some of one event, histories": (table(MIXED), ["problem=next_item"], None),
    "some of one event, windows": (table(MIXED), ["model=attrec", "problem=session"], None),
}  # fmt: skip


@pytest.mark.parametrize("case", some_slow(FILES, fast=("one item, windows", "all of one event")))
def test_a_file_of_ones_own_is_trained_on_or_refused_with_a_sentence(recexp: InProcess, case: str) -> None:
    text, words, says = FILES[case]
    (recexp.folder / "rows.csv").write_text(text)
    own = ["model.layers=[8]", "model.samples=8"] if "model=attrec" not in words else []
    own = [word for word in own if word.partition("=")[0] not in {w.partition("=")[0] for w in words}]
    model = [] if "model=attrec" in words else ["model=gru4rec"]
    everything = [*model, "dataset=interactions", f"dataset.path={recexp.folder / 'rows.csv'}", *FEW, *own, *words]
    if says is None:
        recexp.run(*everything)
        assert len(recexp.runs()) == 1
    else:
        assert says in try_it(recexp, *everything).err
