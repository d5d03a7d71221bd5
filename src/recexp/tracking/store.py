"""Where MLflow keeps the runs: which store is meant, whether it can be used, and its one-time initialisation."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recexp.config.settings import TrackingSettings
from recexp.errors import ConfigError, TrackingError
from recexp.storage.lock import locked
from recexp.tracking import run_directory
from recexp.tracking.names import scrub

DATABASE_FILE = "mlflow.db"
DEFAULT = "default"
ARTIFACT_FOLDER = "mlartifacts"
_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")
_LEGAL = "sqlite:///PATH, http(s)://HOST:PORT, or a postgresql, mysql or mssql address"
_INITIALISE_TIMEOUT_S = 120.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """A tracking store. ``uri`` may hold credentials: show ``shown``, never ``uri``."""

    uri: str
    is_default: bool = False
    artifact_location: str | None = None

    @property
    def shown(self) -> str:
        """The address without credentials."""
        return scrub(self.uri)


def resolve(uri: str | None, root: Path) -> Store:
    """The store that is meant: ``uri``, else ``MLFLOW_TRACKING_URI``, else sqlite in ``root``.

    Raises:
        ConfigError: It cannot be used.
    """
    root = Path(root).absolute()
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    checked = check_uri(given or f"sqlite:///{root / DATABASE_FILE}")
    is_server = urlsplit(checked).scheme in _SERVERS
    return Store(checked, not given, None if is_server else (root / ARTIFACT_FOLDER).as_uri())


def resolve_uri(settings: TrackingSettings, root: Path) -> str:
    """The address of the store that ``settings`` ask for; it may hold credentials, so ``names.scrub`` it to show it.

    Raises:
        ConfigError: It cannot be used.
    """
    return resolve(settings.uri, root).uri


def check_uri(uri: str) -> str:
    """Check a tracking address before anything starts, without importing MLflow; a sqlite path becomes absolute.

    Raises:
        ConfigError: A file store, a plain path, an unknown scheme, or a sqlite file that cannot be written.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0].lower()
    if scheme == "sqlite":
        return _check_sqlite(uri)
    if scheme in _SERVERS or scheme in _DATABASES:
        if not urlsplit(uri).netloc:
            raise ConfigError([f"tracking.uri={scrub(uri)!r} names no host. Legal: {_LEGAL}."])
        return uri
    path = uri.removeprefix("file://").removeprefix("file:")
    hint = (
        f" Use tracking.uri=sqlite:///{Path(path or '.').absolute() / DATABASE_FILE}." if scheme in ("", "file") else ""
    )
    what = "a folder; MLflow no longer keeps runs in folders" if scheme in ("", "file") else "not a store we can use"
    raise ConfigError([f"tracking.uri={scrub(uri)!r} is {what}. Legal: {_LEGAL}.{hint}"])


def _check_sqlite(uri: str) -> str:
    path_text = uri.partition(":///")[2].partition("?")[0]
    if not path_text or path_text == ":memory:":
        raise ConfigError(
            [f"tracking.uri={uri!r} names no file: write sqlite:///relative.db or sqlite:////absolute.db."]
        )
    path = Path(path_text).absolute()
    if path.is_dir():
        raise ConfigError([f"tracking.uri={uri!r}: {path} is a folder; name a file, such as {path / DATABASE_FILE}."])
    ancestor = next(folder for folder in path.parents if folder.exists())
    target = path if path.exists() else ancestor
    if not os.access(target, os.W_OK):
        raise ConfigError([f"tracking.uri={uri!r}: {target} cannot be written. Choose another file, or tracking=off."])
    return f"sqlite:///{path}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite store, or None."""
    return Path(uri.partition(":///")[2].partition("?")[0]) if uri.startswith("sqlite") else None


def of_run(run_dir: Path, wanted: Store) -> Store:
    """The store of a run: the one that it began in, else ``wanted``, which is noted in the run's state.

    The note holds no credentials: for a server they come from ``wanted``, where it is the same one, or from
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``.
    """
    noted = recorded(run_dir)
    if noted is None:
        run_directory.update(run_dir, store=DEFAULT if wanted.is_default else wanted.shown)
        return wanted
    if noted.uri == wanted.shown:
        return wanted
    _log.warning("%s began in the store %s and stays there, not in %s.", run_dir, noted.uri, wanted.shown)
    return noted


def recorded(run_dir: Path) -> Store | None:
    """The store that the run began in, without credentials; None for a run that was never meant to be delivered."""
    note = run_directory.state(run_dir).extra.get("store")
    return at(run_dir, note, is_default=note == DEFAULT) if note else None


def at(run_dir: Path, uri: str, *, is_default: bool) -> Store:
    """The store at ``uri`` as the run sees it: the default one lies in the folder that holds ``runs/``."""
    root = run_dir.absolute().parents[2]
    if is_default:
        uri = f"sqlite:///{root / DATABASE_FILE}"
    is_server = urlsplit(uri).scheme in _SERVERS
    return Store(uri, is_default, None if is_server else (root / ARTIFACT_FOLDER).as_uri())


def is_initialised(path: Path) -> bool:
    """Whether ``path`` is a sqlite file with MLflow's tables."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20)) as connection:
            return bool(connection.execute("SELECT version_num FROM alembic_version").fetchone())
    except sqlite3.Error:
        return False


def initialise(store: Store) -> None:
    """Make a sqlite store's tables once, whoever comes first; imports MLflow only where that is to be done.

    The tables are made in a file beside it that is renamed when complete: a kill leaves no half-made store.

    Raises:
        TrackingError: The file is no MLflow store, or cannot be made.
    """
    path = sqlite_path(store.uri)
    if path is None or is_initialised(path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(path.name + ".lock"), "make the tracking store", _INITIALISE_TIMEOUT_S):
            if not is_initialised(path):
                _build(path, store.artifact_location or (path.parent / ARTIFACT_FOLDER).as_uri())
    except OSError as error:
        raise TrackingError(f"Cannot make the tracking store {path}: {error}") from error


def _build(path: Path, artifacts: str) -> None:
    if path.exists() and path.stat().st_size > 0:
        raise TrackingError(f"{path} exists and is no MLflow store. Move it away, or set tracking.uri to another file.")
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    built: Any = SqlAlchemyStore(f"sqlite:///{fresh}", artifacts)  # type: ignore[no-untyped-call]  # type: ignore[no-untyped-call]
    built.engine.dispose()
    fresh.replace(path)
