"""Did you mean: near words are found, far ones are not."""

from __future__ import annotations

import pytest

from recexp.config.suggest import closest, closest_key, did_you_mean

KEYS = ["optim.lr", "optim.name", "trainer.max_epochs", "trainer.max_steps", "dataset.batch_size", "seed"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("attrek", "attrec"), ("ATTREC", "attrec"), ("att-rec", "attrec"), ("ml1n", "ml1m"), ("zzz", None), ("", None)],
)
def test_closest(word: str, meant: str | None) -> None:
    assert closest(word, ["attrec", "deepfm", "ml1m"]) == meant


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optim.lrr", "optim.lr"),
        ("lr", "optim.lr"),
        ("trainer.lr", "optim.lr"),
        ("batch-size", "dataset.batch_size"),
        ("trianer.max_epochs", "trainer.max_epochs"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("sede", "seed"),
        ("optim.foo", None),
    ],
)
def test_closest_key(key: str, meant: str | None) -> None:
    assert closest_key(key, KEYS) == meant


def test_did_you_mean() -> None:
    assert did_you_mean(None) == ""
    assert did_you_mean("seed") == " Did you mean seed?"
