"""Names as MLflow itself judges them, and credentials kept out of texts."""

from __future__ import annotations

import pytest

from recexp.tracking import names

LEGAL = ["val/hr_at_10", "perf/step_ms p50", "sys/a.b-c", "a:b", "train/loss"]
ILLEGAL = ["val/hr@10", "a//b", "/a", "../a", ".", "a(b)", "", "a/"]


@pytest.mark.parametrize("name", [*LEGAL, *ILLEGAL])
def test_mlflow_agrees(name: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_metric_name

    def judge(check) -> bool:
        try:
            check(name)
        except (MlflowException, ValueError):
            return False
        return True

    assert judge(names.check_name) == judge(_validate_metric_name) == (name in LEGAL)


def test_a_name_may_be_as_long_as_mlflow_lets_it() -> None:
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH

    names.check_name("a" * MAX_ENTITY_KEY_LENGTH)
    with pytest.raises(ValueError, match="251 characters"):
        names.check_name("a" * (MAX_ENTITY_KEY_LENGTH + 1))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:secret@host/x", "https://host/x"),
        ("postgresql+psycopg://u:p@db:5432/m", "postgresql+psycopg://db:5432/m"),
        ("a https://t0ken@h/ b http://u:p@i/", "a https://h/ b http://i/"),
        ("git@github.com:me/it.git", "git@github.com:me/it.git"),
        ("http://host/path@10", "http://host/path@10"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    assert names.scrub(text) == clean
