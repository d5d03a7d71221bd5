"""The click problem whole: a small network trained through the real loop, its numbers against scikit-learn."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn import metrics
from torch import Tensor, nn

from recexp.config.settings import OptimSettings, TrainerSettings
from recexp.datasets.events import DataMeta
from recexp.datasets.impressions import Field, Impressions
from recexp.errors import ConfigError, DataError
from recexp.problems.click import ClickBatch, ClickSizes
from recexp.problems.click_build import base_rate_floor, build
from recexp.problems.module import StepSettings
from recexp.problems.posed import Posed
from recexp.training.optimizers import make_optimizer

META = DataMeta("handmade", "0" * 64, "none", "test", synthetic=True, rows_read=3000)


class Weights(nn.Module):
    """A weight for each id of the first field."""

    reduction = "mean"

    def __init__(self, sizes: ClickSizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(sizes.fields[0].size))

    def logits(self, batch: ClickBatch) -> Tensor:
        return self.weight[batch.ids[:, 0].long()]

    def loss(self, batch: ClickBatch) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self.logits(batch), batch.label, reduction="none")

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.weight]}]


@pytest.fixture(scope="module")
def data() -> Impressions:
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 20, (3000, 1)).astype(np.int32)
    label = (draw.random(3000) < 0.1 + 0.04 * ids[:, 0]).astype(np.uint8)
    return Impressions(
        label=label, dense=np.zeros((3000, 0), np.float32), ids=ids, fields=(Field("kind", 20),), dense_names=(),
        bounds=(0, 2000, 2500, 3000), split="by hand", meta=META,
    )  # fmt: skip


def config(**problem: Any) -> dict[str, Any]:
    options = {
        "name": "click", "auc": "exact", "auc_bins": 65536, "shuffle": "window", "shuffle_window": 4096,
        "drop_last": False, "floor": True, **problem,
    }  # fmt: skip
    return {"problem": options, "dataset": {"name": "handmade", "batch_size": 50, "eval_batch_size": 64}, "seed": 1}


def posed(data: Impressions, whole: Mapping[str, Any], **trainer: Any) -> Posed:
    settings = OptimSettings(name="sgd", lr=2.0)
    step = StepSettings(make_optimizer=make_optimizer(settings, None, kernels="plain"))
    return build(whole, data, trainer=TrainerSettings(**trainer), step=step, make_network=Weights)


def run(one: Posed, epochs: int = 3) -> dict[str, float]:
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(one.module, datamodule=one.data)
    trainer.test(one.module, datamodule=one.data, verbose=False)
    return one.module.results


@pytest.mark.parametrize("auc", ["exact", "histogram"])
def test_numbers_are_those_of_scikit_learn(data: Impressions, auc: str) -> None:
    one = posed(data, config(auc=auc))
    found = run(one)
    weight = one.module.network.weight.detach().double().numpy()  # type: ignore[union-attr]
    for split in ("val", "test"):
        rows = data.part(split)
        label, p = data.label[rows], 1 / (1 + np.exp(-weight[data.ids[rows, 0]]))
        assert found[f"{split}/auc"] == pytest.approx(metrics.roc_auc_score(label, p), abs=1e-9)
        assert found[f"{split}/logloss"] == pytest.approx(metrics.log_loss(label, p), abs=1e-6)
        assert found[f"{split}/ap"] == pytest.approx(metrics.average_precision_score(label, p), abs=1e-9)
        assert found[f"{split}/accuracy"] == pytest.approx(metrics.accuracy_score(label, np.round(p)), abs=1e-9)
        assert found[f"{split}/calibration"] == pytest.approx(p.mean() / label.mean(), abs=1e-6)
    assert found["test/auc"] > 0.65
    assert one.floor is not None
    floor = one.floor(torch.device("cpu"))
    rate, labels = data.label[:2000].mean(), data.label[2500:]
    assert floor["test/logloss"] == pytest.approx(metrics.log_loss(labels, np.full(500, rate)), abs=1e-6)
    assert floor["test/auc"] == 0.5
    assert found["test/logloss"] < floor["test/logloss"]


def test_the_evaluation_batch_decides_nothing(data: Impressions) -> None:
    whole = config()
    found = run(posed(data, whole))
    whole["dataset"]["eval_batch_size"] = 7
    assert run(posed(data, whole)) == found


def test_a_monitored_loss_is_better_when_it_is_lower(data: Impressions) -> None:
    one = posed(data, config())
    assert one.headline == "val/auc"
    assert {"val/logloss", "val/ece"} <= one.lower_is_better


def test_chance_is_called_by_its_name(data: Impressions, caplog: pytest.LogCaptureFixture) -> None:
    shuffled = dataclasses.replace(data, ids=np.zeros_like(data.ids))
    with caplog.at_level(logging.WARNING):
        assert run(posed(shuffled, config()), epochs=1)["test/auc"] == 0.5
    assert "no better than chance" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        run(posed(data, config()))
    assert "chance" not in caplog.text


@pytest.mark.filterwarnings("ignore:Total length of .list. across ranks is zero")
def test_without_validation_the_last_state_is_tested(data: Impressions) -> None:
    one = posed(dataclasses.replace(data, bounds=(0, 2500, 2500, 3000)), config())
    assert not one.validates
    assert "val/auc" not in run(one)


def test_nothing_to_test_on_is_refused(data: Impressions) -> None:
    with pytest.raises(ConfigError, match=r"no rows for test \(rows: train 2,000, val 1,000, test 0\)"):
        posed(dataclasses.replace(data, bounds=(0, 2000, 3000, 3000)), config())


def test_the_protocol_knows_data_split_and_form(data: Impressions) -> None:
    exact, histogram = posed(data, config()).protocol, posed(data, config(auc="histogram")).protocol
    assert exact != histogram
    assert exact["split"] == "by hand"
    assert exact["data"] == META.fingerprint


def test_limited_evaluation_has_the_floor_of_its_rows(data: Impressions) -> None:
    one = posed(data, config(), limit_eval_users=100)
    assert one.floor is not None
    rate, labels = data.label[:2000].mean(), data.label[2500:2600]
    expected = -(labels * math.log(rate) + (1 - labels) * math.log(1 - rate)).mean()
    assert one.floor(torch.device("cpu"))["test/logloss"] == pytest.approx(expected, abs=1e-6)


def test_a_training_part_of_one_class_has_a_floor(data: Impressions) -> None:
    label = data.label.copy()
    label[:2000] = 0
    assert base_rate_floor(dataclasses.replace(data, label=label))["accuracy"] == pytest.approx(1 - label[2500:].mean())


@pytest.mark.parametrize(("label", "words"), [(0, "none of its 2,000"), (1, "all of its 2,000")])
def test_training_rows_of_one_label_are_refused(data: Impressions, label: int, words: str) -> None:
    labels = data.label.copy()
    labels[:2000] = label
    with pytest.raises(DataError, match=f"dataset=handmade: {words} training rows are clicks"):
        posed(dataclasses.replace(data, label=labels), config())
