"""Where a result comes from: the code's commit, the versions, the machine and the command, without credentials."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import recexp
from recexp.storage.atomic import atomic_file
from recexp.tracking import names

PACKAGES = ("recexp", "torch", "torch-npu", "pytorch-lightning", "torchmetrics", "mlflow", "numpy", "hydra-core")
ENVIRONMENT_FILE = "environment.txt"
DIFF_FILE = "uncommitted.diff"
MAX_DIFF_BYTES = 1_000_000
_GIT_PATIENCE_S = 10.0


def facts(root: Path) -> dict[str, str]:
    """Tags of a run.

    Args:
        root: Its checkout is named where the code is not in one, as with an installed recexp.
    """
    return {**_git_facts(root), **_versions(), **_machine(), "command": command_line()}


def command_line() -> str:
    """The command that started this process, as a person may paste it."""
    words = list(sys.argv)
    if words and Path(words[0]).name == "__main__.py":
        words[:1] = ["python", "-m", Path(words[0]).parent.name]
    return names.scrub(shlex.join(words))


def write_environment(run_dir: Path) -> list[Path]:
    """Write every installed package with its version, and what is not committed, into the run's directory.

    Returns:
        The files, to be recorded as artifacts.

    Raises:
        OSError: The directory cannot be written.
    """
    installed = {item.name: item.version for item in importlib.metadata.distributions() if item.name}
    lines = [f"# python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name}=={installed[name]}" for name in sorted(installed, key=str.lower)]
    files = [_write(run_dir / ENVIRONMENT_FILE, "\n".join(lines) + "\n")]
    checkout = _checkout(Path.cwd())
    diff = _git(checkout, "diff", "HEAD", "--no-ext-diff", "--no-textconv") if checkout else None
    if diff:
        text = names.scrub(diff.encode()[:MAX_DIFF_BYTES].decode(errors="replace"))
        if len(diff.encode()) > MAX_DIFF_BYTES:
            text += f"\n# cut after {MAX_DIFF_BYTES} bytes\n"
        files.append(_write(run_dir / DIFF_FILE, text))
    return files


def _write(path: Path, text: str) -> Path:
    with atomic_file(path, "w") as stream:
        stream.write(text)
    return path


def _versions() -> dict[str, str]:
    versions = {"version.python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[f"version.{name}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _machine() -> dict[str, str]:
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "host.name": socket.gethostname(),
        "host.platform": platform.platform(),
        "host.cpu": _cpu_model(),
        "host.cores": str(len(affinity(0)) if affinity else os.cpu_count()),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_facts(root: Path) -> dict[str, str]:
    checkout = _checkout(root)
    sha = _git(checkout, "rev-parse", "HEAD") if checkout else None
    if not checkout or not sha:
        return {}
    found = {"git.sha": sha, "mlflow.source.git.commit": sha}
    changes = _git(checkout, "status", "--porcelain")
    if changes is not None:
        found["git.dirty"] = str(bool(changes)).lower()
    branch = _git(checkout, "rev-parse", "--abbrev-ref", "HEAD")
    if branch:
        found["git.branch"] = found["mlflow.source.git.branch"] = branch
    remote = _git(checkout, "remote", "get-url", "origin")
    if remote:
        found["git.remote"] = found["mlflow.source.git.repoURL"] = names.scrub(remote)
    return found


def _checkout(root: Path) -> Path | None:
    """The checkout that holds this very code, else the one that ``root`` is in."""
    package = Path(recexp.__file__).absolute().parent
    if _git(package, "ls-files", "--error-unmatch", "__init__.py"):
        return package
    return root if _git(root, "rev-parse", "HEAD") else None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, None where it fails. Hooks and helpers that the checkout configures are not started."""
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_GIT_PATIENCE_S,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
