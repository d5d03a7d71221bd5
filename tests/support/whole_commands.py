"""Whole commands, as a user types them, in an empty folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

#: Small enough for seconds, large enough for several epochs and blocks.
SMALL = [
    "model=attrec", "dataset=ml1m_synthetic", "device=cpu", "device.threads=1", "trainer.max_epochs=3", "model.dim=16",
    "dataset.batch_size=128", "trainer.updates_per_block=4", "trainer.progress=lines",
]  # fmt: skip


class Recexp:
    """Starts ``python -m recexp`` in a folder."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "RECEXP"))},
            "RECEXP_CACHE": str(cache),
        }

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        """A process in a group of its own, so that a test can kill all of it."""
        command = [sys.executable, "-m", "recexp", *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **options,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end and compare the exit code."""
        process = self.start(*words)
        out, error = process.communicate(timeout=240)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{error}"
        return subprocess.CompletedProcess(words, process.returncode, out, error)

    def runs(self) -> list[Path]:
        """All run directories, the oldest first."""
        return sorted((path.parent for path in self.folder.glob("runs/*/*/run.json")), key=lambda p: p.stat().st_ctime)

    def points(self, run: Path) -> list[tuple[str, int, object]]:
        """(name, step, value) of every point in a run's journal, in order; timings left out."""
        found = []
        for line in (run / "journal.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["e"] == "metrics":
                found += [(name, event["step"], value) for name, value in event["m"].items()]
        return [point for point in found if not point[0].startswith(("perf/", "sys/"))]
