"""Entry of ``python -m recexp`` and of the console script: sets the environment before anything imports torch."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence


def main() -> None:
    """Run the command line and leave with its exit code."""
    guard_environment(sys.argv[1:])
    from recexp import cli

    sys.exit(cli.main(sys.argv[1:]))


def guard_environment(arguments: Sequence[str]) -> None:
    """Keep torch from loading a vendor's back end at import: a broken torch-npu must not break ``device=cpu``.

    What the user has set in the environment stays.
    """
    if not any(re.match(r"\+*device=.*\bnpu\b", argument) for argument in arguments):
        os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")


if __name__ == "__main__":
    main()
