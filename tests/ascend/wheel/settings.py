"""Everything that the product's options make it say to torch-npu, collected by letting it speak to a listener."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recexp.config import catalogue
from recexp.devices.ascend import options

#: A value for each option that takes any text.
FREE_TEXT = {"ACL_OP_DEBUG_OPTION": "oom", "ACL_DEBUG_DIR": "debug", "ACL_OP_COMPILER_CACHE_DIR": "cache"}


class Listener:
    """Stands for ``torch.npu``: writes down calls and assignments at any depth."""

    def __init__(self, said: list[dict[str, Any]], name: str = "") -> None:
        object.__setattr__(self, "_said", said)
        object.__setattr__(self, "_name", name)

    def __getattr__(self, part: str) -> Listener:
        return Listener(self._said, f"{self._name}.{part}".lstrip("."))

    def __setattr__(self, part: str, value: Any) -> None:
        self._said.append({"name": f"{self._name}.{part}".lstrip("."), "value": value})

    def __call__(self, *arguments: Any, **keywords: Any) -> None:
        self._said.append({"name": self._name, "arguments": list(arguments), "keywords": keywords})


def everything_said(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[dict[str, Any]]:
    """Calls and assignments for every legal value of every option, each once."""
    said: list[dict[str, Any]] = []

    def listen() -> Listener:
        # Each is said by a process of its own, which has set nothing before.
        options._set.clear()
        return Listener(said)

    monkeypatch.setattr(options, "npu", listen)
    for word in (True, False):
        options.apply({"jit_compile": word, "internal_format": word, "hf32": word})
        options.set_precision_mode(allow_fp16=word)
    for mode in catalogue.read("device/npu").schema["device.op_impl_mode"].choices or ():
        options.apply({"op_impl_mode": mode, "op_impl_types": ["Pow", "Softmax"]})
    options.apply({"aoe_dir": str(folder / "aoe")})
    for key, legal in options.ACL_OPTIONS.items():
        for value in legal or [FREE_TEXT[key]]:
            options.check_acl({key: value})
            options.apply({"acl": {key: value}})
    return [one for i, one in enumerate(said) if one not in said[:i]]
