"""Negative items, drawn without a random generator: a hash of (seed, epoch, event, draw) picks each one.

The same run therefore draws the same negatives on every device, with any number of workers and in any
order, and a resumed run needs no saved state.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Constants of SplitMix64 (Steele, Lea and Flood 2014), as signed 64-bit integers.
_GOLDEN = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685
_POSITIVE = (1 << 63) - 1


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical shift of int64: torch's own keeps the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def mix(value: Tensor) -> Tensor:
    """SplitMix64's output function on int64 tensors of any shape."""
    value = (value ^ _shift_right(value, 30)) * _MIX_1
    value = (value ^ _shift_right(value, 27)) * _MIX_2
    return value ^ _shift_right(value, 31)


def _wrap(value: int) -> int:
    """A Python integer as the signed 64-bit one with the same low bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix_int(value: int) -> int:
    return int(mix(torch.tensor([_wrap(value)]))[0])


def hashed(key: int, positions: Tensor, draws: int) -> Tensor:
    """Non-negative int64 [*positions.shape, draws], uniform, a function of its arguments alone."""
    start = mix(positions.to(torch.int64) * _GOLDEN + _mix_int(key))
    steps = torch.arange(1, draws + 1, device=positions.device, dtype=torch.int64) * _GOLDEN
    return mix(start.unsqueeze(-1) + steps) & _POSITIVE


def stream_key(seed: int, *parts: int) -> int:
    """One 64-bit key from a seed and the numbers that name a stream (purpose, epoch)."""
    key = _mix_int(seed)
    for part in parts:
        key = _mix_int(key * 31 + part)
    return key


class NegativeSampler:
    """Draws items in proportion to whole-number weights, never one that the user excludes.

    Exact and without rejection: with a user's excluded items cut out of the cumulated weights, one
    binary search over all users' cuts finds how much was cut before the drawn point, another finds the item.
    """

    def __init__(
        self,
        weights: NDArray[np.int64],
        num_users: int,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        remedy: str = "use problem.negatives.exclude=none",
    ) -> None:
        """Build the tables.

        Args:
            weights: Weight of each item id, int64 [num_items + 1]; 0 is never drawn; ``weights[0]`` is 0.
            num_users: Largest user id that may be asked for.
            users: Users of the excluded pairs, int64 [P], any order; repeated pairs count once.
            items: Items of the excluded pairs, int64 [P].
            remedy: What helps a user who has no item left.

        Raises:
            ValueError: Somebody has no item left, or the weights cannot be used.
        """
        total = int(weights.sum())
        if total < 1:
            raise ValueError("every item has weight 0: there is nothing to draw negatives from")
        if (num_users + 2) * (total + 1) >= _POSITIVE:
            raise ValueError(f"{num_users} users x total weight {total} exceeds 64 bits: use smaller weights")
        pairs = np.unique(users * len(weights) + items)
        users, items = np.divmod(pairs, len(weights))
        before = np.cumsum(weights) - weights
        removed = np.cumsum(weights[items]) - weights[items]
        first = np.searchsorted(users, np.arange(num_users + 2))
        removed_total = np.concatenate((removed, [int(weights[items].sum())]))
        removed_before_user = removed_total[first]
        self._check(total - np.diff(removed_before_user), total, remedy)
        # The point, in the user's own cumulated weights, at which each of his excluded items was cut out.
        cut = before[items] - (removed - removed_before_user[users])
        self.total = total
        self.keys = torch.from_numpy(users * (total + 1) + cut)
        self.removed = torch.from_numpy(removed_total)
        self.removed_before_user = torch.from_numpy(removed_before_user)
        self.cumulated = torch.from_numpy(np.cumsum(weights))

    @staticmethod
    def _check(left: NDArray[np.int64], total: int, remedy: str) -> None:
        if (left < 1).any():
            user = int(np.flatnonzero(left < 1)[0])
            raise ValueError(
                f"user {user} has no item left to draw as a negative (all {total} of the weight is excluded): "
                f"{remedy}, or drop such users"
            )

    def to(self, device: torch.device) -> NegativeSampler:
        """The same tables on a device, in place."""
        for name in ("keys", "removed", "removed_before_user", "cumulated"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def draw(self, key: int, users: Tensor, positions: Tensor, draws: int) -> Tensor:
        """Negatives for each event.

        Args:
            key: Of :func:`stream_key`.
            users: int64 [B].
            positions: What the draw depends on beside the key, usually the event's position, int64 [B].
            draws: Negatives an event.

        Returns:
            Item ids, int64 [B, draws], with replacement.
        """
        users = users.to(torch.int64).unsqueeze(-1)
        begin, end = self.removed_before_user[users], self.removed_before_user[users + 1]
        point = hashed(key, positions, draws) % (self.total - (end - begin))
        cuts = torch.searchsorted(self.keys, users * (self.total + 1) + point, right=True)
        # Cuts of earlier users lie below every key of this user, so the difference is this user's own.
        point = point + self.removed[cuts] - begin
        return torch.searchsorted(self.cumulated, point, right=True)
