"""MovieLens-1M's users (gender, age, occupation, zip code) and films (genres, year), as its files state them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recexp.datasets import companion_file, ml1m
from recexp.datasets.attributes import Attributes, several, single
from recexp.datasets.places import Places
from recexp.errors import DataError

USERS = "users.dat"
USERS_SHA256 = "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3"
USERS_BYTES = 134_368
FILMS = "movies.dat"
FILMS_SHA256 = "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9"
FILMS_BYTES = 171_308

_LARGEST_USER, _LARGEST_FILM = ml1m.LAYOUT.largest or (0, 0)
_USER = re.compile(r"(\d{1,9})::([FM])::(\d{1,3})::(\d{1,2})::([^:]*)")
_FILM = re.compile(r"(\d{1,9})::(.*)::([^:]*)")
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_REGION = re.compile(r"\d{3}")


def load(dataset: Mapping[str, Any], places: Places) -> Attributes:
    """Gender, age, occupation and zip of users, genres and year of films.

    The zip code's first three digits are its region; a code that does not begin with three digits is unknown. The year
    is the one in brackets at the end of the title. Values are numbered in the order of their text, whether or not a
    rated film or a rating user has them.

    Raises:
        DataError: a file cannot be had or read; see :func:`recexp.datasets.companion_file.read`.
    """
    users, users_verified = companion_file.read(ml1m.ML1M, USERS, USERS_SHA256, USERS_BYTES, dataset, places)
    films, films_verified = companion_file.read(ml1m.ML1M, FILMS, FILMS_SHA256, FILMS_BYTES, dataset, places)
    people = {int(row[0]): row for row in _rows(users, _USER, USERS, _LARGEST_USER)}
    listed = {int(row[0]): row for row in _rows(films, _FILM, FILMS, _LARGEST_FILM)}
    genres = {film: [genre for genre in row[2].split("|") if genre] for film, row in listed.items()}
    return Attributes(
        users=(
            single("gender", {user: row[1] for user, row in people.items()}),
            single("age", {user: row[2].zfill(3) for user, row in people.items()}),
            single("occupation", {user: row[3].zfill(2) for user, row in people.items()}),
            single("zip", {user: _start(_REGION, row[4]) for user, row in people.items()}),
        ),
        items=(several("genres", genres), single("year", {film: _end(_YEAR, row[1]) for film, row in listed.items()})),
        verified=users_verified and films_verified,
    )


def _rows(content: bytes, layout: re.Pattern[str], name: str, largest: int) -> list[tuple[str, ...]]:
    rows = []
    for number, line in enumerate(content.decode("latin-1").split("\n"), start=1):
        found = layout.fullmatch(line.rstrip("\r"))
        if found is not None and 1 <= int(found[1]) <= largest:
            rows.append(found.groups())
        elif line.strip():
            raise DataError(
                f"{name}, line {number} is not as published: {line[:120]!r} (the first number is 1..{largest}). "
                f"Correct the file, or do without what it states: problem.fields=[user,item]."
            )
    return rows


def _start(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    return "" if found is None else found[0]


def _end(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return "" if found is None else found[1]
