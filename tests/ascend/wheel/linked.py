"""What the wheel's shared libraries ask for and do not bring: library names and C symbols, read off the files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .cache import Missing

#: How the names of CANN's C interfaces begin: AscendCL, HCCL, runtime, profiler, data transfer.
CANN_SYMBOL = re.compile(r"^(acl|Hccl|hccl|rt[A-Z]|Msprof|tdt)")
#: Needs ATB, a separate package of CANN, and is loaded only by the operators that come from it.
OPTIONAL = "libop_plugin_atb.so"


@dataclass(frozen=True)
class Wanted:
    """Names of shared libraries and of C functions that CANN would bring."""

    libraries: list[str]
    symbols: list[str]


def tool(name: str) -> str:
    """The path of a program of the compiler's suite.

    Raises:
        Missing: It is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed on this machine")
    return found


def libraries_of(site: Path) -> list[Path]:
    """The wheel's shared libraries that ``import torch_npu`` loads."""
    package = site / "torch_npu"
    return [*package.glob("_C*.so"), *(path for path in package.glob("lib/*.so") if path.name != OPTIONAL)]


def torch_libraries() -> Path:
    """The folder with libtorch."""
    return Path(sysconfig.get_path("purelib")) / "torch" / "lib"


def wanted(site: Path) -> Wanted:
    """What is missing for the dynamic loader to load the wheel's libraries."""
    own, torch = libraries_of(site), [*torch_libraries().glob("*.so*")]
    brought = {path.name for path in [*own, *torch]}
    needed = {line for path in own for line in _needed(path)}
    system = {line.split()[0] for line in _run("/sbin/ldconfig", "-p").splitlines() if " => " in line}
    undefined = {symbol for path in own for symbol in _symbols(path, "--undefined-only")}
    defined = {symbol for path in [*own, *torch] for symbol in _symbols(path, "--defined-only")}
    return Wanted(sorted(needed - brought - system), sorted(s for s in undefined - defined if CANN_SYMBOL.match(s)))


def strings_of(paths: Iterable[Path]) -> set[str]:
    """Words of six characters and more in binary files."""
    return {word for path in paths for word in _run(tool("strings"), "-n", "6", str(path)).split()}


def _needed(path: Path) -> list[str]:
    return re.findall(r"\(NEEDED\).*\[(.+)\]", _run(tool("readelf"), "-d", str(path)))


def _symbols(path: Path, which: str) -> set[str]:
    lines = _run(tool("nm"), "-D", which, str(path)).splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines}


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
