"""Why an NPU cannot be used, as far as can be seen without importing torch, and the facts of the installation."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

#: Of CANN; the first that are missing where it is not installed or its environment is not set.
LIBRARIES = ("libascendcl.so", "libhccl.so")
DEFAULT_HOME = Path("/usr/local/Ascend")
_INSTALL_INFO = Path("/etc/ascend_install.info")
_TIMEOUT_S = 3.0


def why_not() -> str | None:
    """What is missing, with the next command to type; None where nothing is seen to be."""
    if importlib.util.find_spec("torch_npu") is None:
        return "torch-npu is not installed. Type `pip install 'recexp[npu]'`, or use device=cpu."
    return _mismatch() or _without_cann() or _without_chip()


def _mismatch() -> str | None:
    torch, torch_npu = _version("torch"), _version("torch-npu")
    if torch is None or torch_npu is None or _release(torch) == _release(torch_npu):
        return None
    return (
        f"torch-npu {torch_npu} does not match torch {torch}: both must be of one release. Type "
        f"`pip install torch-npu=={_release(torch)}.*`, or use device=cpu."
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _release(version: str) -> str:
    """Major, minor and patch, without a build's suffix: 2.13.0.post1 and 2.13.0+cpu are 2.13.0."""
    found = re.match(r"\d+\.\d+\.\d+", version)
    return found[0] if found else version


def _without_cann() -> str | None:
    if not _is_vendors_build():
        return None
    for library in LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError as error:
            return cann_missing(str(error))
    return None


def _without_chip() -> str | None:
    return no_chip() if _is_vendors_build() and chips_of_the_driver() == 0 else None


def _is_vendors_build() -> bool:
    """Whether torch-npu is the build that is linked against CANN."""
    spec = importlib.util.find_spec("torch_npu")
    folders = (spec.submodule_search_locations if spec else None) or []
    return any((Path(folder) / "lib" / "libtorch_npu.so").exists() for folder in folders)


def cann_missing(error: str) -> str:
    """The sentence about CANN, which is installed but not in the environment, or not installed."""
    script = next((path for path in _environment_scripts() if path.is_file()), None)
    if script is not None:
        return f"CANN's libraries are not found ({error}). Type `source {script}` and start again, or use device=cpu."
    return (
        f"CANN is not installed here ({error}). Install Ascend's CANN toolkit for your chip, type "
        f"`source {DEFAULT_HOME}/ascend-toolkit/set_env.sh` and start again, or use device=cpu."
    )


def _environment_scripts() -> Iterator[Path]:
    home = os.environ.get("ASCEND_HOME_PATH")
    if home:
        yield from (Path(home) / "set_env.sh", Path(home).parent / "set_env.sh")
    for folder in (DEFAULT_HOME, Path.home() / "Ascend"):
        yield from (folder / "ascend-toolkit" / "set_env.sh", folder / "cann" / "set_env.sh")


def physical(index: int) -> int:
    """Number of a chip on its machine; the process counts those that ASCEND_RT_VISIBLE_DEVICES shows."""
    visible = [int(number) for number in re.findall(r"\d+", os.environ.get("ASCEND_RT_VISIBLE_DEVICES", ""))]
    return visible[index] if index < len(visible) else index


def chips_of_the_driver() -> int | None:
    """Chips that the driver counts, asked without torch; None where the driver's library is not found."""
    count = ctypes.c_int(-1)
    try:
        failed = ctypes.CDLL("libascend_hal.so").drvGetDevNum(ctypes.byref(count))
    except (OSError, AttributeError):
        return None
    return None if failed or count.value < 0 else count.value


def no_chip() -> str:
    """The sentence where the driver shows no chip to this process."""
    visible = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
    if visible is not None:
        return (
            f"ASCEND_RT_VISIBLE_DEVICES='{visible}' shows no NPU. Type `unset ASCEND_RT_VISIBLE_DEVICES`, or use "
            "device=cpu."
        )
    return (
        "CANN finds no NPU. Type `npu-smi info` to see whether the driver does; in a container, pass "
        "/dev/davinci0 and the driver's folder in. Or use device=cpu."
    )


