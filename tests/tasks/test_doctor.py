"""The doctor's findings, its exit code, and that a broken torch is a finding."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from recexp.config.compose import compose
from recexp.errors import DeviceError
from recexp.tasks import doctor


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for variable in ("MLFLOW_TRACKING_URI", "RECEXP_DATA", "RECEXP_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    return ["task=doctor", "device=cpu", f"paths.root={tmp_path}", f"paths.cache={tmp_path / 'cache'}"]


def output(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    doctor.run(compose(words))
    return capsys.readouterr().out


def test_everything_is_shown(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(words, capsys)
    assert torch.__version__ in text
    for row in ("versions", "machine", "devices", "data", "tracking", "auto ", "cpu ", "cuda ", "mps ", "ml1m "):
        assert row in text, row
    assert "mlflow.db, will be created by the first run" in text
    assert not (tmp_path / "mlflow.db").exists()


def test_a_copy_of_the_user_s_is_found(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ml-1m.zip").touch()
    text = output([*words, f"paths.data={tmp_path}"], capsys)
    assert f"your copy {tmp_path / 'ml-1m.zip'}" in text
    assert text.count("your copy") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_device_that_was_asked_for_and_is_not_usable_fails_after_the_tables(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceError, match=r"device=cuda.*not usable") as caught:
        doctor.run(compose([*words, "device=cuda"]))
    assert caught.value.exit_code == 2
    assert "tracking" in capsys.readouterr().out


def test_a_server_that_is_down_or_silent_is_said_within_seconds(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{closed.getsockname()[1]}"
        began = time.monotonic()
        text = output([*words, f"tracking.uri={address}"], capsys)
    assert "does not answer" in text
    assert "secret" not in text
    assert time.monotonic() - began < 60


def test_a_server_that_listens_answers(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        text = output([*words, f"tracking.uri=http://127.0.0.1:{server.getsockname()[1]}"], capsys)
    assert ", answers" in text


def test_a_broken_torch_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "raise OSError('libtorch_cpu.so: cannot open shared object file')\n"
    )
    code = (
        "from recexp.config.compose import compose; from recexp.tasks.doctor import run; run(compose(['device=cpu']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert "OSError: libtorch_cpu.so: cannot open shared object file" in done.stdout
    assert "tracking" in done.stdout
    assert "DeviceError" in done.stderr
