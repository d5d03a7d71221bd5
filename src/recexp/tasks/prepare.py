"""``task=prepare``: find, fetch, check and convert the data, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recexp.config.typed import settings as typed
from recexp.datasets import prepare
from recexp.reports.console import show_facts
from recexp.reports.progress import Progress


def run(config: Mapping[str, Any]) -> None:
    """Prepare the dataset and show what it is."""
    settings = typed(config)
    data = Path(settings.paths.data).expanduser() if settings.paths.data else prepare.default_data()
    cache = Path(settings.paths.cache).expanduser() if settings.paths.cache else prepare.default_cache()
    with Progress(settings.trainer.progress) as display:
        prepared = prepare.prepare(config["dataset"], data=data, cache=cache, progress=display.task)
    meta = prepared.meta
    show_facts(
        f"dataset {meta.name}{' (SYNTHETIC)' if meta.synthetic else ''}",
        {
            "events": f"{len(prepared):,}",
            "users": f"{prepared.num_users:,}",
            "items": f"{prepared.num_items:,}",
            "rows read": f"{meta.rows_read:,}",
            "malformed": ", ".join(f"{kind} {count}" for kind, count in meta.malformed.items()) or "none",
            "left out": ", ".join(f"{k.replace('_', ' ')} {n:,}" for k, n in meta.left_out.items() if n) or "nothing",
            "fingerprint": meta.fingerprint,
            "origin": meta.origin,
            "licence": meta.licence,
            "cache": str(cache),
        },
    )
