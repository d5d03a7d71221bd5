"""The events of a dataset on the trainer's device, whole, and the histories that are gathered from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from recexp.datasets.events import Events


class PlacedEvents:
    """Item, user and the start of the user's events, for each event; the feed and the evaluation share them."""

    item: Tensor
    user: Tensor
    start: Tensor

    def __init__(self, events: Events) -> None:
        self.events = events
        self.device: torch.device | None = None

    def place(self, device: torch.device) -> None:
        """Copy to a device, once."""
        if self.device == device:
            return
        user = np.asarray(self.events.user)
        self.item = torch.from_numpy(np.array(self.events.item)).to(device)
        self.user = torch.from_numpy(np.array(user)).to(device)
        self.start = torch.from_numpy(np.asarray(self.events.offsets)[user].astype(np.int64)).to(device)
        self.device = device

    def history(self, position: Tensor, length: int) -> Tensor:
        """The last items of the same user before each position, int64 [B, length], 0 on the left."""
        at = position[:, None] + torch.arange(-length, 0, device=position.device)
        inside = at >= self.start[position][:, None]
        return torch.where(inside, self.item[at.clamp(min=0)], 0).to(torch.int64)
