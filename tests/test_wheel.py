"""The wheel holds conf/ and experiments/ and runs from an empty folder."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it; with hatchling installed no index is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = [] if importlib.util.find_spec("hatchling") is None else ["--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", *isolation, "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for top in ("conf", "experiments"):
        expected = {f"recexp/{path.relative_to(ROOT)}" for path in (ROOT / top).rglob("*.yaml")}
        assert expected
        assert expected <= names
    assert "recexp/cli.py" in names
    assert not any(name.startswith(("tests/", "recexp/tests")) or "__pycache__" in name for name in names)


def test_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    # The dependencies come from this environment, recexp itself does not: the venv's own folder is searched first,
    # and a .pth line adds the folder without running the .pth files in it (the editable install is one).
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    where = subprocess.run(
        [python, "-c", "import recexp; print(recexp.__file__)"], cwd=empty, capture_output=True, text=True, check=True
    )
    assert str(site) in where.stdout
    shown = subprocess.run(
        [python, "-m", "recexp", "--cfg", "job"], cwd=empty, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "name: attrec" in shown.stdout
    refused = subprocess.run(
        [python, "-m", "recexp", "experiment=attrec_ml1"], cwd=empty, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "Did you mean attrec_ml1m?" in refused.stderr
    assert list(empty.iterdir()) == []
