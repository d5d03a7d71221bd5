"""Requests as files and as lines, answers as lines."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from recexp.errors import DataError
from recexp.tasks.predict import assert_writable, read_requests, write_answers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('{\n "a": 1\n}\n', [{"a": 1}]),
        ('{"a": 1}', [{"a": 1}]),
        ('\ufeff{"a": 1}\r\n{"a": 2}\r\n', [{"a": 1}, {"a": 2}]),
        ('{"a": "one\u2028line"}\n{"a": 2}', [{"a": "one\u2028line"}, {"a": 2}]),
    ],
)
def test_lists_objects_and_lines(text: str, expected: list[object], tmp_path: Path) -> None:
    path = tmp_path / "sent.json"
    path.write_text(text)
    assert read_requests(str(path)) == expected


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}\n'))
    assert read_requests("-") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n{"a": }\n', "line 2, column 7: this is not JSON"),
        ('[{"a": 1},\n {"a" 2}]', "line 2, column 7: this is not JSON"),
        ("[" * 100_000, "line 1: this cannot be read: maximum recursion"),
        ('{"a": 1}\n{"a": ' + "9" * 5000 + "}", "line 2: this cannot be read: Exceeds the limit"),
        (" \n", "is empty; expected a JSON list"),
        ("[]", "holds no request"),
    ],
)
def test_what_is_no_json_is_placed(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "sent.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_requests(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_requests(str(tmp_path / "none.json"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="utf-8"):
        read_requests(str(tmp_path / "bytes"))


def test_answers_are_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [{"id": "ä"}, {"id": "b"}, {"id": "half a pair \ud800"}]
    write_answers(answers, None)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == answers
    path = tmp_path / "answers.jsonl"
    write_answers(answers, str(path))
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == answers


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    assert_writable(None)
    assert_writable(str(tmp_path / "answers.jsonl"))
    with pytest.raises(DataError, match="is a folder"):
        assert_writable(str(tmp_path))
    with pytest.raises(DataError, match="there is no folder"):
        assert_writable(str(tmp_path / "none" / "answers.jsonl"))
