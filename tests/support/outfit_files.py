"""Outfits in the very formats of NGNN's repository and of xthan's release, written for tests from plain dicts."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

#: Outfits by set_id: (category id, index in the outfit) of each item.
Worn = Mapping[str, Sequence[tuple[int, int]]]
#: The same with the name of each item.
Named = Mapping[str, Sequence[tuple[int, int, str]]]

TRAIN: Worn = {
    "101": [(17, 1), (9, 3), (46, 4)],
    "102": [(9, 1), (17, 2), (4495, 5), (62, 6)],
    "103": [(46, 2), (4495, 3), (9, 8)],
}
TEST: Worn = {"201": [(62, 1), (46, 2), (17, 3)], "202": [(9, 1), (17, 2), (62, 4), (46, 5)]}
#: Ids in the order of their numbers, which is not that of the ids, and a category that no outfit has.
CATEGORIES = (9, 17, 4495, 46, 62, 5)


def labels(*parts: Worn) -> list[str]:
    """``{set_id}_{index}`` of every item, in the order of the files."""
    return [f"{outfit}_{item[1]}" for part in parts for outfit, items in part.items() for item in items]


def write_ngnn(folder: Path, train: Worn = TRAIN, test: Worn = TEST, categories: Iterable[int] = CATEGORIES) -> Path:
    """The five files that lie in NGNN/data; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [*categories]
    for name, part in (("train", train), ("test", test)):
        told = [
            {"items_category": [c for c, _ in items], "items_index": [i for _, i in items], "set_id": outfit}
            for outfit, items in part.items()
        ]
        (folder / f"{name}_no_dup_new_100.json").write_text(json.dumps(told))
    (folder / "cid2rcid_100.json").write_text(json.dumps({str(id): number for number, id in enumerate(ids)}))
    summary = []
    for id in ids:
        own = [f"{outfit}_{i}" for outfit, items in train.items() for c, i in items if c == id]
        summary.append({"id": id, "name": f"Category {id}", "frequency": 100 + len(own), "items": own})
    (folder / "category_summarize_100.json").write_text(json.dumps(summary[::-1]))
    (folder / "category_id.txt").write_text("".join(f"{id} Named {id}\r\n" for id in sorted(ids)))
    return folder


def write_xthan(folder: Path, train: Named, valid: Named, test: Named) -> Path:
    """The raw outfits and category_id.txt; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        told = [
            {
                "name": f"Outfit {outfit}", "views": 1, "image": "", "likes": 2, "date": "One month", "desc": "",
                "set_url": "", "set_id": outfit,
                "items": [
                    {"index": i, "name": called, "price": 9.5, "likes": 1, "image": "", "categoryid": c}
                    for c, i, called in items
                ],
            }
            for outfit, items in part.items()
        ]  # fmt: skip
        (folder / f"{name}_no_dup.json").write_text(json.dumps(told))
    ids = sorted({item[0] for part in (train, valid, test) for items in part.values() for item in items})
    (folder / "category_id.txt").write_text("".join(f"{id} Named {id}\n" for id in ids))
    return folder


def write_questions(
    folder: Path,
    blanks: Sequence[tuple[Sequence[str], Sequence[str], int]] = (),
    labelled: Sequence[tuple[int, Sequence[str]]] = (),
) -> Path:
    """Questions as (items, answers, the true one first, position of the blank from 1), outfits as (label, items)."""
    folder.mkdir(parents=True, exist_ok=True)
    told = [{"question": [*q], "answers": [*a], "blank_position": at} for q, a, at in blanks]
    (folder / "fill_in_blank_test.json").write_text(json.dumps(told, indent=4))
    lines = [" ".join([str(label), *outfit]) + "\n" for label, outfit in labelled]
    (folder / "fashion_compatibility_prediction.txt").write_text("".join(lines))
    return folder


def write_vectors(folder: Path, vectors: Mapping[str, Sequence[float]]) -> Path:
    """``LABEL.json`` with a list of numbers of each item; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for label, vector in vectors.items():
        (folder / f"{label}.json").write_text(json.dumps([*vector]))
    return folder


def pack(folder: Path, archive: Path) -> Path:
    """All of a folder in a zip or tar, as its name ends, and the folder removed; returns the archive."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in files:
                packed.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    else:
        kind = archive.suffix.removeprefix(".")
        with tarfile.open(archive, f"w:{'' if kind == 'tar' else kind}") as packed:
            for path in files:
                packed.add(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    shutil.rmtree(folder)
    return archive
