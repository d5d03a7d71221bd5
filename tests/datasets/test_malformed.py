"""The policy for malformed rows, and the message about them."""

from __future__ import annotations

import pytest

from recexp.datasets.malformed import Malformed, Policy
from recexp.errors import DataError


def test_error_refuses_one_and_shows_the_first_five_in_order() -> None:
    malformed = Malformed("rows.csv", Policy())
    malformed.check(7)
    for row in (90, 80, 3, 4, 5, 6, 7):
        malformed.add("not_a_number" if row > 5 else "nul_byte", row, b"x\x1b[31m\0" + b"y" * 500)
    with pytest.raises(DataError) as caught:
        malformed.check(100)
    text = str(caught.value)
    assert "7 rows are malformed (not_a_number 4, nul_byte 3). 100 rows were read." in text
    assert [int(line.split()[1]) for line in text.splitlines() if line.startswith("  line")] == [3, 4, 5, 6, 7]
    assert "\x1b" not in text
    assert "\0" not in text
    assert max(len(line) for line in text.splitlines()) < 200
    assert "dataset.malformed=skip dataset.malformed_limit=7" in text


def test_skip_allows_up_to_the_limit() -> None:
    malformed = Malformed("x", Policy("skip", 2))
    malformed.add("a", 1, "x")
    malformed.add("a", 2, "x")
    malformed.check(10)
    malformed.add("a", 3, "x")
    with pytest.raises(DataError, match=r"or allow more of them than dataset.malformed_limit=2"):
        malformed.check(10)


def test_hopeless_file_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recexp.datasets.malformed._HOPELESS", 10)
    malformed = Malformed("x", Policy())
    for row in range(1, 10):
        malformed.add("a", row, "x")
    with pytest.raises(DataError, match="The first 10 lines were read; reading stopped there"):
        malformed.add("a", 10, "x")
    assert malformed.total == 10


def test_policy_from_configuration() -> None:
    assert Policy.of({}) == Policy("error", 100)
    assert Policy.of({"malformed": "skip", "malformed_limit": 3}) == Policy("skip", 3)
    with pytest.raises(ValueError, match="must be error or skip"):
        Policy("ignore")
    with pytest.raises(ValueError, match="at least 0"):
        Policy("skip", -1)
