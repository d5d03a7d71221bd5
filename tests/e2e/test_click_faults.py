"""What goes wrong around clicks: mistakes in the command, lines that are none, tables that do not fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import InProcess

from recexp.devices.cpu import CpuDevice

DLRM = ["model=dlrm", "dataset=criteo_synthetic"]
LR = ["model=lr", "dataset=criteo_synthetic"]
FEW = ["trainer.max_steps=2", "dataset.batch_size=64", "trainer.updates_per_block=2"]


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], InProcess]:
    cache = tmp_path_factory.mktemp("cache")
    return lambda folder: InProcess(folder, cache)


@pytest.fixture
def recexp(in_folder: Callable[[Path], InProcess], tmp_path: Path) -> InProcess:
    return in_folder(tmp_path)


# ---- mistakes in the command

SAYS = {
    "model=dlrm dataset=criteo optim.name=adam": "Set optim.name=lazy_adam to have that one, or optim.rows=all",
    "model=dlrm dataset=criteo optim.momentum=0.9": "Set optim.momentum=0, or optim.rows=all",
    "model=dlrm dataset=criteo problem.threshold=3": "this dataset has clicks of its own",
    "model=dlrm dataset=criteo problem.fields=[user]": "the recipe of the dataset says which fields there are",
    "model=dlrm dataset=criteo problem.split=time": "the recipe of the dataset says how it is split",
    "model=dlrm dataset=criteo problem.auc_bins=64": "it needs problem.auc=histogram",
    "model=dlrm dataset=criteo problem.shuffle=none problem.shuffle_window=64": "problem.shuffle=window",
    "model=dlrm dataset=criteo model.qr_collisions=8": "it needs model.embedding=qr",
    "model=dlrm dataset=criteo model.md_temperature=0.5": "it needs model.embedding=mixed_dim",
    "model=dlrm dataset=criteo model.loss_weights=[1,2]": "it needs model.loss=wbce",
    "model=dlrm dataset=criteo model.arch_interaction_op=cat model.arch_interaction_itself=true":
        "it needs model.arch_interaction_op=dot",
    "model=dlrm dataset=criteo model.embedding=qr model.weighted_pooling=learned": "needs model.embedding=full",
    "model=dlrm dataset=criteo model.loss_threshold=0.6": "from 0 to 0.49",
    "model=deepfm dataset=criteo model.first_order=scalar": "it needs model.combine=projection",
    "model=deepfm dataset=criteo model.combine=projection model.bias=true":
        "the projection has a bias of its own",
    "model=deepfm dataset=criteo model.keep_prob=0.8 model.dropout_deep=0.2": "Write one of them",
    "model=deepfm dataset=criteo model.init_deep=glorot model.init_deep_std=0.1": "needs model.init_deep=normal",
    "model=dlrm dataset=criteo optim.schedule=dlrm": "constant, linear, cosine, step, exponential, dlrm_policy",
    "model=dlrm dataset=criteo optim.schedule.decay_steps=5": "is an option of dlrm_policy, not of constant",
    "model=dlrm dataset=ml1m problem.split=time problem.split_seed=3": "it needs problem.split=random",
    "model=dlrm dataset=criteo problem=session": "problem=session with model=dlrm: the model does not solve it",
    "model=dlrm dataset=rsc15": "Datasets for this model: avazu, criteo, criteo_synthetic, interactions",
    "model=dlrm dataset=criteo model.arch_mlp_bot=13-16-a": "'13-16-a' is not a list of whole numbers, or they joined",
    "model=dlrm dataset=criteo model.arch_mlp_bot=13-0-16": "a list of whole numbers, or they joined by dashes",
    "model=dlrm dataset=criteo model.arch_mlp_bot=13-512-8": "make the two equal",
    "model=dlrm dataset=criteo model.arch_sparse_feature_size=8":
        "model.arch_mlp_bot=[512,256,64,16] ends with 16, but has to end with model.arch_sparse_feature_size=8",
    "model=dlrm dataset=criteo model.arch_mlp_top=[8,2]": "[8,2] ends with 2, but has to end with 1.",
    "model=dlrm dataset=criteo model.loss=wbce model.loss_weights=1-x": "joined by dashes as in 0.5-2",
    "model=deepfm dataset=criteo model.l2_scope=batch": "model.l2_scope=batch with optim.rows=all: cannot work",
    "model=lr dataset=criteo model.l2_scope=batch": "it needs model.l2 above 0",
    "model=dlrm dataset=criteo dataset.malformed_limit=3": "it needs dataset.malformed=skip",
    "model=dlrm dataset=criteo dataset.split=random dataset.days=3": "it needs dataset.split=null or days",
    "model=dlrm dataset=avazu dataset.split=days dataset.test_share=0.2": "dataset.split=null or blocks or random",
    "model=dlrm dataset=criteo_synthetic dataset.path=x.txt": "dataset=criteo reads yours",
    "model=dlrm dataset=criteo_synthetic dataset.malformed=skip": "generated lines are all well-formed",
    "model=attrec dataset=criteo": "Models for this dataset: deepfm, dlrm, fm, lr.",
    "model=gru4rec dataset=avazu": "the model solves session, next_item, the dataset poses click",
}  # fmt: skip


@pytest.mark.parametrize("words", SAYS)
def test_a_mistake_is_explained(recexp: InProcess, words: str) -> None:
    said = recexp.refused(*words.split(), code=2)
    assert "1 mistake in the configuration" in said
    assert SAYS[words] in said
    assert recexp.runs() == []


def test_all_mistakes_are_told_at_once_before_torch_is_there(tmp_path: Path) -> None:
    words = [
        "optim.name=adam", "optim.schedule=dlrm_policy", "optim.schedule.gamma=0.5", "problem.threshold=3",
        "model.loss_weights=[1,2]", "dataset.recipe=bars", "problem.auc=hist",
        "model.arch_mlp_bot=13-16-a", "model.arch_mlp_top=[8,2]",
    ]  # fmt: skip
    code = "import sys; from recexp.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *DLRM, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["2", "False"]
    assert "10 mistakes" in done.stderr
    for said in ("optim.rows=touched", "decay_start", "decay_steps", "gamma=0.5", "threshold=3", "loss_weights"):
        assert said in done.stderr
    for legal in ("bars_x1, bars_x4", "exact, histogram"):
        assert legal in done.stderr


LATE = {
    "model=deepfm dataset.path=train.txt optim.name=lazy_adam optim.rows=touched": "model.l2_scope=batch",
    "model=fm dataset.path=train.txt model.l2_scope=batch": "has no effect without a penalty",
    "model=dlrm dataset.path=train.txt model.pooling=mean": "no field of the data has several values",
    "model=dlrm dataset.path=train.txt model.arch_mlp_bot=12-16": "begins with 12, but the data has 13 dense numbers",
    "model=dlrm dataset.path=days dataset.days=3": "each of the 2 files is a day",
    "model=dlrm dataset.path=train.txt dataset.recipe=ms_deepfm dataset.days=3": "it belongs to dataset.split=days",
}


@pytest.mark.parametrize("words", LATE)
def test_what_only_the_data_can_tell_is_explained(
    recexp: InProcess, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recexp.folder)
    (recexp.folder / "train.txt").write_bytes(b"\n".join(lines()) + b"\n")
    (recexp.folder / "days").mkdir()
    for day in (0, 1):
        (recexp.folder / "days" / f"day_{day}").write_bytes(b"\n".join(lines()) + b"\n")
    said = recexp.refused("dataset=criteo", *words.split(), *FEW, code=2)
    assert LATE[words] in said
    assert recexp.runs() == []


# ---- tables that do not fit


def test_tables_that_do_not_fit_are_refused_with_the_arithmetic(
    recexp: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuDevice, "free_memory_bytes", lambda self: 200 << 20)
    words = ["dataset.impressions=1000", "dataset.max_cardinality=40", "model.dim=100000"]
    said = recexp.refused("model=fm", "dataset=criteo_synthetic", *words, *FEW, code=2)
    assert "The model does not fit: weights" in said
    assert "what adagrad keeps" in said
    assert "0.20 GiB free" in said
    assert "several devices hold a copy each" in said
    assert recexp.runs() == []


# ---- lines that are none


def lines(count: int = 400) -> list[bytes]:
    """In the format of Criteo's challenge; what is clicked depends on the first id."""
    made = []
    for n in range(count):
        numbers = [str((n * k) % 50) if (n + k) % 4 else "" for k in range(1, 14)]
        ids = [f"{(n * k * 7919) % 23:08x}" if (n + k) % 5 else "" for k in range(1, 27)]
        made.append("\t".join([str(int(n % 3 == 0)), *numbers, *ids]).encode())
    return made


