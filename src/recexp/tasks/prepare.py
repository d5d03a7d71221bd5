"""``task=prepare``: find, fetch, check and convert the data, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recexp.config.typed import settings as typed
from recexp.datasets import prepare
from recexp.datasets.events import Events
from recexp.datasets.impressions import PARTS, Impressions
from recexp.reports.console import show_facts
from recexp.reports.progress import Progress


def run(config: Mapping[str, Any]) -> None:
    """Prepare the dataset and show what it is."""
    settings = typed(config)
    data = Path(settings.paths.data).expanduser() if settings.paths.data else prepare.default_data()
    cache = Path(settings.paths.cache).expanduser() if settings.paths.cache else prepare.default_cache()
    with Progress(settings.trainer.progress) as display:
        prepared = prepare.prepare(
            config["dataset"], data=data, cache=cache, progress=display.task, problem=config["problem"]
        )
    meta = prepared.meta
    facts = _of_impressions(prepared) if isinstance(prepared, Impressions) else _of_events(prepared)
    show_facts(
        f"dataset {meta.name}{' (SYNTHETIC)' if meta.synthetic else ''}",
        {
            **facts,
            "rows read": f"{meta.rows_read:,}",
            "malformed": ", ".join(f"{kind} {count}" for kind, count in meta.malformed.items()) or "none",
            "left out": ", ".join(f"{k.replace('_', ' ')} {n:,}" for k, n in meta.left_out.items() if n) or "nothing",
            **{name.replace("_", " "): f"{count:,}" for name, count in meta.notes.items()},
            "fingerprint": meta.fingerprint,
            "origin": meta.origin,
            "licence": meta.licence,
            "cache": str(cache),
        },
    )


def _of_events(prepared: Events) -> dict[str, str]:
    return {
        "events": f"{len(prepared):,}",
        "users": f"{prepared.num_users:,}",
        "items": f"{prepared.num_items:,}",
    }


def _of_impressions(prepared: Impressions) -> dict[str, str]:
    sizes = {name: prepared.bounds[place + 1] - prepared.bounds[place] for place, name in enumerate(PARTS)}
    shown = ", ".join(f"{field.name} {field.size:,}" for field in prepared.fields)
    return {
        "impressions": f"{len(prepared):,}",
        "parts": ", ".join(f"{name} {rows:,}" for name, rows in sizes.items()),
        "split": prepared.split,
        "clicks": f"{prepared.label.mean(dtype=float):.2%}" if len(prepared) else "none",
        "numbers": ", ".join(prepared.dense_names) or "none",
        "ids": f"{sum(field.size for field in prepared.fields):,} in {len(prepared.fields)} fields: {shown}",
    }
