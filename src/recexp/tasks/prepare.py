"""``task=prepare``: find, fetch, check and convert the data, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recexp.config.typed import settings as typed
from recexp.datasets import prepare
from recexp.datasets.events import Events
from recexp.datasets.impressions import PARTS, Impressions
from recexp.datasets.outfits import Outfits
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
    show_facts(
        f"dataset {meta.name}{' (SYNTHETIC)' if meta.synthetic else ''}",
        {
            **_facts(prepared),
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


def _facts(prepared: prepare.Prepared) -> dict[str, str]:
    if isinstance(prepared, Impressions):
        return _of_impressions(prepared)
    return _of_outfits(prepared) if isinstance(prepared, Outfits) else _of_events(prepared)


def _of_events(prepared: Events) -> dict[str, str]:
    return {
        "events": f"{len(prepared):,}",
        "users": f"{prepared.num_users:,}",
        "items": f"{prepared.num_items:,}",
    }


def _of_impressions(prepared: Impressions) -> dict[str, str]:
    shown = ", ".join(f"{field.name} {field.size:,}" for field in prepared.fields)
    return {
        "impressions": f"{len(prepared):,}",
        "parts": _parts(prepared.bounds),
        "split": prepared.split,
        "clicks": f"{prepared.label.mean(dtype=float):.2%}" if len(prepared) else "none",
        "numbers": ", ".join(prepared.dense_names) or "none",
        "ids": f"{sum(field.size for field in prepared.fields):,} in {len(prepared.fields)} fields: {shown}",
    }


def _of_outfits(prepared: Outfits) -> dict[str, str]:
    lengths = prepared.offsets[1:] - prepared.offsets[:-1]
    span = (
        f"{lengths.min()} to {lengths.max()} items each, {lengths.mean():.2f} on average" if len(prepared) else "none"
    )
    questions = prepared.published
    return {
        "outfits": f"{len(prepared):,}: {span}",
        "parts": _parts(prepared.bounds),
        "items": f"{prepared.num_items:,} in {len(prepared.categories):,} categories",
        "known of items": ", ".join(f"{name} {width:,}" for name, width in prepared.modalities.items()),
        "published": "no questions"
        if questions is None
        else f"{len(questions.context):,} questions, {len(questions.label):,} labelled outfits",
    }


def _parts(bounds: tuple[int, int, int, int]) -> str:
    return ", ".join(f"{name} {bounds[place + 1] - bounds[place]:,}" for place, name in enumerate(PARTS))
