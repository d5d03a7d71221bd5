"""Where conf/ and experiments/ lie: in the checkout, or inside the installed package. The only place that knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recexp.errors import ConfigError


@dataclass(frozen=True)
class Location:
    """Folders of configuration: ``own`` is the user's ./experiments, or None where that is the shipped one."""

    conf: Path
    experiments: Path
    own: Path | None

    def experiment_folders(self) -> tuple[Path, ...]:
        """The shipped folder, then the user's."""
        return (self.experiments,) if self.own is None else (self.experiments, self.own)


def find() -> Location:
    """Look into the package (wheel), then two folders above it (checkout, editable install).

    Raises:
        ConfigError: the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    root = package if (package / "conf").is_dir() else package.parents[1]
    if not (root / "conf" / "config.yaml").is_file():
        raise ConfigError(
            [f"{root / 'conf' / 'config.yaml'} is missing: the installation is incomplete, reinstall recexp"]
        )
    experiments = root / "experiments"
    own = _working_folder_experiments()
    return Location(root / "conf", experiments, None if own == experiments.resolve() else own)


def _working_folder_experiments() -> Path | None:
    try:
        own = Path.cwd() / "experiments"
    except FileNotFoundError:  # the working folder was deleted under us
        return None
    return own.resolve() if own.is_dir() else None
