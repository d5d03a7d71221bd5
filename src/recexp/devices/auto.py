"""``device=auto``: the first kind that really computes."""

from __future__ import annotations

import logging

from recexp.config import catalogue
from recexp.devices.build import make
from recexp.devices.device import Device
from recexp.errors import DeviceError

_log = logging.getLogger(__name__)


def choose(*, order: list[str]) -> Device:
    """The first of ``order`` on which one addition works; says which, and why not the others.

    Args:
        order: Words of ``device=``, the best first.

    Raises:
        DeviceError: None of them works.
    """
    reasons = []
    for word in order:
        try:
            device = default(word)
            device.check()
        except DeviceError as error:
            reasons.append(str(error))
            continue
        passed = ", ".join(order[: len(reasons)])
        _log.info("device=auto is %s here%s", word, f"; task=doctor says why not {passed}" if passed else "")
        return device
    raise DeviceError("device=auto found nothing to run on: " + " ".join(reasons))


def default(word: str) -> Device:
    """The device of a word with the options of its file."""
    return make(catalogue.read(f"device/{word}").tree["device"])
