"""``dataset=polyvore_synthetic``: outfits with a hidden style, generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recexp.datasets import outfit_store
from recexp.datasets.outfit_generator import GENERATOR, Recipe, generate
from recexp.datasets.places import Places
from recexp.datasets.table import OutfitRecording, WrittenOutfits
from recexp.errors import ConfigError
from recexp.storage.checksum import sha256_json


def read(dataset: Mapping[str, Any], places: Places) -> OutfitRecording:
    """The reader of ``dataset=polyvore_synthetic``.

    Raises:
        ConfigError: a path is named, which generated outfits do not have, or sizes contradict each other.
    """
    if dataset.get("path"):
        raise ConfigError(
            ["dataset=polyvore_synthetic is generated: dataset.path has no meaning. Use dataset=polyvore."]
        )
    recipe = Recipe.of(dataset)
    content = sha256_json({"generator": GENERATOR, **asdict(recipe)})

    def write(folder: Path, workspace: Path) -> WrittenOutfits:
        return outfit_store.write(folder, generate(recipe))

    return OutfitRecording(content, {}, write, synthetic=True)
