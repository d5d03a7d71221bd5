"""Click metrics against scikit-learn, against all pairs, and over two processes."""

from __future__ import annotations

import json
import logging
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from torch import distributed, multiprocessing

from recexp.metrics import clicks
from recexp.metrics.auc import LARGEST_LOGIT, bin_of, roc_auc
from recexp.metrics.clicks import ClickMetrics
from recexp.metrics.probabilities import ECE_BINS, base_rate_metrics

SHARED = os.environ.get("RECEXP_SHARED", "")
FOLDERS = [Path(__file__).parents[1] / "golden", Path(SHARED) / "golden"]
GOLDEN = next((folder / "dlrm.json" for folder in FOLDERS if (folder / "dlrm.json").exists()), FOLDERS[0])


def drawn(rows: int, seed: int = 0, digits: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with many ties, and labels that depend on them."""
    draw = np.random.default_rng(seed)
    logits = np.round(draw.normal(-1, 1.5, rows), digits).astype(np.float32)
    labels = (draw.random(rows) < 1 / (1 + np.exp(-logits / 2))).astype(np.float32)
    return torch.from_numpy(logits), torch.from_numpy(labels)


def computed(logits: torch.Tensor, labels: torch.Tensor, metrics: ClickMetrics | None = None) -> dict[str, float]:
    metrics = metrics or ClickMetrics()
    for part, own in zip(logits.split(97), labels.split(97), strict=True):
        metrics.update(part, own)
    return metrics.compute()


def reference(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """The obvious way."""
    z, y = logits.double().numpy(), labels.double().numpy()
    p = 1 / (1 + np.exp(-z))
    bins = [[i for i, x in enumerate(p) if k / ECE_BINS <= x < (k + 1) / ECE_BINS] for k in range(ECE_BINS)]
    return {
        "auc": roc_auc_score(y, z),
        "logloss": log_loss(y, p),
        "accuracy": float(np.mean(np.round(p) == y)),
        "ap": average_precision_score(y, z),
        "calibration": p.mean() / y.mean(),
        "ece": sum(abs(p[own].mean() - y[own].mean()) * len(own) for own in bins if own) / len(y),
    }


@pytest.mark.parametrize("digits", [0, 2, 7])
def test_against_scikit_learn(digits: int) -> None:
    logits, labels = drawn(3000, digits=digits)
    assert computed(logits, labels) == pytest.approx(reference(logits, labels), rel=1e-12)


def test_golden() -> None:
    if not GOLDEN.exists():
        pytest.skip("the golden cases are not there")
    case = {case["name"]: case for case in json.loads(GOLDEN.read_text())["cases"]}["bce_and_wbce"]
    p, y = torch.tensor(case["input"]["p"], dtype=torch.float64), torch.tensor(case["input"]["y"])
    values = computed(torch.log(p / (1 - p)).float(), y)
    for name, key in (("logloss", "bce"), ("accuracy", "accuracy"), ("auc", "auc")):
        assert values[name] == pytest.approx(case["expected"][key], rel=1e-6)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_against_all_pairs(rows: list[tuple[int, bool]]) -> None:
    positive, negative = [z for z, y in rows if y], [z for z, y in rows if not y]
    values = computed(torch.tensor([float(z) for z, _ in rows]), torch.tensor([float(y) for _, y in rows]))
    if not positive or not negative:
        assert math.isnan(values["auc"])
        return
    won = sum(Fraction(2 * (a > b) + (a == b), 2) for a in positive for b in negative)
    assert values["auc"] == float(won / (len(positive) * len(negative)))


def test_a_half_predicts_no_click() -> None:
    values = computed(torch.tensor([0.0, 0.0, -0.0, 1e-6]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert values["accuracy"] == 0.75
    assert np.round(0.5) == 0


def test_infinite_scores_are_scores() -> None:
    inf = math.inf
    logits, labels = torch.tensor([inf, inf, -inf, 0.0, -inf]), torch.tensor([1.0, 1, 0, 0, 0])
    values = computed(logits, labels)
    assert values["auc"] == values["ap"] == 1.0
    assert values["logloss"] == pytest.approx(math.log(2) / 5)
    assert computed(logits, 1 - labels)["logloss"] == inf
    small = torch.tensor([-200.0, 700.0])
    assert computed(small, torch.tensor([1.0, 0.0]))["logloss"] == 450


@pytest.mark.parametrize("form", ["exact", "histogram"])
def test_a_score_that_is_no_number_is_counted_and_said(form: str, caplog: pytest.LogCaptureFixture) -> None:
    metrics = ClickMetrics(form)
    values = computed(torch.tensor([0.1, math.nan, 0.3, math.nan]), torch.tensor([1.0, 0, 0, 1]), metrics)
    assert all(math.isnan(value) for value in values.values())
    assert "2 scores are not a number" in caplog.text
    metrics.reset()
    assert computed(torch.tensor([0.1, 0.3]), torch.tensor([1.0, 0.0]), metrics)["auc"] == 0.0
    assert math.isnan(roc_auc(np.array([0.1, np.nan], np.float32), np.array([0, 1], np.uint8)))


@pytest.mark.parametrize("form", ["exact", "histogram"])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_only(form: str, label: float, caplog: pytest.LogCaptureFixture) -> None:
    values = computed(torch.tensor([0.5, -1.0]), torch.full((2,), label), ClickMetrics(form))
    assert math.isnan(values["auc"])
    assert "one kind is missing" in caplog.text
    assert math.isfinite(values["logloss"])
    assert math.isnan(values["calibration"]) == math.isnan(values["ap"]) == (label == 0)


def test_nothing_seen() -> None:
    for form in ("exact", "histogram"):
        metrics = ClickMetrics(form)
        values = metrics.compute()
        assert list(values) == metrics.metric_names()
        assert all(map(math.isnan, values.values()))


def test_neither_order_nor_batches_change_a_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn(5000, digits=7)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(1))
    once = computed(logits, labels)
    monkeypatch.setattr(clicks, "WAITING_ROWS", 300)
    assert computed(logits[order], labels[order]) == once


def test_batches_may_be_overwritten() -> None:
    metrics, buffer, label = ClickMetrics(), torch.zeros(2), torch.tensor([1.0, 0.0])
    buffer.copy_(torch.tensor([2.0, 1.0]))
    metrics.update(buffer, label)
    buffer.zero_()
    label.zero_()
    assert metrics.compute()["auc"] == 1.0


@pytest.mark.parametrize("bins", [2, 64, 65536])
def test_the_histogram_is_as_far_off_as_it_says(bins: int) -> None:
    logits, labels = drawn(4000, digits=5)
    values, exact = computed(logits, labels, ClickMetrics("histogram", bins)), reference(logits, labels)
    bound = values.pop("auc_error_bound")
    assert abs(values["auc"] - exact["auc"]) <= bound <= 0.5
    number = bin_of(logits.numpy(), bins)
    rounded = torch.from_numpy(number.astype(np.float32))
    # Exactly the areas of the scores rounded to their bins.
    expected = exact | {"auc": roc_auc_score(labels, rounded), "ap": average_precision_score(labels, rounded)}
    assert values == pytest.approx(expected, rel=1e-12)
    same = (number[labels == 1][:, None] == number[labels == 0][None]).mean()
    assert bound == pytest.approx(same / 2, rel=1e-12)
    if bins == 65536:
        assert bound < 2e-4


def test_the_bound_of_the_histogram_can_be_reached() -> None:
    """Two scores that share a bin, right or wrong way round: the area is a half, and off by a half."""
    for scores in ([0.1, 0.2], [0.2, 0.1]):
        values = computed(torch.tensor(scores), torch.tensor([0.0, 1.0]), ClickMetrics("histogram", 2))
        assert (values["auc"], values["auc_error_bound"]) == (0.5, 0.5)


def test_bins_rise_with_the_score_and_take_every_score() -> None:
    edge = float(LARGEST_LOGIT)
    scores = np.array([-np.inf, -1e30, -edge, -1, 0, 1, edge, 1e30, np.inf], np.float32)
    number = bin_of(scores, 10)
    assert (np.diff(number) >= 0).all()
    assert number[0] == 0
    assert number[-1] == 9


def test_what_is_not_legal() -> None:
    with pytest.raises(ValueError, match="exact, histogram"):
        ClickMetrics("exakt")
    with pytest.raises(ValueError, match="at least 2"):
        ClickMetrics("histogram", 1)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_floor_is_what_a_constant_prediction_gives(rate: float) -> None:
    labels = torch.tensor([1.0, 0, 0, 1, 0])
    logit = math.log(rate / (1 - rate)) if 0 < rate < 1 else (rate - 0.5) * math.inf
    values = base_rate_metrics(rate, clicks=2, rows=5)
    expected = computed(torch.full((5,), logit), labels)
    assert values == {name: pytest.approx(value, rel=1e-6, abs=1e-6) for name, value in expected.items()}
    with pytest.raises(ValueError, match="0 to 1"):
        base_rate_metrics(1.5, clicks=2, rows=5)


def process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    logits, labels = drawn(1001)
    # The second process saw fewer rows, and at last none.
    own = slice(0, 900) if rank == 0 else slice(900, None)
    for form in ("exact", "histogram"):
        metrics = ClickMetrics(form, 500)
        values = [computed(logits[own], labels[own], metrics)]
        metrics.reset()
        if rank == 0:
            metrics.update(logits, labels)
        values.append(metrics.compute())
        metrics.reset()
        metrics.update(torch.tensor([math.nan if rank else 0.0]), torch.tensor([1.0]))
        values.append(metrics.compute())
        (Path(folder) / f"{form}-{rank}.json").write_text(json.dumps(values))
    distributed.destroy_process_group()


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    for form in ("exact", "histogram"):
        expected = computed(*drawn(1001), ClickMetrics(form, 500))
        for rank in range(2):
            shared, alone, undefined = json.loads((tmp_path / f"{form}-{rank}.json").read_text())
            if form == "exact":
                assert shared == alone == expected
            assert shared == pytest.approx(expected, rel=1e-12)
            assert alone == pytest.approx(expected, rel=1e-12)
            assert all(map(math.isnan, undefined.values()))


def test_nothing_is_said_without_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        computed(*drawn(50))
    assert not caplog.records
