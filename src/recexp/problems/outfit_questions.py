"""Frozen questions: blanks to fill and outfits to tell from real ones, a function of the data and a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, Philox

from recexp.datasets.outfits import UNKNOWN, Outfits, PublishedQuestions
from recexp.problems.outfit_arrays import NOTHING, Ids, Mask, Pool, categories, in_place_of, last_of_category, padded

#: Answers of a question, the true one among them.
ANSWERS = 4
RANDOM, SAME, PUBLISHED = "random_category", "same_category", "published"
_STREAMS = {RANDOM: 11, SAME: 12, PUBLISHED: 13}


@dataclass(frozen=True)
class Rows:
    """Outfits to score, K in a row, over the same nodes.

    ``items`` int64 [Q, W], NOTHING where unused. ``named`` bool [Q, K, W]: what each outfit names. ``member`` bool
    [Q, K, W]: what is left of it in a graph, which has one node of a category.
    """

    items: Ids
    named: Mask
    member: Mask

    def __len__(self) -> int:
        """Q."""
        return len(self.items)


@dataclass(frozen=True)
class Questions:
    """What one protocol asks.

    Attributes:
        name: Of the protocol.
        blanks: K is the number of answers, at random places, so that no rounding favours a place.
        true: Place of the true answer, int64 [Q].
        answerable: Questions all of whose answers are items of this data, bool [Q]; the others are left to chance.
        real: Outfits that people made, K = 1.
        other: Outfits that nobody made, K = 1; where ``paired``, repeat by repeat one for each real one.
        complete: Outfits of ``real`` and of ``other`` all of whose items are in this data.
        repeats: How often questions were drawn for the same outfits.
        paired: Whether each other outfit belongs to a real one.
    """

    name: str
    blanks: Rows
    true: Ids
    answerable: Mask
    real: Rows
    other: Rows
    complete: tuple[Mask, Mask]
    repeats: int
    paired: bool


def drawn(data: Outfits, outfits: Ids, pool: Pool, *, protocol: str, repeats: int, seed: int) -> Questions:
    """Questions about some outfits, several times over.

    Args:
        data: The dataset.
        outfits: Those asked about.
        pool: Items that wrong answers are drawn from.
        protocol: ``random_category``: a category at random, then an item of it; ``same_category``: an item of the true
            one's category.
        repeats: Draws.
        seed: Of the draws; not the run's.
    """
    true = padded(data, outfits)
    draws = [
        _draw(data, true, pool, protocol, Generator(Philox(key=[seed, _STREAMS[protocol] * 2**32 + repeat])))
        for repeat in range(repeats)
    ]
    blanks, other = _joined([draw[0] for draw in draws]), _joined([draw[2] for draw in draws])
    places = np.concatenate([draw[1] for draw in draws])
    real = _single(data, true)
    whole = (np.ones(len(real), dtype=bool), np.ones(len(other), dtype=bool))
    known = np.ones(len(blanks), dtype=bool)
    return Questions(protocol, blanks, places, known, real, other, whole, repeats, paired=True)


def _joined(rows: list[Rows]) -> Rows:
    """One after the other."""
    return Rows(*(np.concatenate([getattr(one, name) for one in rows]) for name in ("items", "named", "member")))


def _single(data: Outfits, items: Ids) -> Rows:
    """One outfit a row."""
    return Rows(items, (items != NOTHING)[:, None], last_of_category(categories(data, items))[:, None])


def _draw(data: Outfits, true: Ids, pool: Pool, protocol: str, draw: Generator) -> tuple[Rows, Ids, Rows]:
    """Blanks, the places of their true answers, and other outfits of one repeat."""
    rows, width = true.shape
    category = categories(data, true)
    lengths = (true != NOTHING).sum(axis=1)
    position = draw.integers(0, np.maximum(lengths, 1))
    missing = np.take_along_axis(true, position[:, None], 1)[:, 0]
    if protocol == SAME:
        # Of few items, one drawn twice would make three answers of four.
        wrong = pool.distinct(data.category_of(missing), missing, ANSWERS - 1, draw)
    else:
        asked = _categories(draw, pool, protocol, np.zeros((rows, ANSWERS - 1), dtype=np.int64))
        wrong = pool.other_than(asked, draw.integers(0, 2**62, asked.shape), missing[:, None])
    answers, place = _mixed(draw, np.concatenate((missing[:, None], wrong), axis=1))
    blanks = blank_rows(data, true, position, answers)
    replaced = _categories(draw, pool, protocol, np.where(true == NOTHING, 0, category))
    instead = pool.other_than(replaced, draw.integers(0, 2**62, (rows, width)), true)
    return blanks, place, _single(data, np.where(true == NOTHING, NOTHING, instead))


def _mixed(draw: Generator, answers: Ids) -> tuple[Ids, Ids]:
    """Answers [Q, A], the first the true one, at random places; and where the true one is, [Q]."""
    order = draw.permuted(np.broadcast_to(np.arange(answers.shape[1]), answers.shape), axis=1)
    return np.take_along_axis(answers, order, axis=1), np.argmin(order, axis=1)


def _categories(draw: Generator, pool: Pool, protocol: str, own: Ids) -> Ids:
    if protocol == SAME:
        return own
    filled = pool.filled()
    return filled[draw.integers(0, len(filled), own.shape)]


def blank_rows(data: Outfits, outfit: Ids, position: Ids, answers: Ids) -> Rows:
    """Each outfit with each answer in the place of one of its items.

    Args:
        data: The dataset.
        outfit: Items, [Q, W]; what stands at ``position`` does not matter.
        position: [Q].
        answers: [Q, A].
    """
    category = categories(data, outfit)
    columns = np.arange(outfit.shape[1])
    context = np.where(columns == position[:, None], NOTHING, outfit)
    count = answers.shape[1]
    items = np.concatenate((context, answers), axis=1)
    member = np.zeros((len(outfit), count, items.shape[1]), dtype=bool)
    named = np.repeat((items != NOTHING)[:, None], count, axis=1)
    named[:, :, outfit.shape[1] :] &= np.eye(count, dtype=bool)
    for answer in range(count):
        kept, stays = in_place_of(category, position, categories(data, answers[:, answer]))
        member[:, answer, : outfit.shape[1]] = kept
        member[:, answer, outfit.shape[1] + answer] = stays & (answers[:, answer] != NOTHING)
    return Rows(items, named, member)


def published(data: Outfits, questions: PublishedQuestions) -> Questions:
    """The questions that others have published; items that are not in this data are left out of outfits."""
    answers = np.where(questions.answers < 0, NOTHING, questions.answers).astype(np.int64)
    context = np.where(questions.context < 0, NOTHING, questions.context).astype(np.int64)
    width = context.shape[1] + 1
    # With the blank's own column, as in the outfit: what stands behind it is later.
    position = np.minimum(questions.position.astype(np.int64), width - 1)
    columns = np.arange(width)
    source = np.minimum(columns - (columns > position[:, None]), width - 2)
    outfit = np.take_along_axis(context, np.maximum(source, 0), axis=1)
    outfit[columns == position[:, None]] = NOTHING
    outfit[replaced_by_later(data, outfit)] = NOTHING
    if not len(answers):
        # Who has only the labelled outfits is asked nothing else.
        answers = np.zeros((0, ANSWERS), dtype=np.int64)
    answers, place = _mixed(Generator(Philox(key=[0, _STREAMS[PUBLISHED]])), answers)
    blanks = blank_rows(data, outfit, position, answers)
    items = np.where(questions.outfit < 0, NOTHING, questions.outfit).astype(np.int64)
    rows = _single(data, items)
    whole = ~(questions.outfit == UNKNOWN).any(axis=1)
    chosen = questions.label.astype(bool)
    real, other = (Rows(rows.items[mask], rows.named[mask], rows.member[mask]) for mask in (chosen, ~chosen))
    complete = (whole[chosen], whole[~chosen])
    known = ~(answers == NOTHING).any(axis=1)
    return Questions(PUBLISHED, blanks, place, known, real, other, complete, 1, paired=False)


def replaced_by_later(data: Outfits, items: Ids) -> Mask:
    """Items that a later one of their category replaces, bool [Q, W]."""
    replaced: Mask = (items != NOTHING) & ~last_of_category(categories(data, items))
    return replaced
