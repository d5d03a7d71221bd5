"""Features of items, wherever they are held: gathered on the host from mapped files, or on the device whole."""

from __future__ import annotations

import itertools
from typing import cast

import numpy as np
import torch
from torch import Tensor

from recexp.datasets.outfits import Outfits
from recexp.problems.outfit import ItemBatch
from recexp.problems.outfit_arrays import Ids

#: Pictures up to this size live on the device.
RESIDENT_BYTES = 4 << 30


class PlacedItems:
    """All items of a dataset, ready to be gathered for a device."""

    def __init__(self, data: Outfits, *, shuffle_seed: int | None = None) -> None:
        """Hold them on the host.

        Args:
            data: The dataset.
            shuffle_seed: Every item gets the features of another one of its category; None: its own.
        """
        self.data = data
        self.device = torch.device("cpu")
        self._image = None if data.image is None else torch.from_numpy(cast(np.ndarray, data.image))
        self._source = None if shuffle_seed is None else exchanged(data.category_offsets, shuffle_seed)

    def place(self, device: torch.device) -> None:
        """Gather for a device from now on."""
        image = self._image
        if image is not None and device.type != "cpu" and image.numel() * image.element_size() <= RESIDENT_BYTES:
            self._image = image.to(device)
        self.device = device

    def batch(self, items: Ids) -> ItemBatch:
        """Distinct items in ascending order."""
        category = self.data.category_of(items)
        starts = np.flatnonzero(np.diff(category, prepend=-1))
        source = items if self._source is None else self._source[items]
        words, owner = self._words(source)
        return ItemBatch(
            categories=category[starts].tolist(),
            bounds=[*starts.tolist(), len(items)],
            category=torch.from_numpy(category).to(self.device),
            image=self._pictures(source),
            words=words,
            owner=owner,
            present=torch.from_numpy(category[starts]).to(self.device),
        )

    def _pictures(self, items: Ids) -> Tensor | None:
        if self._image is None:
            return None
        gathered = self._image.index_select(0, torch.from_numpy(items).to(self._image.device))
        # Half of the bytes travel.
        return gathered.to(self.device).float()

    def _words(self, items: Ids) -> tuple[Tensor | None, Tensor | None]:
        if self.data.words is None or self.data.word_offsets is None:
            return None, None
        first = self.data.word_offsets[items]
        count = self.data.word_offsets[items + 1] - first
        owner = np.repeat(np.arange(len(items)), count)
        places = np.arange(len(owner)) + np.repeat(first - (np.cumsum(count) - count), count)
        words = self.data.words[places].astype(np.int64)
        return torch.from_numpy(words).to(self.device), torch.from_numpy(owner).to(self.device)


def exchanged(category_offsets: Ids, seed: int) -> Ids:
    """A permutation of the items within each category, int64 [N]."""
    draw = np.random.Generator(np.random.Philox(key=[seed, 13]))
    order = np.arange(int(category_offsets[-1]))
    for first, last in itertools.pairwise(category_offsets):
        order[first:last] = first + draw.permutation(int(last - first))
    return order
