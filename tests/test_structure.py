"""The house stays as it is drawn in docs/architecture.md: import order, no torch where none is needed, sizes, names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "recexp"
FILES = sorted(SOURCE.rglob("*.py"))
ORDER = ["config", "datasets", "metrics", "problems", "models", "devices", "training", "tasks"]
#: What everybody may import, and what these may import themselves.
LEAVES = {
    "errors": set(),
    "storage": {"errors"},
    "tracking": {"errors", "storage", "config"},
    "reports": {"errors", "storage", "tracking", "config"},
}
HEAVY = {"torch", "pytorch_lightning", "torchmetrics", "mlflow", "lightning_fabric"}
LIGHT = ["config", "storage", "datasets", "tracking", "reports", "errors", "cli", "__main__"]
#: Runs in the process that delivers, never in the one that trains.
SENDER_ONLY = "delivery"
FORBIDDEN = re.compile(r"\b(eval|exec)\(|pickle\.loads?\(|shell=True|allow_pickle=True|yaml\.load\(|weights_only=False")


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path, *, inside_functions: bool) -> Iterator[str]:
    """Absolute names of what a file imports; blocks under TYPE_CHECKING do not count."""
    tree = ast.parse(path.read_text("utf-8"))
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not inside_functions and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_to_the_left_imports_anything_to_the_right(path: Path) -> None:
    own = part(path)
    used = {name.split(".")[1] for name in imports(path, inside_functions=True) if name.startswith("recexp.")}
    used &= {*ORDER, *LEAVES}
    if own in ORDER:
        assert used <= {*ORDER[: ORDER.index(own) + 1], *LEAVES}
    elif own in LEAVES:
        assert used <= {own, *LEAVES[own]}


@pytest.mark.parametrize(
    "path", [p for p in FILES if part(p) in LIGHT and p.stem != SENDER_ONLY], ids=lambda p: str(p.relative_to(SOURCE))
)
def test_no_torch_where_answers_must_be_fast(path: Path) -> None:
    loaded = {name.split(".")[0] for name in imports(path, inside_functions=part(path) != "tracking")}
    assert not loaded & HEAVY


def test_importing_recexp_is_light() -> None:
    names = ["config.compose", "tracking.tracker", "reports.console", "datasets.prepare"]
    lines = "; ".join(f"import recexp.{name}" for name in names)
    code = f"import sys; {lines}; print({{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(ast.literal_eval(done.stdout))


def test_no_core_file_names_a_model_or_a_dataset() -> None:
    # lr is also what torch's optimisers call their learning rate.
    models = {p.stem for p in (ROOT / "conf" / "model").glob("[!_]*.yaml")} - {"lr"}
    datasets = {p.stem for p in (ROOT / "conf" / "dataset").glob("[!_]*.yaml")} - {"interactions"}
    allowed = {SOURCE / "models" / f"{m}.py" for m in models} | {SOURCE / "datasets" / f"{d}.py" for d in datasets}
    found = []
    for path in set(FILES) - allowed:
        code = ast.parse(path.read_text("utf-8"))
        strings = {n.value for n in ast.walk(code) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        found += [f"{path.name}: {word}" for word in strings & (models | datasets)]
    assert not found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_say_what_they_are_for_and_stay_small(path: Path) -> None:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no line that says what the file is for"
    assert text.count("\n") <= 400
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60 and not _is_signature(node)
    ]
    assert not long
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    assert not FORBIDDEN.search(text)


def _is_signature(node: ast.FunctionDef) -> bool:
    """Whether the length is documentation: the statements themselves take few lines."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return not body or (node.end_lineno or 0) - body[0].lineno < 40


def test_torch_load_is_called_in_one_place() -> None:
    callers = [p for p in FILES if "torch.load(" in p.read_text("utf-8")]
    assert callers == [SOURCE / "training" / "checkpoint_file.py"]


def test_the_repository_speaks_of_the_project_alone() -> None:
    """No machine paths and no hosts of package indexes."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    words = ["/" + "work/", "/" + "root/", "py" + "pi.org", "files.python" + "hosted"]
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".png", ".lock"} or not path.is_file():
            continue
        text = path.read_text("utf-8", errors="ignore")
        assert not [word for word in words if word in text], name
