"""Where vectors of items usually lie: in folders or archives of known names, beside the outfits or packed with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recexp.datasets.outfit_files.place import Found
from recexp.datasets.outfit_files.vector_files import VectorFiles
from recexp.storage.archive import list_files

NAMES = {
    "image": ("polyvore_image_vectors", "polyvore_image_vec"),
    "text": ("polyvore_text_onehot_vectors", "polyvore_text_mhot"),
}
_ENDINGS = ("", ".zip", ".tar", ".tar.gz", ".tar.xz")


def find_vectors(kind: str, outfits: Found | None, data: Path | None) -> VectorFiles | None:
    """Vectors of a kind of ``NAMES``; None where there are none under a usual name.

    Args:
        kind: ``image`` or ``text``.
        outfits: A file of the outfits; its folder and those above it are looked into, and the archive it is in.
        data: The user's folder of datasets.
    """
    for folder in dict.fromkeys(_folders(outfits, data)):
        for name in NAMES[kind]:
            for ending in _ENDINGS:
                path = folder / f"{name}{ending}"
                if path.is_file() if ending else path.is_dir():
                    return VectorFiles(path)
    if outfits is not None and outfits.is_packed:
        inside = {Path(name).parent.name for name, _ in list_files(outfits.place)}
        for name in NAMES[kind]:
            if name in inside:
                return VectorFiles(outfits.place, name)
    return None


def _folders(outfits: Found | None, data: Path | None) -> Iterator[Path]:
    if outfits is not None and outfits.is_packed:
        yield outfits.place.parent
    elif outfits is not None:
        file = outfits.place / outfits.name
        above = file.parent
        while above != outfits.place.parent:
            yield above
            above = above.parent
    if data is not None:
        yield data
