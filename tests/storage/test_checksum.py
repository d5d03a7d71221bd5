"""Checksums of files and of JSON values."""

from __future__ import annotations

from pathlib import Path

import pytest

from recexp.storage.checksum import sha256_file, sha256_json


def test_known_value(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_order_of_keys_and_of_lists() -> None:
    assert sha256_json({"a": 1, "b": [256, 128]}) == sha256_json({"b": [256, 128], "a": 1})
    assert sha256_json([256, 128]) != sha256_json([128, 256])
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})
    with pytest.raises(ValueError, match="JSON"):
        sha256_json(float("inf"))
