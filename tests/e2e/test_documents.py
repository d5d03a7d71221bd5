"""Everything that README and docs tell the reader to type: it is read, and it runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import host_npu
import pytest
from whole_commands import Recexp

from recexp.config import catalogue, location, reference
from recexp.config.compose import compose_all
from recexp.config.words import long_form
from recexp.datasets import criteo_generator
from recexp.datasets.criteo_generator import Plan

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SHELLS = {"bash", "sh", "shell", "console"}
COMMANDS = (("python", "-m", "recexp"), ("python3", "-m", "recexp"), ("recexp",))
#: What a run gets beside its own words, so that it is small; a word that the page says itself stays.
SMALLER = {"trainer.max_steps": "2", "trainer.limit_eval_users": "20", "device.threads": "1", "tracking.backend": "off"}
SWEEP = {"-m", "--multirun"}
MOVIELENS = {"ml1m": "ml-1m", "ml100k": "ml-100k", "ml_latest_small": "ml-latest-small"}


@dataclass(frozen=True)
class Command:
    """A command of a page: its place, variables that are set before it, and its words."""

    place: str
    variables: Mapping[str, str]
    words: tuple[str, ...]

    @property
    def own(self) -> tuple[str, ...] | None:
        """What stands after ``python -m recexp`` or ``recexp``; None for another command."""
        for start in COMMANDS:
            if self.words[: len(start)] == start:
                return self.words[len(start) :]
        return None

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """(line number, line) of what stands in fenced shell blocks and in indented ones; continued lines are joined."""
    language, after_blank, held, begun = None, True, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"\s*```+\s*(\w*)", line)
        if fence:
            language = None if language is not None else fence[1] or "none"
        elif language in SHELLS:
            begun = begun if held else number
            held += line
            if held.endswith("\\"):
                held = held[:-1]
                continue
            yield begun, held
            held = ""
        elif language is None and line.startswith("    ") and after_blank:
            yield number, line
            continue
        after_blank = not line.strip()


def commands() -> Iterator[Command]:
    for page in PAGES:
        text = page.read_text("utf-8")
        inline = [
            (1 + text.count("\n", 0, span.start()), span[1])
            for span in re.finditer(r"(?<!`)`((?:python -m )?recexp [^`\n]*=[^`\n]*|make [a-z][a-z-]*)`(?!`)", text)
        ]
        for number, line in [*blocks(text), *inline]:
            for part in re.split(r"\s&&\s|\s;\s", line.strip().removeprefix("$ ")):
                words = shlex.split(part, comments=True)
                variables = []
                while words and re.fullmatch(r"[A-Z][A-Z_]*=.*", words[0]):
                    variables.append(words.pop(0).split("=", 1))
                if words:
                    yield Command(f"{page.relative_to(ROOT)}:{number}", dict(variables), tuple(words))


ALL = list(commands())
#: Capitals stand for what the reader puts there.
OURS = [command for command in ALL if command.own is not None and not re.search(r"=[A-Z][A-Z_]+\b", str(command))]
MAKE = [command for command in ALL if command.words[0] == "make" and len(command.words) > 1]


def settings(words: tuple[str, ...]) -> dict[str, str]:
    """The settings among the words, under their long names."""
    return dict(long_form(word).split("=", 1) for word in words if "=" in word and not word.startswith("-"))


def test_the_commands_are_found() -> None:
    assert len(OURS) >= 5
    assert any("task=prepare" in (command.own or ()) for command in OURS)
    found = list(blocks("a\n\n    recexp x=1\n\n```bash\nmake setup \\\n  run\n```\n\n```python\nrecexp no=1\n```\n"))
    assert found == [(3, "    recexp x=1"), (6, "make setup   run")]


@pytest.mark.parametrize("command", OURS, ids=str)
def test_its_words_compose(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = command.own or ()
    if {"--help", "-h", "--version"} & set(words):
        return
    given = [long_form(word) for word in words if not word.startswith("-")]
    assert compose_all(given, multirun=bool(SWEEP & set(words)))


@pytest.mark.parametrize("command", MAKE, ids=str)
def test_make_knows_the_target(command: Command) -> None:
    done = subprocess.run(["make", "-n", *command.words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_command_is_of_an_unknown_kind() -> None:
    """A command that nothing above looks at would not be tested; name its program here, if it must be."""
    known = {"make", "git", "cd", "pip", "source", ".", "export", "mlflow", "pre-commit", "torchrun", "curl", "docker"}
    fenced = {
        (page, number): line
        for page in PAGES
        for number, line in blocks(page.read_text("utf-8"))
        if not line.startswith("    ")
    }
    places = {f"{page.relative_to(ROOT)}:{number}" for page, number in fenced}
    strange = [str(c) for c in ALL if c.place in places and c.own is None and Path(c.words[0]).name not in known]
    strange = [text for text in strange if not re.search(r": (\S*/)?python3? -m (recexp|benchmarks|pip|pytest)", text)]
    assert strange == []


def generate(recexp: Recexp, given: Mapping[str, str]) -> None:
    """The file of events that the page speaks of, with the columns that it names."""
    path = recexp.folder / given.get("dataset.path", "events.csv")
    names = [given.get(f"dataset.columns.{field}", field) for field in ("user", "item", "rating", "time")]
    separator = "\t" if path.suffix == ".tsv" else ","
    values = ((f"u{u}", f"i{(u * 5 + n * n) % 60}", "4", str(1000 + n)) for u in range(60) for n in range(12))
    rows = [names, *values]
    kept = [[value for name, value in zip(names, row, strict=True) if name != "null"] for row in rows]
    if path.suffix in (".parquet", ".pq"):
        import pandas as pd

        frame = pd.DataFrame(kept[1:], columns=kept[0])
        frame.astype(dict.fromkeys(kept[0][2:], float)).to_parquet(path)
    else:
        path.write_text("".join(separator.join(row) + "\n" for row in kept))


def run_small(recexp: Recexp, command: Command) -> None:
    words = [word for word in command.own or () if not word.startswith("experiment=")]
    recipe = [word for word in command.own or () if word.startswith("experiment=")]
    given = settings(tuple(words))
    data = os.environ.get("RECEXP_DATA")
    said = [long_form(word) for word in [*recipe, *words] if not word.startswith("-")]
    composed = compose_all(said, multirun=bool(SWEEP & set(words)))[0]
    dataset, device, task = (composed[group]["name"] for group in ("dataset", "device", "task"))
    if task in ("train", "evaluate", "prepare") and dataset in MOVIELENS:
        if not data or not list(Path(data).glob(f"{MOVIELENS[dataset]}*")):
            pytest.skip(f"RECEXP_DATA holds no {MOVIELENS[dataset]}")
        recexp.environment["RECEXP_DATA"] = data
    if dataset == "polyvore" and "dataset.path" not in given:
        if not data or not list(Path(data).glob("polyvore*")):
            pytest.skip("RECEXP_DATA holds no outfits")
        recexp.environment["RECEXP_DATA"] = data
    if task == "predict":
        (page,) = (page for page in PAGES if page.name == "predict.md")
        asked = page.read_text("utf-8").partition("```json\n")[2].partition("```")[0]
        (recexp.folder / given["task.input"]).write_text(asked)
    if device == "npu":
        recexp.environment.update(host_npu.environment(), **recexp.environment)
        recexp.environment["PYTHONPATH"] = host_npu.environment()["PYTHONPATH"]
    elif task in ("train", "evaluate", "predict") and device not in ("cpu", "auto"):
        pytest.skip(f"device={device} is another machine's")
    for name in re.findall(r"[\w.]+\.json", given.get("task.join", "")):
        recexp.run("task=rank_table", "task.chip_addresses=[192.168.1.1]", f"task.path={name}")
    if dataset == "interactions":
        generate(recexp, given)
    if dataset == "criteo" and "dataset.path" in given:
        # As many lines as the recipes' blocks of 1,000 need.
        plan = Plan(rows=30_000, max_cardinality=200, structure=1.0, seed=1)
        criteo_generator.write(recexp.folder / given["dataset.path"], **asdict(plan))
    more = dict(SMALLER) if device in ("cpu", "npu") else {**SMALLER, "device": "cpu"}
    if device == "npu":
        del more["device.threads"]
    if task in ("evaluate", "predict") or given.get("resume", "false") != "false":
        before = [
            word for word in words if re.split("[=.]", word)[0] not in ("task", "ckpt", "resume", "resume_elsewhere")
        ]
        recexp.run(*recipe, *before, *_missing(more, given))
    done = recexp.run(*recipe, *words, *_missing(more, given))
    assert done.stdout.strip()


def _missing(more: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in more.items() if key not in given]


@pytest.mark.slow
@pytest.mark.parametrize("command", list({c.words: c for c in OURS}.values()), ids=str)
def test_it_runs(command: Command, recexp: Recexp) -> None:
    words = command.own or ()
    recexp.environment.update(command.variables)
    if any(word.startswith("-") and word not in SWEEP for word in words):
        assert recexp.run(*words).stdout
    else:
        run_small(recexp, command)


@pytest.mark.parametrize("name", catalogue.choices(catalogue.EXPERIMENT))
def test_a_recipe_says_its_own_command(name: str) -> None:
    (path,) = (p for folder in location.find().experiment_folders() for p in folder.glob(f"{name}.yaml"))
    first = path.read_text("utf-8").splitlines()[0]
    assert first.startswith(f"# python -m recexp experiment={name}")
    assert compose_all(first.removeprefix("# python -m recexp ").split(), multirun=False)


def test_the_reference_of_settings_is_up_to_date() -> None:
    written = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    # Writes it: python -c "from recexp.config import reference; print(reference.render(), end='')"
    assert written == reference.render()


def test_the_links_of_a_page_lead_somewhere() -> None:
    dead = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in link and not link.startswith("mailto:") and not (page.parent / link).exists():
                dead.append(f"{page.relative_to(ROOT)}: {link}")
    assert dead == []


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    program = shutil.which("mkdocs", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("mkdocs is not installed")
    command = [program, "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "reference" / "settings" / "index.html").is_file()
