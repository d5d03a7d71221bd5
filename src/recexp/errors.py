"""Errors that are written for the user: shown without a traceback, each with the exit code of its kind."""

from __future__ import annotations

from collections.abc import Sequence


class RecexpError(Exception):
    """What went wrong, with which value, what is legal, and how to go on.

    ``exit_code`` is what the process returns when the error reaches the command line.
    """

    exit_code = 1


class ConfigError(RecexpError):
    """One or more mistakes in the configuration, all found before anything was started."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DeviceError(RecexpError):
    """The device or precision that was asked for cannot be had on this machine."""

    exit_code = 2


class DataError(RecexpError):
    """A dataset could not be found, fetched, verified or read."""


class CheckpointError(RecexpError):
    """A checkpoint could not be written, found or read."""


class TrackingError(RecexpError):
    """The tracking store cannot be used as configured."""