def cut(line: bytes, fields: int) -> bytes:
    return b"\t".join((line.split(b"\t") + [b"0000000a"] * 2)[:fields])


def with_id(line: bytes, text: bytes) -> bytes:
    return b"\t".join([*line.split(b"\t")[:-1], text])


BROKEN = {
    "39 fields": (lambda line: cut(line, 39), "missing_column"),
    "41 fields": (lambda line: cut(line, 41), "extra_column"),
    "a label of 2": (lambda line: b"2" + line[1:], "label"),
    "no hexadecimal id": (lambda line: with_id(line, b"0000000g"), "hex"),
    "NUL": (lambda line: with_id(line, b"0000\x00000"), ""),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_is_named_counted_and_left_out_on_request(recexp: InProcess, case: str) -> None:
    spoil, kind = BROKEN[case]
    rows = lines()
    for place in (4, 70):
        rows[place] = spoil(rows[place])
    path = recexp.folder / "train.txt"
    path.write_bytes(b"\n".join(rows) + b"\n")
    words = [*LR[:1], "dataset=criteo", f"dataset.path={path}", *FEW]
    said = recexp.refused(*words, code=1)
    assert f"{path}: 2 rows are malformed" in said
    assert kind in said
    assert "line 5 (" in said
    assert "line 71 (" in said
    assert "dataset.malformed=skip dataset.malformed_limit=2" in said
    assert recexp.runs() == []
    said = recexp.refused(*words, "dataset.malformed=skip", "dataset.malformed_limit=1", code=1)
    assert "dataset.malformed_limit=1" in said
    done = recexp.run("task=prepare", *words, "dataset.malformed=skip")
    assert any(line.split()[-2:] == ["read", "400"] for line in done.out.splitlines() if "rows read" in line), done.out
    assert [line for line in done.out.splitlines() if "malformed" in line and " 2" in line]
    assert recexp.run(*words, "dataset.malformed=skip").tests


def test_half_a_last_line_is_one_malformed_row(recexp: InProcess) -> None:
    path = recexp.folder / "train.txt"
    path.write_bytes(b"\n".join(lines())[:-60])
    said = recexp.refused("model=lr", "dataset=criteo", f"dataset.path={path}", *FEW, code=1)
    assert "1 row is malformed" in said
    assert "line 400 (" in said


def test_lines_of_another_system_are_the_same_data(recexp: InProcess) -> None:
    """CRLF, and no line end after the last line."""
    found = []
    for name, text in {
        "plain.txt": b"\n".join(lines()) + b"\n", "crlf.txt": b"\r\n".join(lines()) + b"\r\n",
        "open.txt": b"\n".join(lines()),
    }.items():  # fmt: skip
        (recexp.folder / name).write_bytes(text)
        found.append(recexp.run("model=lr", "dataset=criteo", f"dataset.path={recexp.folder / name}", *FEW).tests)
    assert found[0] == found[1] == found[2]


def test_ratings_that_are_all_alike_are_no_clicks(recexp: InProcess) -> None:
    path = recexp.folder / "rows.csv"
    path.write_text("user,item\n" + "".join(f"u{n % 20},i{n % 7}\n" for n in range(200)))
    words = ["dataset=interactions", f"dataset.path={path}", "dataset.columns.rating=null", "dataset.columns.time=null"]
    said = recexp.refused("model=lr", *words, *FEW, code=1)
    assert "none of 200 rows would be clicks with problem.threshold=4" in said
    assert "dataset.columns.rating" in said
