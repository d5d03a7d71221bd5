"""What a dataset states about its users and items beside the events: categorical columns, addressed by id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recexp.datasets.impressions import Field

UNKNOWN = 0
"""Id that every attribute has for users or items about which nothing is stated."""


@dataclass(frozen=True)
class Attribute:
    """One column.

    Attributes:
        field: Its name, number of ids (that of the unknown among them) and slots.
        ids: int32[largest id + 1, slots]; row e belongs to the user or item e of the events. -1 fills unused slots.
    """

    field: Field
    ids: npt.NDArray[np.int32]

    def of(self, entities: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Ids [N, slots] of users or items [N]; those beyond the table are unknown."""
        return self.ids.take(np.where(entities < len(self.ids), entities, 0), axis=0)

    def stated(self) -> list[object]:
        """What a fingerprint is taken of."""
        content = hashlib.sha256(np.ascontiguousarray(self.ids).tobytes()).hexdigest()
        return [self.field.name, self.field.size, self.field.slots, content]


@dataclass(frozen=True)
class Attributes:
    """All columns; ``verified`` as in :class:`recexp.datasets.events.DataMeta`."""

    users: tuple[Attribute, ...] = ()
    items: tuple[Attribute, ...] = ()
    verified: bool | None = None


def single(name: str, values: dict[int, str]) -> Attribute:
    """A column of one value for each id; values are numbered from 1 in sorted order, "" is unknown."""
    return several(name, {entity: [value] if value else [] for entity, value in values.items()})


def several(name: str, values: dict[int, list[str]]) -> Attribute:
    """A column of any number of values for each id, in their order; no values are unknown."""
    known = {value: number for number, value in enumerate(sorted({v for own in values.values() for v in own}), start=1)}
    slots = max((len(own) for own in values.values()), default=1) or 1
    ids = np.full((max(values, default=0) + 1, slots), -1, dtype=np.int32)
    ids[:, 0] = UNKNOWN
    for entity, own in values.items():
        ids[entity, : len(own)] = [known[value] for value in own]
    return Attribute(Field(name, len(known) + 1, slots), ids)
