"""What the tests of the wheel need, or the reason for skipping them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from . import host_acl, install, link_only
from .cache import Missing
from .child import environment

T = TypeVar("T")


def or_skip(make: Callable[[], T]) -> T:
    """What ``make`` returns; the test is skipped where this machine lacks something for it."""
    try:
        return make()
    except Missing as error:
        pytest.skip(str(error))


def wheel() -> Path:
    """The folder with the real torch_npu."""
    return or_skip(install.install)


def link_only_variables() -> dict[str, str]:
    """Variables of a child that may import torch_npu and finds no device."""
    site = wheel()
    return environment(path=[site], libraries=or_skip(lambda: link_only.build(site)))


def on_host_memory() -> host_acl.HostAcl:
    """The real torch_npu with two NPUs made of host memory."""
    site = wheel()
    return or_skip(lambda: host_acl.build(site))
