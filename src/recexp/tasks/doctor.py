"""``task=doctor``: what this machine offers, what is missing, and why."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import socket
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recexp.config import catalogue, targets
from recexp.config.typed import settings as typed
from recexp.datasets import prepare
from recexp.datasets.published import Published, find_copy
from recexp.datasets.session_data import ClickSet
from recexp.errors import DataError, DeviceError, RecexpError
from recexp.reports.console import show_facts
from recexp.tracking import names, store

PACKAGES = (
    "recexp",
    "torch",
    "torch-npu",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "mlflow",
    "numpy",
    "pandas",
)
_PROBE_S = 2.0
_USABLE = "usable"


def run(config: Mapping[str, Any]) -> None:
    """Show everything; raises where the configured device cannot be used."""
    settings = typed(config)
    root = Path(settings.paths.root).absolute()
    cache = Path(settings.paths.cache).expanduser() if settings.paths.cache else prepare.default_cache()
    data = Path(settings.paths.data).expanduser() if settings.paths.data else prepare.default_data()
    show_facts("versions", dict(_versions()))
    show_facts("machine", dict(_machine(root, cache)))
    states = dict(_devices(config["device"]))
    show_facts("devices", states)
    for kind, found in _installations():
        show_facts(kind, found)
    show_facts("data", dict(_data(data, cache)))
    show_facts("tracking", {"store": _tracking(settings, root)})
    word = config["device"]["name"]
    if not states[word].startswith(_USABLE):
        raise DeviceError(f"device={word}, which this configuration asks for, is {states[word]}")


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"


def _machine(root: Path, cache: Path) -> Iterator[tuple[str, str]]:
    from recexp.devices import host

    total, free = host.memory_bytes()
    yield "system", platform.platform()
    yield "processor", host.cpu_name()
    yield "usable cores", str(host.usable_cores())
    yield "memory", f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free"
    yield "compiled loops", _loops(cache)
    for label, folder in (("disk of runs", root), ("disk of the cache", cache)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        yield label, f"{shutil.disk_usage(existing).free / 2**30:.1f} GiB free in {folder}"


def _loops(cache: Path) -> str:
    """Whether the loops that are compiled on this machine can be."""
    try:
        from recexp.models import kernels, native
    except Exception as error:  # noqa: BLE001 - see _devices
        return f"not known: {type(error).__name__}: {error}"
    kernels.choose("auto", cache / "native")
    return "yes" if native.library() else "no: trainings on a processor are slower (a C++ compiler is needed)"


def _devices(configured: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each word of ``device=`` and whether it computes. A torch that cannot be imported is a finding, too."""
    for word in catalogue.choices("device"):
        try:
            from recexp.devices.build import make

            own = word == configured["name"]
            device = make(configured if own else catalogue.read(f"device/{word}").tree["device"])
            device.check()
            kind = "" if word == device.kind else f"{device.kind}, "
            yield word, f"{_USABLE}: {kind}{device.available()} x {device.device_name()}"
        except RecexpError as error:
            yield word, f"not usable: {str(error).removeprefix(f'device={word} cannot be used: ')}"
        except Exception as error:  # noqa: BLE001 - a broken torch may raise anything, and this task is to say so
            yield word, f"not usable: {type(error).__name__}: {error}"


def _installations() -> Iterator[tuple[str, dict[str, str]]]:
    """What is installed for the kinds of device that have drivers and tool kits of their own."""
    for word in catalogue.choices("device"):
        try:
            kind = targets.load(catalogue.read(f"device/{word}").tree["device"]["_target_"])
            found = kind.machine_facts() if hasattr(kind, "machine_facts") else {}
        except Exception as error:  # noqa: BLE001 - see _devices
            found = {"cannot be asked": f"{type(error).__name__}: {error}"}
        if found:
            yield f"{word} installation", found


def _data(data: Path | None, cache: Path) -> Iterator[tuple[str, str]]:
    yield "RECEXP_DATA or paths.data", str(data) if data else "not set"
    for word in catalogue.choices("dataset"):
        copy = _own_copy(word, data)
        found = [f"your copy {copy}"] if copy else []
        prepared = sorted((cache / "datasets").glob(f"{word}-*/meta.json"))
        found += [f"prepared in {meta.parent}" for meta in prepared[-1:]]
        yield word, "; ".join(found) or f"not here; to fetch and prepare it: task=prepare dataset={word}"


def _own_copy(word: str, data: Path | None) -> str | None:
    """Where in the user's folder a published dataset lies, or why it cannot be told."""
    if data is None or not data.is_dir():
        return None
    reader = targets.load(catalogue.read(f"dataset/{word}").tree["dataset"]["_target_"])
    for value in vars(sys.modules[reader.__module__]).values():
        if isinstance(value, Published):
            copy = find_copy(value, None, data)
            return None if copy is None else str(copy)
        if isinstance(value, ClickSet):
            try:
                found = value.lookup.find(data)
            except DataError as error:
                return f"cannot be told: {error}"
            return None if found is None else ", ".join(map(str, found.members))
    return None


def _tracking(settings: Any, root: Path) -> str:
    if settings.tracking.backend == "off":
        return "off"
    try:
        uri = store.resolve(settings.tracking.uri, root).uri
    except RecexpError as error:
        return f"cannot be used: {error}"
    shown, parts = names.scrub(uri), urlsplit(uri)
    if parts.scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///"))
        return f"{shown}, {_sqlite_state(path)}"
    if parts.scheme in ("http", "https") and parts.hostname:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with socket.create_connection((parts.hostname, port), timeout=_PROBE_S):
                return f"{shown}, answers"
        except OSError as error:
            return f"{shown}, does not answer: {error}. Runs are spooled; `task=sync` delivers them later."
    return shown


def _sqlite_state(path: Path) -> str:
    if not path.exists():
        return "will be created by the first run"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_PROBE_S)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        return f"{count} runs"
    except sqlite3.Error as error:
        return f"cannot be read: {error}"
