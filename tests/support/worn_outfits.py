"""Several dozen outfits in the form of NGNN's repository, written for tests: categories are all that is known."""

from __future__ import annotations

from pathlib import Path

from outfit_files import write_ngnn


def write_worn(folder: Path) -> None:
    """60 training and 12 test outfits of three to five of nine categories."""
    drawn = [sorted({n % 2, *((n * k + k) % 9 for k in (1, 2, 4, 5))}) for n in range(90)]
    worn = {
        str(1000 + n): [(10 * category, 1 + at) for at, category in enumerate(own)]
        for n, own in enumerate(drawn)
        if len(own) > 2
    }
    labels = list(worn)
    train, test = ({label: worn[label] for label in part} for part in (labels[:60], labels[60:72]))
    write_ngnn(folder, train, test, [10 * category for category in range(9)])
