"""``task=rank_table``: write HCCL's rank table of this machine, or join those of several machines."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recexp.devices.ascend import rank_table
from recexp.errors import ConfigError
from recexp.reports.console import show_facts
from recexp.storage.atomic import write_json


def run(config: Mapping[str, Any]) -> None:
    """Write ``task.path``.

    Raises:
        ConfigError: More chips than this machine names were asked for.
        DeviceError: The chips' addresses are not known, or a file to join is no rank table.
    """
    task, device = config["task"], config["device"]
    joined = rank_table.merge([Path(file).expanduser() for file in task["join"]])
    servers = joined or [(task["server"] or _own_address(), _chips(task, device))]
    path = Path(task["path"]).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, rank_table.table(servers))
    ranks = {f"rank {rank}": f"NPU {number} of {server}" for rank, server, number in rank_table.read(path)}
    show_facts("rank table", {**ranks, "written to": str(path), "to use it": f"device.rank_table={path}"})


def _chips(task: Mapping[str, Any], device: Mapping[str, Any]) -> list[tuple[int, str]]:
    first = device.get("index") or 0
    given = dict(enumerate(task["chip_addresses"], first))
    known = given or rank_table.chip_addresses()
    wanted = [number for number in known if number >= first]
    count = task["count"] or len(wanted)
    if count > len(wanted) or not wanted:
        known_ones = ", ".join(map(str, wanted)) or "none"
        raise ConfigError([f"task.count={count}: addresses of {len(wanted)} NPUs are known: {known_ones}."])
    return [(number, known[number]) for number in wanted[:count]]


def _own_address() -> str:
    """The address by which this machine reaches others; loopback where it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
