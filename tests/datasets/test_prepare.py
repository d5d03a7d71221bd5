"""The cache: built once, checked, rebuilt when damaged; every refusal of the disk is explained."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recexp.datasets import cache as store
from recexp.datasets.events import Events
from recexp.datasets.prepare import default_cache, default_data, prepare
from recexp.errors import DataError

Prepare = Callable[..., Events]


def folder_of(tmp_path: Path) -> Path:
    (found,) = [path for path in (tmp_path / "cache" / "datasets").iterdir() if path.is_dir()]
    return found


def builds(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.getMessage().startswith("built ") for record in caplog.records)


def test_events_of_a_small_file(interactions: Prepare, rows_csv: Path) -> None:
    events = interactions(rows_csv)
    assert events.user.tolist() == [1, 1, 2, 2]
    assert events.item.tolist() == [3, 1, 2, 3]
    assert events.time.tolist() == [5, 7, 10, 10]
    assert events.rating.tolist() == [4.0, 2.0, 3.5, 1.0]
    assert events.offsets.tolist() == [0, 0, 2, 4]
    assert (events.num_users, events.num_items, len(events)) == (2, 3, 4)
    assert [events.user_label(1), events.user_label(2), events.item_label(3)] == ["a", "b", "z"]
    assert all(isinstance(array, np.memmap) for array in (events.user, events.item, events.offsets))
    assert events.meta.origin == str(rows_csv)


def test_built_once_and_never_changed(interactions: Prepare, rows_csv: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        first = interactions(rows_csv)
        first.user[0] = 99  # private pages: the file stays
        second = interactions(rows_csv)
        third = interactions(rows_csv, min_rating=3)
    assert builds(caplog) == 2
    assert second.user[0] == 1
    assert first.meta == second.meta
    assert third.meta.fingerprint != second.meta.fingerprint
    assert len(third) == 2


def test_other_content_is_other_data(interactions: Prepare, rows_csv: Path) -> None:
    first = interactions(rows_csv)
    rows_csv.write_bytes(rows_csv.read_bytes().replace(b"a,x,2,7", b"a,x,2,8"))
    assert interactions(rows_csv).meta.fingerprint != first.meta.fingerprint


def test_same_content_elsewhere_is_the_same_data(interactions: Prepare, rows_csv: Path, tmp_path: Path) -> None:
    first = interactions(rows_csv)
    copy = shutil.copy(rows_csv, tmp_path / "copy.csv")
    assert interactions(Path(copy)).meta.fingerprint == first.meta.fingerprint
    assert folder_of(tmp_path).is_dir()


def damage_meta(folder: Path) -> None:
    (folder / "meta.json").write_text((folder / "meta.json").read_text()[:50])


def damage_bytes(folder: Path) -> None:
    content = bytearray((folder / "item.npy").read_bytes())
    content[-1] ^= 1
    (folder / "item.npy").write_bytes(content)


def damage_type(folder: Path) -> None:
    array = np.load(folder / "user.npy").astype(np.float32)
    np.save(folder / "user.npy", array)


def damage_count(folder: Path) -> None:
    content = json.loads((folder / "meta.json").read_text())
    content["arrays"] = 3
    (folder / "meta.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "time.npy").unlink(),
        lambda folder: (folder / "rating.npy").write_bytes(b"\x93NUMPY"),
        lambda folder: shutil.rmtree(folder) or folder.mkdir(),
        damage_meta,
        damage_bytes,
        damage_type,
        damage_count,
    ],
)
def test_damaged_folder_is_built_again(
    interactions: Prepare, rows_csv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable
) -> None:
    first = interactions(rows_csv)
    expected = first.item.tolist()
    damage(folder_of(tmp_path))
    with caplog.at_level(logging.INFO):
        again = interactions(rows_csv)
    assert builds(caplog) == 1
    assert again.meta == first.meta
    assert again.item.tolist() == expected
    assert folder_of(tmp_path).is_dir()


def test_large_arrays_are_checked_by_size(
    interactions: Prepare, rows_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interactions(rows_csv)
    monkeypatch.setattr(store, "_CHECKED_WHOLE", 0)
    path = folder_of(tmp_path) / "item.npy"
    for content in (path.read_bytes()[:-1], path.read_bytes() + b"x"):
        path.write_bytes(content)
        assert store.load(folder_of(tmp_path)) is None
        assert len(interactions(rows_csv).item) == 4


def test_policy_holds_for_what_is_in_the_cache(interactions: Prepare, rows_csv: Path) -> None:
    rows_csv.write_bytes(rows_csv.read_bytes() + b"bad\nc,x,nan,3\n")
    events = interactions(rows_csv, malformed="skip")
    assert events.meta.malformed == {"missing_columns": 1, "not_finite": 1}
    assert (events.meta.rows_read, len(events)) == (6, 4)
    assert interactions(rows_csv, malformed="skip", malformed_limit=2).meta == events.meta
    for strict in ({}, {"malformed": "skip", "malformed_limit": 1}):
        with pytest.raises(DataError, match=r"2 rows are malformed .*\n  line 6 \(missing_columns\): 'bad'"):
            interactions(rows_csv, **strict)


@pytest.mark.parametrize("member", ["item.npy", "meta.json"])
def test_full_disk_leaves_nothing(
    interactions: Prepare, rows_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    write, fsync = store._write, os.fsync

    def full(stream, array) -> None:
        if Path(stream.name).name == member:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(stream, array)

    def full_sync(descriptor: int) -> None:
        if member == "meta.json" and ".meta.json." in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(store, "_write", full)
    monkeypatch.setattr(os, "fsync", full_sync)
    with pytest.raises(DataError, match=r"no space left for .* are needed, .* bytes are free. Make room, or choose"):
        interactions(rows_csv)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    monkeypatch.undo()
    assert len(interactions(rows_csv)) == 4


def test_cache_that_is_a_file(rows_csv: Path, interactions: Prepare, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("x")
    with pytest.raises(DataError, match=r"cannot be used .*paths.cache=FOLDER"):
        interactions(rows_csv)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_forbidden_cache_is_explained(
    rows_csv: Path, interactions: Prepare, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def forbid(path: Path, *arguments, **options) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "mkdir", forbid)
    with pytest.raises(DataError, match=r"cannot be written or read .*paths.cache=FOLDER or RECEXP_CACHE"):
        interactions(rows_csv)


@pytest.mark.usefixtures("binding_permissions")
def test_read_only_folder_still_serves_what_is_there(interactions: Prepare, rows_csv: Path, tmp_path: Path) -> None:
    first = interactions(rows_csv)
    folders = [path for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")] if path.is_dir()]
    for path in folders:
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert interactions(rows_csv).meta == first.meta
        with pytest.raises(DataError, match="cannot be written"):
            interactions(rows_csv, min_rating=2)
    finally:
        for path in folders:
            path.chmod(stat.S_IRWXU)


def test_finished_cache_is_only_read(interactions: Prepare, rows_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = interactions(rows_csv)

    def forbid(*arguments, **options) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "x")

    for name in ("mkdir", "rename", "replace", "unlink", "touch"):
        monkeypatch.setattr(Path, name, forbid)
    assert interactions(rows_csv).meta == first.meta


def test_orphans_are_swept_by_the_next_build(interactions: Prepare, rows_csv: Path, tmp_path: Path) -> None:
    interactions(rows_csv)
    folder = folder_of(tmp_path)
    orphan = folder.with_name(f".{folder.name}.1-abcd.tmp")
    folder.rename(orphan)
    (orphan / "meta.json").unlink()
    interactions(rows_csv)
    assert not orphan.exists()
    assert folder_of(tmp_path) == folder


def test_progress_is_told(rows_csv: Path, tmp_path: Path) -> None:
    steps = []
    node = {
        "_target_": "recexp.datasets.interactions.read", "name": "interactions", "path": str(rows_csv),
        "columns": dict(zip(("user", "item", "rating", "time"), ("user", "item", "rating", "time"), strict=True)),
    }  # fmt: skip
    prepare(node, data=None, cache=tmp_path / "cache", progress=lambda *step: steps.append(step))
    size = rows_csv.stat().st_size
    assert steps[-1] == ("read rows.csv", size - len(b"user,item,rating,time\n"), size)


def test_default_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RECEXP_CACHE", "RECEXP_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert default_data() is None
    assert default_cache() == Path("~/.cache/recexp").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "recexp"
    monkeypatch.setenv("RECEXP_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("RECEXP_DATA", str(tmp_path / "data"))
    assert default_cache() == tmp_path / "mine"
    assert default_data() == tmp_path / "data"
