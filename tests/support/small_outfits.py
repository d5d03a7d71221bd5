"""Small trainings on outfits as words, and scores of outfits one by one from the weights that a run has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dense_ngnn
import torch
from finished_runs import weights
from torch import Tensor

from recexp.datasets import outfit_store
from recexp.datasets.outfits import Outfits

#: A few dozen outfits with narrow features.
WARDROBE = [
    "dataset=polyvore_synthetic", "dataset.outfits=60", "dataset.categories=10", "dataset.items_per_category=12",
    "dataset.styles=3", "dataset.image_width=6", "dataset.num_words=30",
]  # fmt: skip
FEW = [
    "trainer.max_steps=6", "trainer.log_every_n_steps=2", "trainer.updates_per_block=4", "dataset.batch_size=32",
    "dataset.eval_batch_size=8",
]  # fmt: skip
NARROW = ["model=ngnn", "model.hidden_image=4", "model.hidden_text=4"]
SMALL = [*NARROW, *WARDROBE, *FEW]


def prepared(cache: Path) -> Outfits:
    """The only outfits of a cache."""
    (folder,) = {path.parent for path in (cache / "datasets").glob("*/meta.json")}
    found = outfit_store.load(folder)
    assert found is not None
    return found


@dataclass(frozen=True)
class Piece:
    """An item of an outfit as a person describes it: category, picture, words."""

    category: int
    image: Sequence[float]
    words: Sequence[int]

    @classmethod
    def of(cls, data: Outfits, item: int) -> Piece:
        """An item of a dataset with pictures and words."""
        assert data.image is not None
        assert data.words is not None
        assert data.word_offsets is not None
        category = max(c for c in range(len(data.categories)) if data.category_offsets[c] <= item)
        first, last = data.word_offsets[item], data.word_offsets[item + 1]
        return cls(category, [float(x) for x in data.image[item]], [int(w) for w in data.words[first:last]])


class DenseRun:
    """A trained network in the form with a node for every category; beta 0.2 and 3 steps, edges complete."""

    def __init__(self, run: Path, data: Outfits) -> None:
        self.categories, self.num_words = len(data.categories), data.num_words
        self.parameters: dict[str, dict[str, Tensor]] = {}
        for name, value in weights(run).items():
            *_, modality, parameter = name.split(".")
            self.parameters.setdefault(modality, {})[parameter] = value.double()
        for own in self.parameters.values():
            hidden = len(own["w_conf"])
            own["w_in"] = own["w_in"].view(self.categories, -1, hidden)
            own["w_out"], own["w_msg"] = (own[name].view(-1, hidden, hidden) for name in ("w_out", "w_msg"))

    def scores(self, outfit: Sequence[Piece]) -> dict[str, float]:
        """By modality, and ``score``."""
        present = torch.zeros(self.categories, dtype=torch.float64)
        present[[piece.category for piece in outfit]] = 1
        image = torch.zeros(self.categories, len(outfit[0].image), dtype=torch.float64)
        words = torch.zeros(self.categories, self.num_words, dtype=torch.float64)
        for piece in outfit:
            image[piece.category] = torch.tensor(piece.image, dtype=torch.float64)
            words[piece.category, list(piece.words)] = 1
        nothing = torch.zeros(self.categories, self.categories, dtype=torch.float64)
        edges = dense_ngnn.adjacency([piece.category for piece in outfit], "complete", nothing)
        found = {
            name: dense_ngnn.outfit_score(self.parameters[name], inputs, edges, present, 3)
            for name, inputs in (("image", image), ("text", words))
        }
        return {**{k: v.item() for k, v in found.items()}, "score": dense_ngnn.fused(found, 0.2).item()}
