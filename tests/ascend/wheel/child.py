"""Child processes that see the real torch_npu: it must never be imported in the process that runs the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: Of the parent's environment; a child starts without them, as on a machine with a fresh shell.
DROPPED = (
    "ASCEND",
    "ACL_",
    "HCCL",
    "INF_NAN",
    "MLFLOW",
    "NPU_",
    "RECEXP",
    "TASK_QUEUE",
    "TORCH_DEVICE_BACKEND_AUTOLOAD",
)


def environment(*, path: list[Path], libraries: Path | None = None, **variables: str) -> dict[str, str]:
    """Variables of a child: ``path`` in front of its module path, ``libraries`` for its dynamic loader."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    kept["PYTHONPATH"] = os.pathsep.join([*map(str, path), *filter(None, [kept.get("PYTHONPATH")])])
    if libraries is not None:
        kept["LD_LIBRARY_PATH"] = os.pathsep.join([str(libraries), *filter(None, [kept.get("LD_LIBRARY_PATH")])])
    return {**kept, **variables}


def ask(script: str, given: Any, variables: dict[str, str], *, cwd: Path, timeout: float = 240) -> Any:
    """Run a script of children/ with JSON on its input; the last line of its output is the answer."""
    command = [sys.executable, str(HERE / "children" / f"{script}.py")]
    done = subprocess.run(
        command, input=json.dumps(given), env=variables, cwd=cwd, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{script} failed\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return json.loads(done.stdout.splitlines()[-1])
