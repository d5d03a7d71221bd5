"""Whole commands in this process, where torch is imported already: some tenths of a second instead of seconds."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from recexp import cli
from recexp.models import kernels

#: The first folder of compiled loops of this process: what they are compiled from does not change.
_compiled: list[Path] = []
#: Whose levels a command sets for its process.
LOGGERS = ("recexp", "pytorch_lightning", "lightning.pytorch")


@dataclass(frozen=True)
class Done:
    """What a command has said."""

    code: int
    out: str
    err: str

    @property
    def tests(self) -> dict[str, str]:
        """The test metrics of the printed result, as they are shown."""
        rows = [line.split() for line in self.out.splitlines() if line.startswith("test/")]
        return {name: value for name, value, *_ in rows}


class InProcess:
    """Runs commands with their runs in one folder and their data in another."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self._native = folder, cache / "native"
        if _compiled and not self._native.exists():
            shutil.copytree(_compiled[0], self._native)
        self._own = [
            "device=cpu", "device.threads=1", "tracking=off", "trainer.progress=off", f"paths.root={folder}",
            f"paths.cache={cache}",
        ]  # fmt: skip

    def attempt(self, *words: str) -> Done:
        """Run a command; nothing that it sets for the process stays."""
        out, err = io.StringIO(), io.StringIO()
        environment, threads = dict(os.environ), torch.get_num_threads()
        loggers = {name: logging.getLogger(name) for name in ("", *LOGGERS)}
        levels, handlers = {name: logger.level for name, logger in loggers.items()}, loggers[""].handlers[:]
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                warnings.catch_warnings(record=True) as warned,
            ):
                # Whoever types the command sees these.
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", UserWarning)
                warnings.simplefilter("always", RuntimeWarning)
                found = cli.main([*self._own, *words])
            err.writelines(f"{warning.category.__name__}: {warning.message}\n" for warning in warned)
        finally:
            os.environ.clear()
            os.environ.update(environment)
            torch.set_num_threads(threads)
            kernels.choose("auto")
            for name, logger in loggers.items():
                logger.setLevel(levels[name])
            loggers[""].handlers[:] = handlers
        if not _compiled and any(self._native.glob("*.so")):
            _compiled.append(self._native)
        return Done(found, out.getvalue(), err.getvalue())

    def run(self, *words: str, code: int = 0) -> Done:
        """Run a command and compare its exit code."""
        done = self.attempt(*words)
        assert done.code == code, f"exit code {done.code}\n{done.out}\n{done.err}"
        return done

    def refused(self, *words: str, code: int) -> str:
        """Run a command that must fail; its message, which is one for a person."""
        err = self.run(*words, code=code).err
        assert "recexp: " in err
        assert "Traceback" not in err
        return err

    def runs(self) -> list[Path]:
        """All run directories, the oldest first."""
        return sorted((path.parent for path in self.folder.glob("runs/*/*/run.json")), key=lambda p: p.stat().st_ctime)
