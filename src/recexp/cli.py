"""The command line: check everything, then let Hydra start the jobs. Only here does an error become an exit code."""

from __future__ import annotations

import errno
import logging
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import recexp
from recexp.errors import ConfigError, RecexpError

if TYPE_CHECKING:
    import argparse

    from omegaconf import DictConfig

BUG = 1
INTERRUPTED = 130
BROKEN_PIPE = 141
REFUSED_FLAGS = {
    "config_path": "the configuration is recexp's own",
    "config_name": "the configuration is recexp's own",
    "config_dir": "put recipes of your own into ./experiments",
    "experimental_rerun": "it would load a pickle; repeat the command instead",
}
# The machine refuses, not the program: no traceback.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class JobFailed(Exception):
    """A job of a multirun failed and has been reported; carries the exit code through Hydra and its launchers."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(exit_code)


class _Stop(BaseException):
    """Carries the error of a single run past Hydra's own reporting."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(error)


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What stands after ``python -m recexp``.

    Returns:
        The exit code: 0, 2 for a configuration or device that cannot be, 1 for other failures, 130 after Ctrl-C.
    """
    try:
        _dispatch(list(arguments))
        sys.stdout.flush()
    except JobFailed as failed:
        return failed.exit_code
    except _Stop as stop:
        return report(stop.error)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place where every error ends
        return report(error)
    return 0


def report(error: Exception) -> int:
    """Tell the user about an error on stderr.

    Returns:
        The exit code that belongs to it.
    """
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        # The interpreter flushes stdout once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    if logging.getLogger("recexp").isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    if isinstance(error, ConfigError):
        count = "1 mistake" if len(error.problems) == 1 else f"{len(error.problems)} mistakes"
        lines = "".join(f"\n  {problem}" for problem in error.problems)
        _say(f"{count} in the configuration:{lines}\nChoices and settings: python -m recexp --help")
        return error.exit_code
    if isinstance(error, RecexpError):
        _say(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.errno in _MACHINE:
        _say(str(error))
        return BUG
    traceback.print_exception(error)
    _say("this is a bug in recexp, or in a library that it uses: please report it with the lines above")
    return BUG


def job(composed: DictConfig) -> float | None:
    """Run one composed job; Hydra calls this, in a launcher's process too.

    Returns:
        The score that a sweeper optimises, if the task has one.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    try:
        return _run_task(list(hydra.overrides.task))
    except Exception as error:
        if hydra.mode != RunMode.MULTIRUN:
            raise _Stop(error) from error
        _say(f"job {hydra.job.num} failed: {' '.join(hydra.overrides.task)}")
        raise JobFailed(report(error)) from error


def _dispatch(arguments: list[str]) -> None:
    if {"--help", "-h"} & set(arguments):
        from recexp.config import help as manual

        sys.stdout.write(manual.text(arguments) + "\n")
    elif "--version" in arguments:
        sys.stdout.write(f"recexp {recexp.__version__}\n")
    else:
        _check_and_start(arguments)


def _check_and_start(arguments: list[str]) -> None:
    from recexp.config import compose, words

    parsed = _parse(arguments)
    flags = [argument for argument in arguments if argument not in parsed.overrides]
    overrides = [words.long_form(text) for text in parsed.overrides]
    if parsed.info is not None:
        logging.raiseExceptions = False  # Hydra prints through logging; `| head` is no reason for a traceback
    if not parsed.hydra_help and not parsed.shell_completion:
        configs = compose.compose_all(overrides, multirun=parsed.multirun)
        overrides = [words.forced(text, configs[0]) for text in overrides]
    _start([*flags, *overrides])


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Hydra's own flags; unlike Hydra, words and flags may be mixed."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog = "recexp"
    parsed = parser.parse_intermixed_args(arguments)
    refused = [name for name in REFUSED_FLAGS if getattr(parsed, name) is not None]
    if refused:
        flags = (f"--{name.replace('_', '-')} is not supported: {REFUSED_FLAGS[name]}." for name in refused)
        raise ConfigError(list(flags))
    return parsed


def _start(arguments: list[str]) -> None:
    import hydra

    from recexp.config import location, plugins

    plugins.install()
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [before[0][0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come out to us instead of being printed and turned into exit code 1
    try:
        hydra.main(version_base="1.3", config_path=str(location.find().conf), config_name="config")(job)()
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _run_task(overrides: list[str]) -> float | None:
    from recexp.config import compose, targets

    config = compose.compose(overrides)
    _set_up_logging(config["log_level"])
    task = config["task"]
    if "preflight" in config["device"] and task.get("uses_device"):
        # Before the task's module is imported, which takes seconds.
        targets.load(config["device"]["preflight"])(config["device"])
    result = targets.load(task["_target_"])(config)
    return None if result is None else float(result)


def _set_up_logging(level: str) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("recexp").setLevel(level.upper())


def _nobody_reads() -> bool:
    """Whether the reader of our stdout has gone, so that an error about a pipe is about that pipe."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _say(message: str) -> None:
    from recexp.tracking.names import scrub

    sys.stderr.write(f"recexp: {scrub(message)}\n")
