"""From a dataset's configuration to its arrays: found, verified, parsed once, opened from the cache ever after."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recexp.config import targets
from recexp.datasets import cache as store
from recexp.datasets import impression_store, outfit_store
from recexp.datasets.arrays import arrange
from recexp.datasets.events import DataMeta, Events
from recexp.datasets.impressions import Impressions
from recexp.datasets.malformed import Policy
from recexp.datasets.outfits import Outfits
from recexp.datasets.places import Places, cache_folder, data_folder
from recexp.datasets.table import (
    ImpressionRecording,
    LargeRecording,
    OutfitRecording,
    Recording,
    Written,
    WrittenImpressions,
    WrittenOutfits,
)
from recexp.errors import DataError
from recexp.storage.atomic import remove, sweep_orphans
from recexp.storage.checksum import sha256_json
from recexp.storage.lock import locked

_PATIENCE_S = 3600.0
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_log = logging.getLogger(__name__)
_AnyRecording = Recording | LargeRecording | ImpressionRecording | OutfitRecording
Prepared = Events | Impressions | Outfits
_Reader = Callable[[Mapping[str, Any], Places], _AnyRecording]
_WORKSPACE = ".work"
_ABANDONED_S = 7 * 86400.0


def default_cache() -> Path:
    """Folder of downloads and prepared arrays: RECEXP_CACHE, else recexp in XDG_CACHE_HOME or ~/.cache."""
    return cache_folder(None)


def default_data() -> Path | None:
    """The user's folder of datasets that RECEXP_DATA names, or None."""
    return data_folder(None)


def prepare(
    dataset: Mapping[str, Any],
    *,
    data: Path | None,
    cache: Path,
    progress: Callable[[str, int, int | None], None] | None = None,
    problem: Mapping[str, Any] | None = None,
) -> Prepared:
    """Events, impressions or outfits, memory-mapped from the cache; any number of processes may be the first to ask.

    Args:
        dataset: The composed ``dataset`` node; ``_target_`` names its reader.
        data: The user's folder of copies, only read.
        cache: Folder of downloads and prepared arrays; written only when something is not there yet.
        progress: Told what is done, how much of it, and how much there is (None: unknown).
        problem: The composed ``problem`` node; where it takes impressions, events are turned into such.

    Raises:
        DataError: the source cannot be found, fetched, verified or read, or the cache cannot be written.
    """
    cache = cache.expanduser().absolute()
    places = Places(None if data is None else data.expanduser(), cache, progress)
    try:
        reader: _Reader = targets.load(dataset["_target_"])
        prepared = _cached(dataset, reader(dataset, places), cache)
        if not isinstance(prepared, Events) or problem is None or problem.get("takes") != "impressions":
            return prepared
        from recexp.datasets import rated_impressions  # only where events are posed as clicks

        return rated_impressions.from_events(prepared, dataset, problem, places)
    except OSError as error:
        raise DataError(_explain(error, cache)) from error


def _cached(dataset: Mapping[str, Any], recording: _AnyRecording, cache: Path) -> Prepared:
    name = str(dataset["name"])
    key = sha256_json(
        {"recipe": store.RECIPE, "name": name, "content": recording.content, "options": dict(recording.options)}
    )
    folder = cache / "datasets" / f"{name}-{key[:16]}"
    load: Callable[[Path], Prepared | None] = store.load
    if isinstance(recording, ImpressionRecording):
        load = impression_store.load
    elif isinstance(recording, OutfitRecording):
        load = outfit_store.load
    prepared = _acceptable(load(folder), dataset)
    if prepared is not None:
        return prepared
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock"), f"prepare the dataset {name}", timeout=_PATIENCE_S):
        prepared = _acceptable(load(folder), dataset)
        if prepared is None:
            sweep_orphans(folder.parent, 0.0, folder.name)
            sweep_orphans(folder.parent)
            _build(dataset, recording, folder)
            prepared = load(folder)
    if prepared is None:
        raise DataError(f"{folder} was written and cannot be read again: check the disk, or set paths.cache.")
    return prepared


def _acceptable(prepared: Prepared | None, dataset: Mapping[str, Any]) -> Prepared | None:
    """What is published, unless it left out more rows than this run allows: building it again says which."""
    if prepared is not None and Policy.of(dataset).refuses(sum(prepared.meta.malformed.values())):
        return None
    return prepared


