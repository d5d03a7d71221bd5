"""The compiled loops against numpy in double precision, and what happens where they cannot be compiled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recexp.models import kernels, native
from recexp.models.gru_arithmetic import ByNumpy, Compiled, Work
from recexp.models.native_check import check
from recexp.models.products import LARGE, linear
from recexp.models.tables import RowGradient
from recexp.training.row_rules import AdagradMomentum
from recexp.training.rules_in_place import in_place


@pytest.fixture(autouse=True)
def fresh(compiled: Path) -> Iterator[None]:
    native._library.cache_clear()
    kernels.choose("auto", compiled)
    yield
    native._library.cache_clear()
    kernels.choose("auto")


@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@pytest.mark.parametrize("masked", [True, False])
def test_a_step_there_and_back(scale: float, masked: bool) -> None:
    torch.manual_seed(1)
    library = native.library()
    assert library is not None
    slots, hidden = 7, 33
    one, other = Work(slots, 5, hidden), Work(slots, 5, hidden)
    state, mask = torch.randn(slots, hidden), (torch.rand(slots, hidden) > 0.4) / 0.6 if masked else None
    for name in ("projected", "recurrent", "d_query"):
        value = torch.randn(getattr(one, name).tensor.shape) * scale
        getattr(one, name).tensor.copy_(value)
        getattr(other, name).tensor.copy_(value)
    biases = [torch.empty(3 * hidden) for _ in range(4)]
    Compiled(library).forward(one, state, mask)
    ByNumpy().forward(other, state, mask)
    Compiled(library).backward(one, mask, *biases[:2])
    ByNumpy().backward(other, mask, *biases[2:])
    atol = 2e-6 * max(1.0, scale)
    for name in ("gates", "candidate", "difference", "query", "d_projected", "d_recurrent"):
        torch.testing.assert_close(getattr(one, name).tensor, getattr(other, name).tensor, rtol=2e-5, atol=atol)
    for mine, theirs in zip(biases[:2], biases[2:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-4, atol=10 * atol)


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 2100])
def test_softmax_and_its_gradient(columns: int) -> None:
    torch.manual_seed(2)
    library = native.library()
    assert library is not None
    scores = torch.randn(9, columns) * 30
    own = np.arange(9) % columns
    if columns > 20:
        scores[:, 18] = float("-inf")
    expected = scores.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(expected, torch.from_numpy(own), reduction="sum")
    (loss * 0.5).backward()
    found, gradient, transposed, sums = Compiled(library).softmax(scores.clone(), own, 0.5)
    assert found == pytest.approx(float(loss.detach()), rel=1e-5, abs=1e-5)
    torch.testing.assert_close(gradient.double(), expected.grad, rtol=1e-4, atol=1e-6)
    assert torch.equal(transposed, gradient.t())
    torch.testing.assert_close(sums, gradient.sum(0), rtol=1e-5, atol=1e-6)


def test_a_score_that_is_no_number_is_seen_in_the_loss() -> None:
    library = native.library()
    assert library is not None
    scores = torch.zeros(2, 4)
    scores[1, 2] = float("nan")
    assert np.isnan(Compiled(library).softmax(scores, np.array([0, 1]), 1.0)[0])


def test_adagrad_in_place() -> None:
    rule = AdagradMomentum(0.3, eps=1e-4)
    loops = in_place(rule)
    assert loops is not None
    value, gradient, rows = torch.randn(20, 7), torch.randn(5, 7), torch.tensor([3, 19, 0, 4, 11])
    state = {"sum": torch.rand(20, 7), "velocity": torch.randn(20, 7)}
    expected = value.clone()
    parts = {name: tensor[rows] for name, tensor in state.items()}
    moved = value[rows]
    rule.apply(moved, gradient, parts, 0.1, 1)
    expected[rows] = moved
    loops.rows(value, RowGradient(rows, gradient), state, 0.1)
    torch.testing.assert_close(value, expected)
    for name, tensor in parts.items():
        torch.testing.assert_close(state[name][rows], tensor)
    whole, also, dense = value.clone(), value.clone(), torch.randn(20, 7)
    copies = {name: tensor.clone() for name, tensor in state.items()}
    rule.apply(whole, dense, copies, 0.1, 1)
    loops.whole(also, dense, state, 0.1)
    torch.testing.assert_close(also, whole)
    assert in_place(AdagradMomentum(0.0)) is None


def test_what_was_compiled_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.choose("auto", tmp_path / "new")
    assert native.library() is not None
    (built,) = (tmp_path / "new").iterdir()
    stamp = built.stat().st_mtime_ns
    native._library.cache_clear()
    assert native.library() is not None
    assert built.stat().st_mtime_ns == stamp
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DOTHER"))
    native._library.cache_clear()
    assert native.library() is not None
    assert len(list((tmp_path / "new").iterdir())) == 2


@pytest.mark.parametrize("share", [pytest.param(n, marks=pytest.mark.slow) for n in (0.0, 0.3, 0.999)] + [0.7])
def test_a_damaged_library_is_compiled_again(share: float, tmp_path: Path) -> None:
    kernels.choose("auto", tmp_path / "new")
    assert native.library() is not None
    (built,) = (tmp_path / "new").iterdir()
    content = built.read_bytes()
    built.unlink()  # it is mapped: a new file, as another process would find it
    built.write_bytes(content[: int(len(content) * share)])
    native._library.cache_clear()
    assert native.library() is not None
    assert built.read_bytes()[-native._SUM_BYTES :] == content[-native._SUM_BYTES :]


@pytest.mark.parametrize("whose", ["folder", "file"])
def test_code_that_others_could_have_written_is_not_loaded(whose: str, tmp_path: Path) -> None:
    kernels.choose("auto", tmp_path / "new")
    assert native.library() is not None
    (built,) = (tmp_path / "new").iterdir()
    (built if whose == "file" else built.parent).chmod(0o777)
    assert not native._is_sound(built)
    native._library.cache_clear()
    loaded = native.library()
    assert loaded is not None
    assert (loaded._name == str(built)) == (whose == "file")


def test_the_compiler_that_is_named_may_have_words_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels.choose("auto", tmp_path / "new")
    monkeypatch.setenv("CXX", "c++ -DANYTHING")
    with caplog.at_level(logging.INFO):
        assert native.library() is not None
    assert "with c++ -DANYTHING" in caplog.text
    native._library.cache_clear()
    monkeypatch.setenv("CXX", "false")
    assert native.library() is not None


@pytest.mark.parametrize("trouble", ["no compiler", "broken source", "wrong result", "read-only"])
def test_without_the_loops_everything_goes_on(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels.choose("auto", tmp_path / "new")
    if trouble == "no compiler":
        monkeypatch.setattr(native.shutil, "which", lambda name: None)
    elif trouble == "read-only":
        (tmp_path / "new").write_text("a file where the folder should be")
    else:
        copies = [tmp_path / source.name for source in native.SOURCES]
        for copy, source in zip(copies, native.SOURCES, strict=True):
            copy.write_text(source.read_text())
        text = copies[0].read_text()
        changed = "nonsense" if trouble == "broken source" else text.replace("row[own[i]] -= scale;", "")
        assert changed != text
        copies[0].write_text(changed)
        monkeypatch.setattr(native, "SOURCES", tuple(copies))
    with caplog.at_level(logging.INFO):
        assert native.library() is None
    assert "slower operators" in caplog.text
    assert in_place(AdagradMomentum(0.3)) is None


def test_plain_kernels_use_no_loops(compiled: Path) -> None:
    kernels.choose("plain", compiled)
    assert native.library() is None


@pytest.mark.parametrize("rows", [3, 64])
def test_products(rows: int) -> None:
    """Above and below the size from which another library does them, strided operands too."""
    x, weight, bias = torch.randn(rows, 50), torch.randn(2000, 50), torch.randn(2000)
    assert (x.numel() * 2000 >= LARGE) == (rows == 64)
    expected = x.double() @ weight.double().T + bias
    torch.testing.assert_close(linear(x, weight, bias).double(), expected, rtol=1e-4, atol=1e-4)
    out = torch.empty(rows, 2000)
    assert linear(x, weight.t().contiguous().t(), out=out) is out
    torch.testing.assert_close(out.double(), expected - bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", ["softmax_gradient", "adagrad_momentum", "graph_forward", "graph_backward"])
def test_each_family_of_loops_is_looked_at_when_it_is_loaded(wrong: str) -> None:
    library = native.library()
    assert library is not None

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: 0.0) if name == wrong else getattr(library, name)

    check(library)
    with pytest.raises(ValueError, match="does not compute"):
        check(Broken())  # type: ignore[arg-type]
