"""Entry of ``python -m recexp`` and of the console script: sets the environment before anything imports torch."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    guard_environment()
    from recexp import cli

    sys.exit(cli.main(sys.argv[1:]))


def guard_environment() -> None:
    """Keep torch from loading a vendor's back end at import: a broken torch-npu must not break ``device=cpu``.

    ``device=npu`` imports torch-npu itself, where what fails can be explained.
    """
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"


if __name__ == "__main__":
    main()
