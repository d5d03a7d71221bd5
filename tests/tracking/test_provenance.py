"""Provenance: the commit and its state, versions, the machine, and no secrets."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import recexp
from recexp.tracking import provenance


def _git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a copy of the package, as far as provenance looks at it."""
    package = tmp_path / "src" / "recexp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one\n")
    _git(tmp_path, "init", "-q", "-b", "trunk")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "first")
    _git(tmp_path, "remote", "add", "origin", "https://me:secret@host/recexp.git")
    monkeypatch.setattr(recexp, "__file__", str(package / "__init__.py"))
    return tmp_path


def test_the_commit_of_the_code(checkout: Path) -> None:
    found = provenance.facts(Path("/"))
    assert found["git.sha"] == _git(checkout, "rev-parse", "HEAD")
    assert (found["git.dirty"], found["git.branch"]) == ("false", "trunk")
    assert found["git.remote"] == "https://host/recexp.git"
    (checkout / "src" / "recexp" / "__init__.py").write_text("two\n")
    assert provenance.facts(Path("/"))["git.dirty"] == "true"


def test_an_installed_package_has_the_commit_of_the_working_directory(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("site-packages")
    (elsewhere / "__init__.py").write_text("")
    monkeypatch.setattr(recexp, "__file__", str(elsewhere / "__init__.py"))
    assert provenance.facts(checkout)["git.sha"] == _git(checkout, "rev-parse", "HEAD")
    assert "git.sha" not in provenance.facts(elsewhere)


def test_versions_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/recexp/__main__.py", "tracking.uri=http://u:secret@h", "a=b c"])
    found = provenance.facts(Path("/"))
    assert found["version.mlflow"] == importlib.metadata.version("mlflow")
    assert found["version.python"] == ".".join(map(str, sys.version_info[:3]))
    assert int(found["host.cores"]) > 0
    assert found["host.cpu"]
    assert found["command"] == "python -m recexp tracking.uri=http://h 'a=b c'"


def test_the_environment_and_what_is_not_committed(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    (environment,) = provenance.write_environment(run_dir)
    assert f"numpy=={importlib.metadata.version('numpy')}" in environment.read_text().splitlines()
    (checkout / "src" / "recexp" / "__init__.py").write_text("url = 'https://me:secret@host'\n" + "x" * 5000)
    monkeypatch.setattr(provenance, "MAX_DIFF_BYTES", 1000)
    diff = provenance.write_environment(run_dir)[1].read_text()
    assert "+url = 'https://host'" in diff
    assert "secret" not in diff
    assert diff.endswith("# cut after 1000 bytes\n")
    assert len(diff) < 1200


def test_no_git_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "version.python" in provenance.facts(Path("/"))
