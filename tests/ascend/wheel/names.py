"""Every use of torch-npu by the product, found in its source: nothing is imported and nothing is listed by hand.

The product writes ``npu().a.b(...)`` for ``torch.npu.a.b`` and ``torch_npu().a.b(...)`` for the module, in place. What
cannot be followed in the source (a door kept in a variable, ``*arguments``, ``torch.npu`` without a door) is reported,
because it cannot be held against the real signatures.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: The product's two doors, and what each stands for.
DOORS = {"npu": "torch.npu", "torch_npu": "torch_npu"}
#: Opens them.
RUNTIME = "runtime.py"


@dataclass(frozen=True)
class Use:
    """One use.

    Attributes:
        name: Dotted, from ``torch.npu`` or ``torch_npu``.
        kind: ``call``, ``read`` or ``set``.
        place: File and line.
        positional: Number of positional arguments of a call.
        keywords: Names of a call's keyword arguments.
        obstacle: Why it cannot be held against a signature; empty if it can.
    """

    name: str
    kind: str
    place: str
    positional: int = 0
    keywords: list[str] = field(default_factory=list)
    obstacle: str = ""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def in_product(source: Path) -> list[Use]:
    """Uses in all files below a folder."""
    found: list[Use] = []
    for path in sorted(source.rglob("*.py")):
        name = str(path.relative_to(source))
        found += in_text(path.read_text("utf-8"), name, doors=path.name == RUNTIME)
    return found


def in_text(text: str, file: str, *, doors: bool = False) -> list[Use]:
    """Uses in one file; the one with the ``doors`` may import and name what they stand for."""
    tree = ast.parse(text)
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _door(node) is not None:
            if isinstance(above.get(node), ast.Expr):
                continue  # only opened: the import itself
            found.append(_use(node, above, file))
        elif not doors and (aside := _past_the_doors(node)):
            found.append(Use(aside, "read", f"{file}:{node.lineno}", obstacle="does not go through a door"))
    return found


def _door(node: ast.Call) -> str | None:
    called = node.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    return DOORS.get(name) if not node.args and not node.keywords else None


def _use(door: ast.Call, above: dict[ast.AST, ast.AST], file: str) -> Use:
    name, node, place = str(_door(door)), ast.AST(), f"{file}:{door.lineno}"
    node = door
    while isinstance(above.get(node), ast.Attribute):
        node = above[node]
        assert isinstance(node, ast.Attribute)
        name += f".{node.attr}"
    if node is door:
        return Use(name, "read", place, obstacle="is kept, not used in place")
    parent = above.get(node)
    if isinstance(parent, ast.Call) and parent.func is node:
        return _call(name, parent, place)
    assert isinstance(node, ast.Attribute)
    return Use(name, "set" if isinstance(node.ctx, ast.Store) else "read", place)


def _call(name: str, call: ast.Call, place: str) -> Use:
    starred = any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords)
    keywords = [keyword.arg for keyword in call.keywords if keyword.arg is not None]
    obstacle = "passes *arguments or **arguments" if starred else ""
    return Use(name, "call", place, len(call.args), keywords, obstacle)


def _past_the_doors(node: ast.AST) -> str:
    """The name of torch-npu where it is reached otherwise: imported, or as an attribute of torch."""
    for name in _names(node):
        if name.split(".")[0] == "torch_npu" or name.startswith("torch.npu"):
            return name
    return ""


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Attribute) and node.attr == "npu" and isinstance(node.value, ast.Name):
        yield f"{node.value.id}.npu"