def _build(dataset: Mapping[str, Any], recording: _AnyRecording, folder: Path) -> None:
    started = time.perf_counter()
    what = "events"
    if isinstance(recording, Recording):
        meta, rows = _build_small(dataset, recording, folder)
    elif isinstance(recording, LargeRecording):
        meta, rows = _build_large(dataset, recording, folder)
    else:
        what = "impressions" if isinstance(recording, ImpressionRecording) else "outfits"
        meta, rows = _build_in_steps(dataset, recording, folder)
    seconds = time.perf_counter() - started
    _log.info("built %s: %d %s from %s in %.1f s", folder, rows, what, meta.origin, seconds)
    if meta.left_out:
        _log.info("%s: the recipe left out %s", meta.origin, meta.left_out)
    if meta.malformed:
        _log.warning("%s: malformed rows were left out: %s", meta.origin, meta.malformed)


def _build_small(dataset: Mapping[str, Any], recording: Recording, folder: Path) -> tuple[DataMeta, int]:
    table, origin = recording.load()
    arrays, num_users, num_items = arrange(table, dataset.get("min_rating"), origin)
    meta = DataMeta(
        name=str(dataset["name"]),
        fingerprint=store.fingerprint(arrays),
        licence=str(dataset.get("licence", "")),
        origin=origin,
        synthetic=recording.synthetic,
        rows_read=table.rows_read,
        malformed=dict(table.malformed),
        verified=recording.verified,
    )
    store.publish(folder, arrays, num_users, num_items, meta)
    return meta, len(arrays["user"])


def _build_large(dataset: Mapping[str, Any], recording: LargeRecording, folder: Path) -> tuple[DataMeta, int]:
    with store.building(folder) as temp:
        written = recording.write(temp)
        meta = _meta(dataset, recording, written, store.fingerprint_of(written.stated))
        store.write_meta(temp, written.stated, written.num_users, written.num_items, meta)
    return meta, int(written.stated["user"]["shape"][0])


def _build_in_steps(
    dataset: Mapping[str, Any], recording: ImpressionRecording | OutfitRecording, folder: Path
) -> tuple[DataMeta, int]:
    """What is done stays beside the folder until it is published, also where a build is killed or refuses rows."""
    workspace = folder.with_name(folder.name + _WORKSPACE)
    for path in folder.parent.glob(f"*{_WORKSPACE}"):
        if path != workspace and path.stat().st_mtime < time.time() - _ABANDONED_S:
            remove(path)
    workspace.mkdir(exist_ok=True)
    os.utime(workspace)
    with store.building(folder) as temp:
        if isinstance(recording, OutfitRecording):
            outfits = recording.write(temp, workspace)
            meta, rows = _meta(dataset, recording, outfits, outfit_store.fingerprint_of(outfits)), outfits.bounds[-1]
            outfit_store.write_meta(temp, outfits, meta)
        else:
            written = recording.write(temp, workspace)
            parts = (written.stated, written.fields, written.dense_names, written.bounds)
            meta, rows = _meta(dataset, recording, written, impression_store.fingerprint_of(*parts)), written.bounds[-1]
            impression_store.write_meta(temp, written, meta)
    remove(workspace)
    return meta, rows


def _meta(
    dataset: Mapping[str, Any],
    recording: LargeRecording | ImpressionRecording | OutfitRecording,
    written: Written | WrittenImpressions | WrittenOutfits,
    fingerprint: str,
) -> DataMeta:
    return DataMeta(
        name=str(dataset["name"]),
        fingerprint=fingerprint,
        licence=str(dataset.get("licence", "")),
        origin=written.origin,
        synthetic=recording.synthetic,
        rows_read=written.rows_read,
        malformed=written.malformed,
        verified=written.verified,
        left_out=written.left_out,
        notes=dict(written.notes) if isinstance(written, WrittenOutfits) else {},
    )


def _explain(error: OSError, cache: Path) -> str:
    path = error.filename or cache
    if error.errno in _FORBIDDEN:
        return (
            f"the cache {cache} cannot be written or read ({error.strerror}: {path}). Choose another folder with "
            f"paths.cache=FOLDER or RECEXP_CACHE, or change its permissions."
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{error.strerror}. Make room, or choose a cache on another disk: paths.cache=FOLDER or RECEXP_CACHE."
    return f"the cache {cache} cannot be used ({error.strerror or error}: {path}). Choose another: paths.cache=FOLDER."
