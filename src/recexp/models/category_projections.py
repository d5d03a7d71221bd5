"""First layer of a graph whose nodes are categories: each item times the matrix of its own category.

Shape letters: C categories, d width of the input, h width of the result, U items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recexp.models.click_losses import widened
from recexp.models.tables import table_rows

if TYPE_CHECKING:
    from recexp.problems.outfit import ItemBatch


def image_products(table: Tensor, items: ItemBatch) -> Tensor:
    """Each picture times the matrix of its category, float32 [U, h].

    Items of one category follow each other, so that a matrix is read once for all of them. Where a run begins is known
    to the host, and which matrices are meant to the device: it is not waited for.

    Args:
        table: Matrix of each category, row-major, [C, d * h].
        items: With pictures.
    """
    assert items.image is not None
    present = items.present
    if present is None:
        present = torch.tensor(items.categories, dtype=torch.int64, device=table.device)
    rows = table_rows(table, present, padded=False)
    lengths = [end - start for start, end in zip(items.bounds, items.bounds[1:], strict=False)]
    width = items.image.shape[1]
    matrices = rows.view(len(lengths), width, table.shape[1] // width)
    if not lengths:
        # One of several processes may have no row of an update: its gradient of 0 is waited for.
        return matrices.sum(1)
    # Slices would each have a gradient as large as all of them.
    runs = zip(items.image.split(lengths), matrices.unbind(0), strict=True)
    return widened(torch.cat([torch.mm(run, matrix) for run, matrix in runs]))


def word_sums(table: Tensor, items: ItemBatch, num_words: int) -> Tensor:
    """The product of a multi-hot vector of words with the matrix of the category: a sum of rows, float32 [U, h].

    Written as a gather and a sum by item, because not every accelerator has torch's bag of embeddings.

    Args:
        table: The vector of word w in category c is row c * num_words + w, [C * num_words, h].
        items: With words; an item without any gets 0.
        num_words: In the vocabulary.
    """
    assert items.words is not None
    assert items.owner is not None
    own = items.category.index_select(0, items.owner) * num_words + items.words
    rows = table_rows(table, own, padded=False)
    return rows.new_zeros(len(items), table.shape[1]).index_add(0, items.owner, rows)


def category_vectors(table: Tensor, items: ItemBatch) -> Tensor:
    """The vector of each item's category, where nothing else is known of it, float32 [U, h].

    Args:
        table: [C, h].
        items: Any.
    """
    return table_rows(table, items.category, padded=False)
