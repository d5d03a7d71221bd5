"""HCCL's rank table: the JSON file that says which chip of which machine has which rank. Checked, and written.

Source of the format: Huawei, "Rank table configuration", CANN documentation; the original systems' ``8p.json``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recexp.errors import DeviceError

NETWORK_FILE = Path("/etc/hccn.conf")
_VARIABLE = "RANK_TABLE_FILE"


def check(option: str | None) -> Path | None:
    """The rank table in force, ``device.rank_table`` or RANK_TABLE_FILE, read once.

    torch-npu itself ignores a path that does not exist, and negotiates ranks as if nothing had been said.

    Raises:
        DeviceError: The path does not exist, or is no rank table.
    """
    source = "device.rank_table" if option else _VARIABLE
    text = option or os.environ.get(_VARIABLE)
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_file():
        raise DeviceError(
            f"{source}={text}: there is no such file. Write one with `python -m recexp task=rank_table device=npu`, or "
            f"{'remove device.rank_table' if option else f'unset {_VARIABLE}'} to let HCCL negotiate."
        )
    read(path)
    return path


def read(path: Path) -> list[tuple[int, str, int]]:
    """Rank, server and device of each entry, by rank.

    Raises:
        DeviceError: It is not a rank table, or its ranks are not 0, 1, 2, ...
    """
    try:
        table = json.loads(path.read_text("utf-8"))
        entries = sorted(
            (int(device["rank_id"]), str(server["server_id"]), int(device["device_id"]))
            for server in table["server_list"]
            for device in server["device"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeviceError(
            f"{path} is no HCCL rank table: {type(error).__name__}: {error}. It needs server_list, each with server_id "
            "and device, each with device_id, device_ip and rank_id."
        ) from error
    ranks = [rank for rank, _, _ in entries]
    if ranks != list(range(len(ranks))) or not ranks:
        raise DeviceError(f"{path}: the ranks are {ranks}, but must be 0 to {max(len(ranks) - 1, 0)}, each once.")
    return entries


def table(servers: Sequence[tuple[str, Sequence[tuple[int, str]]]]) -> dict[str, Any]:
    """A rank table, ranks counted up in the order given.

    Args:
        servers: Address of each machine, and number and address of each of its chips.
    """
    listed, rank = [], 0
    for address, chips in servers:
        devices = []
        for number, chip_address in chips:
            devices.append({"device_id": str(number), "device_ip": chip_address, "rank_id": str(rank)})
            rank += 1
        listed.append({"server_id": address, "device": devices})
    return {"version": "1.0", "server_count": str(len(listed)), "server_list": listed, "status": "completed"}


def chip_addresses(file: Path = NETWORK_FILE) -> dict[int, str]:
    """Network address of each chip of this machine, as ``hccn_tool`` has configured them.

    Raises:
        DeviceError: The file is not there or names none.
    """
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise DeviceError(
            f"The chips' addresses stand in {file}, which cannot be read ({error.strerror}). Type "
            "`hccn_tool -i 0 -ip -s address 192.168.100.100 netmask 255.255.255.0` for each chip, or give them with "
            "task.chip_addresses=[...]."
        ) from error
    found = {int(number): address for number, address in re.findall(r"^address_(\d+)=(\S+)", text, re.MULTILINE)}
    if not found:
        raise DeviceError(f"{file} names no address_N=... Give the chips' addresses with task.chip_addresses=[...].")
    return dict(sorted(found.items()))


def merge(files: Sequence[Path]) -> list[tuple[str, list[tuple[int, str]]]]:
    """The machines of several rank tables, in order, for one table of all.

    Raises:
        DeviceError: One is no rank table, or a machine occurs twice.
    """
    servers: list[tuple[str, list[tuple[int, str]]]] = []
    for file in files:
        read(file)
        for server in json.loads(file.read_text("utf-8"))["server_list"]:
            if server["server_id"] in dict(servers):
                raise DeviceError(f"{file}: machine {server['server_id']} occurs twice in the files to merge.")
            chips = [(int(device["device_id"]), str(device.get("device_ip", ""))) for device in server["device"]]
            servers.append((server["server_id"], chips))
    return servers
