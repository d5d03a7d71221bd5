"""A little data in MovieLens-1M's form, written for tests: a field of several ids beside those of one."""

from __future__ import annotations

from pathlib import Path


def write_films(folder: Path) -> None:
    """60 users, 40 films with up to three genres (every fourth without one) and 1,200 ratings of 1 to 5."""
    folder.mkdir(parents=True)
    ages, genres = (1, 18, 25), ("Drama", "Comedy", "War", "Crime")
    users = [f"{user}::{'FM'[user % 2]}::{ages[user % 3]}::{user % 5}::{10000 + 700 * user}" for user in range(1, 61)]
    films = [
        f"{film}::Film ({1950 + film})::{'|'.join(genres[at % 4] for at in range(film, film + film % 4))}"
        for film in range(1, 41)
    ]
    ratings = [
        f"{user}::{film}::{1 + (user * film + film // 7) % 5}::{978300000 + 60 * (40 * user + film)}"
        for user in range(1, 61)
        for film in range(1, 41)
        if (user + film) % 2
    ]
    for name, lines in (("users.dat", users), ("movies.dat", films), ("ratings.dat", ratings)):
        (folder / name).write_text("".join(line + "\n" for line in lines), "latin-1")
