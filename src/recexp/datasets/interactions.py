"""A user's own events: CSV, TSV (plain or gzip) or Parquet, with a map of the columns; ids become 1..n in order."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from recexp.config.suggest import closest, did_you_mean
from recexp.datasets.lines import Layout
from recexp.datasets.malformed import Malformed, Policy
from recexp.datasets.places import Places
from recexp.datasets.remember import remembered_sha256, stamp_of
from recexp.datasets.table import Recording, Table
from recexp.errors import ConfigError, DataError
from recexp.storage.archive import describe_content
from recexp.storage.checksum import sha256_file

FIELDS = ("user", "item", "rating", "time")
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".parquet": "parquet", ".pq": "parquet"}
_SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_SINGLE = "\t ,;|:!#$%&*/<=>?@^_~"
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class ColumnMap:
    """Names of the columns; None: there is no rating (every row counts 1.0), or no time (the order of the file)."""

    user: str
    item: str
    rating: str | None
    time: str | None

    def find(self, names: Sequence[str], source: str) -> dict[str, int]:
        """Position of each mapped column among ``names``.

        Raises:
            DataError: with every column that is missing or there twice, the names there are, and the likely one.
        """
        positions, problems = {}, []
        for field in FIELDS:
            name = getattr(self, field)
            if name is None:
                continue
            if names.count(name) == 1:
                positions[field] = names.index(name)
            elif name in names:
                problems.append(f"there are {names.count(name)} columns named '{name}' (dataset.columns.{field}).")
            else:
                absent = " (or null: it has none)" if field in {"rating", "time"} else ""
                hint = did_you_mean(closest(name, names))
                problems.append(f"there is no column '{name}': set dataset.columns.{field}=NAME{absent}.{hint}")
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            shown = ", ".join(repr(name)[1:-1][:60] for name in names[:30]) or "none"
            raise DataError(f"{source}:\n{listed}\n  Its columns are {shown}.")
        return positions


def read(dataset: Mapping[str, Any], places: Places) -> Recording:
    """The reader of ``dataset=interactions``.

    Raises:
        ConfigError: no ``dataset.path``, or a separator that cannot be one.
        DataError: the file is not there or is of another kind.
    """
    if not dataset.get("path"):
        raise ConfigError(["dataset=interactions reads your own file: dataset.path=FILE (CSV, TSV or Parquet)."])
    path = Path(str(dataset["path"])).expanduser()
    if not path.is_file():
        why = "is a folder; name the file in it" if path.is_dir() else "does not exist"
        raise DataError(f"dataset.path={path} {why}.")
    separator = _separator(path, str(dataset.get("separator", "auto")))
    columns = ColumnMap(**dataset["columns"])
    _check_kind(path, separator)
    sha256 = remembered_sha256(path, "", places.cache, lambda: _reading(path))
    options = {
        "min_rating": dataset.get("min_rating"),
        "separator": separator,
        "columns": {field: getattr(columns, field) for field in FIELDS},
    }

    def load() -> tuple[Table, str]:
        stamp = stamp_of(path)
        malformed = Malformed(str(path), Policy.of(dataset), "row" if separator == "parquet" else "line")
        if separator == "parquet":
            from recexp.datasets.parquet_table import read_parquet

            table = read_parquet(path, columns, malformed, places.progress)
        else:
            table = _read_text(path, separator, columns, malformed, places)
        if stamp_of(path) != stamp or _reading(path) != sha256:
            raise DataError(f"{path} changed while it was being read. Start again.")
        return table, str(path)

    return Recording(sha256, options, load)


def _separator(path: Path, setting: str) -> str:
    """One character, ``::`` or the word parquet."""
    if setting != "auto":
        separator = _SPELLED.get(setting, setting)
        if separator in {"::", "parquet"} or (len(separator) == 1 and separator in _SINGLE):
            return separator
        raise ConfigError([
            f"dataset.separator={setting!r}: legal are auto, tab, comma, semicolon, pipe, '::', parquet, or one of "
            f"{_SINGLE[1:]}"
        ])  # fmt: skip
    name = path.name.lower().removesuffix(".gz")
    ending = Path(name).suffix
    if ending in _SEPARATORS and not (_SEPARATORS[ending] == "parquet" and path.suffix.lower() == ".gz"):
        return _SEPARATORS[ending]
    raise DataError(
        f"dataset.path={path}: what separates the columns cannot be told from the name. Name the file .csv, .tsv or "
        f".parquet (.csv.gz and .tsv.gz, too), or set dataset.separator=comma, tab, semicolon, pipe, '::' or parquet."
    )


def _check_kind(path: Path, separator: str) -> None:
    with _readable(path):
        kind = describe_content(path)
        with path.open("rb") as stream:
            parquet = stream.read(4) == b"PAR1"
    if kind in {"empty", "a web page", "zip", "7z", "tar.xz", "tar"}:
        what = "is empty (0 bytes)" if kind == "empty" else f"is {kind} inside, not rows"
        raise DataError(f"dataset.path={path} {what}. Name a CSV, TSV or Parquet file.")
    if parquet != (separator == "parquet"):
        held = "a Parquet file" if parquet else "no Parquet file"
        advice = "parquet" if parquet else "comma (or tab, semicolon, pipe)"
        raise DataError(f"dataset.path={path} is {held}, whatever its name says: set dataset.separator={advice}.")


def _read_text(path: Path, separator: str, columns: ColumnMap, malformed: Malformed, places: Places) -> Table:
    from recexp.datasets.text_table import read_text  # Arrow takes time to import, and a second start needs none

    with _readable(path), path.open("rb") as raw:
        zipped = raw.peek(2).startswith(b"\x1f\x8b")
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if zipped else raw
        names = _header(stream.readline(_LONGEST_HEADER), separator, path)
        positions = columns.find(names, str(path))
        layout = Layout(
            separator=separator,
            width=len(names),
            user=positions["user"],
            item=positions["item"],
            rating=positions.get("rating"),
            time=positions.get("time"),
        )
        total = None if zipped else path.stat().st_size
        return read_text(stream, layout, malformed, places.progress, total, first_line=2)


def _header(line: bytes, separator: str, path: Path) -> list[str]:
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise DataError(f"{path}: the first line is not UTF-8 text: {line[:60]!r}. Save the file as UTF-8.") from None
    if "\0" in text or not text.strip():
        raise DataError(f"{path}: the first line {line[:60]!r} does not name the columns.")
    if len(separator) > 1:
        return [name.strip() for name in text.split(separator)]
    try:
        return [name.strip() for name in next(csv.reader([text], delimiter=separator, strict=True))]
    except csv.Error as error:
        raise DataError(f"{path}: the first line {line[:60]!r} cannot be read: {error}.") from None


def _reading(path: Path) -> str:
    with _readable(path):
        return sha256_file(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What can go wrong with the user's own file, in words."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a gzip file that is truncated or damaged: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
