"""Random outfits in the form that a network takes, and in the dense form of ``dense_ngnn``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recexp.problems.outfit import ItemBatch, OutfitBatch, OutfitNodes, OutfitSizes

#: A row: the items of each of its outfits.
Row = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Wardrobe:
    """All items, category by category: pictures [N, d], multi-hot words [N, V], category [N]."""

    category: Tensor
    image: Tensor
    words: Tensor
    cooccurrence: Tensor

    @property
    def sizes(self) -> OutfitSizes:
        """With both modalities."""
        return self.only("image", "text")

    def only(self, *names: str) -> OutfitSizes:
        """With some modalities, or ``category``."""
        widths = {"image": self.image.shape[1], "text": self.words.shape[1], "category": 1}
        return OutfitSizes(len(self.cooccurrence), {name: widths[name] for name in names}, self.cooccurrence)

    def dense(self, items: Sequence[int], modality: str) -> Tensor:
        """Inputs of an outfit, [C, d], 0 for absent categories."""
        one = torch.ones(len(self.category), 1, dtype=torch.float64)
        values = {"image": self.image, "text": self.words, "category": one}[modality]
        found = torch.zeros(len(self.cooccurrence), values.shape[1], dtype=torch.float64)
        for item in items:
            found[self.category[item]] = values[item].double()
        return found


def wardrobe(
    categories: int = 6,
    each: int = 4,
    image: int = 5,
    words: int = 7,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Wardrobe:
    """Categories of different sizes; an item may have no word; two categories never occur together."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 2 * each, (categories,), generator=random)
    category = torch.repeat_interleave(torch.arange(categories), sizes)
    pictures = torch.randn(len(category), image, generator=random).to(dtype)
    multi_hot = (torch.rand(len(category), words, generator=random) < 0.3).double()
    shares = torch.rand(categories, categories, generator=random)
    shares[0, 1] = shares[1, 0] = 0
    return Wardrobe(category, pictures, multi_hot, shares.fill_diagonal_(0))


def random_rows(closet: Wardrobe, count: int, *, outfits: int = 2, seed: int = 0) -> list[list[list[int]]]:
    """Rows whose other outfits have one item replaced, by one of any category: of one that is there, too.

    The first rows are an outfit of one item, one that has just the two categories that never occur together, and one
    whose outfits are the same.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(size: int) -> int:
        return int(torch.randint(size, (), generator=random))

    def of(category: int) -> int:
        own = (closet.category == category).nonzero().squeeze(1)
        return int(own[draw(len(own))])

    def swapped(real: list[int]) -> list[int]:
        blank, new = draw(len(real)), of(draw(len(closet.cooccurrence)))
        kept = [item for at, item in enumerate(real) if at != blank]
        return [item for item in kept if closet.category[item] != closet.category[new]] + [new]

    rows: list[list[list[int]]] = []
    for number in range(count):
        length = 1 if number == 0 else 2 + draw(len(closet.cooccurrence) - 1)
        order = torch.randperm(len(closet.cooccurrence), generator=random)[:length].tolist()
        real = [of(category) for category in ([0, 1] if number == 1 else order)]
        rows.append([real, *(real if number == 2 else swapped(real) for _ in range(outfits - 1))])
    return rows


def batch_of(
    closet: Wardrobe, rows: Sequence[Row], modalities: Sequence[str] = ("image", "text"), *, padding: int = 1
) -> OutfitBatch:
    """What a feed makes of rows; ``padding`` more nodes than the widest row needs."""
    used = torch.tensor(sorted({item for row in rows for outfit in row for item in outfit}))
    nodes = [list(dict.fromkeys(item for outfit in row for item in outfit)) for row in rows]
    width, outfits = max(map(len, nodes)) + padding, max(map(len, rows))
    node = torch.zeros(len(rows), width, dtype=torch.int64)
    category = torch.zeros(len(rows), width, dtype=torch.int64)
    member = torch.zeros(len(rows), outfits, width, dtype=torch.bool)
    for r, own in enumerate(nodes):
        for w, item in enumerate(own):
            node[r, w], category[r, w] = int(torch.searchsorted(used, item)), closet.category[item]
            for k, outfit in enumerate(rows[r]):
                member[r, k, w] = item in outfit
    return OutfitBatch(_items(closet, used, modalities), OutfitNodes(node, category, member))


def _items(closet: Wardrobe, used: Tensor, modalities: Sequence[str]) -> ItemBatch:
    own = closet.category[used]
    present, lengths = own.unique_consecutive(return_counts=True)
    bounds = [0, *lengths.cumsum(0).tolist()]
    owner, words = closet.words[used].nonzero().unbind(1)
    image = closet.image[used] if "image" in modalities else None
    spoken = {"words": words, "owner": owner} if "text" in modalities else {}
    return ItemBatch(present.tolist(), bounds, own, image, **spoken)
