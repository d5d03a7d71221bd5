"""The sampler against enumeration: never an excluded item, each other one in proportion to its weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from recexp.problems.negatives import NegativeSampler, hashed, stream_key


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_every_point_maps_to_the_item_that_enumeration_gives(data: st.DataObject) -> None:
    weights = np.array([0, *data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))])
    num_users = data.draw(st.integers(1, 4))
    pairs = data.draw(st.lists(st.tuples(st.integers(1, num_users), st.integers(1, len(weights) - 1)), max_size=12))
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    left = {
        u: [i for i in range(len(weights)) if (u, i) not in set(pairs) for _ in range(weights[i])]
        for u in range(1, num_users + 1)
    }
    if not all(left.values()) or not weights.sum():
        with pytest.raises(ValueError, match=r"weight 0|no item left"):
            NegativeSampler(weights, num_users, users, items)
        return
    sampler = NegativeSampler(weights, num_users, users, items)
    for user, expected in left.items():
        draws = sampler.draw(stream_key(1), torch.full((50,), user), torch.arange(50), 4)
        points = hashed(stream_key(1), torch.arange(50), 4) % len(expected)
        assert draws.tolist() == [[expected[p] for p in row] for row in points.tolist()]


def test_draws_are_uniform_and_independent_of_the_batch() -> None:
    weights = np.ones(21, dtype=np.int64)
    weights[0] = 0
    sampler = NegativeSampler(weights, 3, np.array([1, 1, 2]), np.array([5, 6, 20]))
    users = torch.randint(1, 4, (20000,), generator=torch.Generator().manual_seed(0))
    draws = sampler.draw(stream_key(7, 1), users, torch.arange(20000), 2)
    for user, excluded in ((1, {5, 6}), (2, {20}), (3, set())):
        counts = np.bincount(draws[users == user].ravel(), minlength=21)
        legal = [i for i in range(1, 21) if i not in excluded]
        assert set(np.flatnonzero(counts)) == set(legal)
        assert chisquare(counts[legal]).pvalue > 1e-3
    part = sampler.draw(stream_key(7, 1), users[500:510], torch.arange(500, 510), 2)
    assert torch.equal(part, draws[500:510])


def test_streams_differ() -> None:
    keys = {stream_key(seed, purpose, epoch) for seed in (1, 2) for purpose in (1, 2) for epoch in range(50)}
    assert len(keys) == 200
    one, other = (hashed(stream_key(1, 1, epoch), torch.arange(1000), 1) for epoch in (0, 1))
    assert (one == other).sum() == 0
    # Bits are balanced: each of the low 20 within five standard deviations of a half.
    bits = (one >> torch.arange(20)) & 1
    assert (bits.float().mean(0) - 0.5).abs().max() < 5 * 0.5 / 1000**0.5
