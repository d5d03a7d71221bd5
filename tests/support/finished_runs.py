"""What a run has left in its directory: losses, weights, metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def losses(run: Path) -> list[tuple[int, float]]:
    """(update, training loss) as logged."""
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    points = [event for event in events if event["e"] == "metrics" and "train/loss" in event["m"]]
    return [(point["step"], point["m"]["train/loss"]) for point in points]


def validated(run: Path, name: str) -> dict[int, float]:
    """A metric ``val/...`` by the update after which it was measured."""
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return {event["step"]: event["m"][name] for event in events if event["e"] == "metrics" and name in event["m"]}


def weights(run: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    """Of a checkpoint."""
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two networks are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def rows(run: Path) -> dict[str, dict[str, object]]:
    """The lines of the result table by the metric's name."""
    return {row["name"]: row for row in json.loads((run / "result.json").read_text())["summary"]["metrics"]}


def measured(run: Path) -> dict[str, float]:
    """The test metrics."""
    return {name: row["value"] for name, row in rows(run).items()}  # type: ignore[misc]


def optimizer_state(run: Path) -> list[dict[str, Any]]:
    """What the optimiser keeps of each parameter."""
    found: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    return [found["state"][number] for number in sorted(found["state"])]


def same_state(one: Path, other: Path) -> bool:
    """Whether the optimisers of two runs are equal to the bit."""
    mine, theirs = optimizer_state(one), optimizer_state(other)
    return len(mine) == len(theirs) > 0 and all(
        a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a) for a, b in zip(mine, theirs, strict=True)
    )


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)
