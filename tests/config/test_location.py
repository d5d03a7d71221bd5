"""One function finds conf/ and experiments/: checkout, installed package, the user's own folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recexp.config import location
from recexp.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_checkout() -> None:
    found = location.find()
    assert found.conf == ROOT / "conf"
    assert found.experiments == ROOT / "experiments"


def test_own_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert location.find().own is None
    (tmp_path / "experiments").mkdir()
    assert location.find().own == tmp_path.resolve() / "experiments"


def test_in_the_checkout_the_shipped_folder_is_not_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert location.find().own is None


def test_deleted_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert location.find().own is None


def test_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "recexp"
    (package / "config").mkdir(parents=True)
    shutil.copytree(ROOT / "conf", package / "conf")
    monkeypatch.setattr(location, "__file__", str(package / "config" / "location.py"))
    assert location.find().conf == package / "conf"
    (package / "conf" / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="incomplete"):
        location.find()
