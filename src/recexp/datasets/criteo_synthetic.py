"""Generated impressions, written once in Criteo's format and then read as any other file of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recexp.datasets import criteo, criteo_generator
from recexp.datasets.criteo_generator import GENERATOR, Plan
from recexp.datasets.places import Places
from recexp.datasets.table import ImpressionRecording, WrittenImpressions
from recexp.errors import ConfigError
from recexp.storage.checksum import sha256_json
from recexp.storage.lock import locked

_PATIENCE_S = 3600.0


def read(dataset: Mapping[str, Any], places: Places) -> ImpressionRecording:
    """The reader of ``dataset=criteo_synthetic``.

    The file stays in the cache (``generated``), so that another recipe finds it there; it may be deleted at any time.

    Raises:
        ConfigError: files are named, which generated impressions do not have.
    """
    named = [f"dataset.{key}" for key in ("path", "member") if dataset.get(key) is not None]
    if named:
        raise ConfigError([
            f"dataset=criteo_synthetic is generated: {', '.join(named)} has no meaning. Use dataset=criteo."
        ])  # fmt: skip
    plan = Plan.of(dataset)
    content = sha256_json({"generator": GENERATOR, **asdict(plan)})
    path = places.cache / "generated" / f"criteo_synthetic-{content[:16]}" / "train.txt"
    engine = criteo.recording(dataset, places, sources=[path], content=content, synthetic=True)

    def write(folder: Path, workspace: Path) -> WrittenImpressions:
        _generate(path, plan, places)
        written = engine.write(folder, workspace)
        return dataclasses.replace(written, origin=f"generated ({plan.rows:,} impressions, seed {plan.seed})")

    return dataclasses.replace(engine, write=write)


def _generate(path: Path, plan: Plan, places: Places) -> None:
    """Only where the file is not there: a build that was killed goes on with the very file that it began with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock"), "generate impressions", timeout=_PATIENCE_S):
        if not path.exists():
            criteo_generator.write(path, **asdict(plan), progress=places.progress)