def driver_missing(error: str) -> str:
    """The sentence where a library of the driver, not of CANN, is not found."""
    return (
        f"the NPU's driver is not found ({error}). Install it, until `npu-smi info` works; in a container, pass "
        f"/dev/davinci0 and {DEFAULT_HOME}/driver in. Or use device=cpu."
    )


def library_missing(error: str) -> str:
    """The sentence about a library that torch-npu cannot open: the driver's, or CANN's."""
    return driver_missing(error) if re.search(r"lib(ascend_hal|drv\w*|c_sec|mmpa)\.so", error) else cann_missing(error)


def explain(error: str) -> str | None:
    """What an error of CANN's runtime means for the user, None for one that is not known here.

    Args:
        error: Text of the exception.
    """
    if re.search(r"\bEL0005\b|\b507033\b|\bresources are busy\b", error):
        return "Another process has it: `npu-smi info` shows which. Choose another with device.index, or wait."
    if re.search(r"\bEL0004\b|out of memory|\b207001\b", error, re.IGNORECASE):
        return "Its memory is full: `npu-smi info` shows by whom. Choose another with device.index, or wait."
    if "TORCH_NPU_FALLBACK_CPU_DISABLE" in error:
        return (
            "torch-npu has no kernel for an operator of this run. device.cpu_fallback=warn lets it run on the host, "
            "slowly, and says so each time."
        )
    return None


def facts() -> dict[str, str]:
    """Versions of CANN, driver and firmware, and the chips, as far as this machine has them."""
    found = {"torch-npu": _version("torch-npu") or "not installed"}
    found.update(_versions())
    chips = sorted(path.name for path in Path("/dev").glob("davinci[0-9]*"))
    if chips:
        found["device nodes"] = ", ".join(chips)
    table = _npu_smi()
    if table:
        found["npu-smi info"] = table
    for name in ("ASCEND_HOME_PATH", "ASCEND_RT_VISIBLE_DEVICES", "RANK_TABLE_FILE"):
        if name in os.environ:
            found[name] = os.environ[name]
    return found


def cann() -> str:
    """Version and place of CANN."""
    toolkit = next((path for path in _toolkits() if path.is_dir()), None)
    return "not found" if toolkit is None else f"{_installed_version(toolkit) or 'version unknown'} in {toolkit}"


def _versions() -> Iterator[tuple[str, str]]:
    yield "CANN", cann()
    for part in ("driver", "firmware"):
        file = _part_folder(part) / "version.info"
        yield part, _field(file, "Version") or "not found"


def _toolkits() -> Iterator[Path]:
    home = os.environ.get("ASCEND_HOME_PATH")
    if home:
        yield Path(home)
    for folder in (DEFAULT_HOME, Path.home() / "Ascend"):
        yield from (folder / "ascend-toolkit" / "latest", folder / "cann")


def _installed_version(toolkit: Path) -> str | None:
    for pattern in ("*/ascend_toolkit_install.info", "ascend_toolkit_install.info", "version.cfg", "*/version.info"):
        for file in sorted(toolkit.glob(pattern)):
            version = _field(file, "version")
            if version:
                return version
    return None


def _part_folder(part: str) -> Path:
    """Where the driver's installer says that it put a part."""
    path = _field(_INSTALL_INFO, f"{part.capitalize()}_Install_Path_Param")
    return Path(path or DEFAULT_HOME) / part


def _field(file: Path, name: str) -> str | None:
    """The value of ``name=value`` in a file of Ascend's installers."""
    try:
        text = file.read_text("utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^\s*{re.escape(name)}\s*=\s*\[?([^\]\r\n]+)", text, re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else None


def _npu_smi() -> str | None:
    """One line for each chip that the driver's tool lists."""
    try:
        done = subprocess.run(["npu-smi", "info"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    rows = [
        " ".join(re.split(r"[\s|]+", line)).strip() for line in done.stdout.splitlines() if re.match(r"\|\s*\d", line)
    ]
    return "; ".join(rows) or None
