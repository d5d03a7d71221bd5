"""Opens MLflow's pages on this machine alone: ``python -m recexp.tracking.ui --root . --port 5000``."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from recexp.errors import RecexpError, TrackingError
from recexp.tracking import store

HOST = "127.0.0.1"


def main(arguments: Sequence[str]) -> None:
    """Create the store if there is none and become the MLflow server; returns only where there is nothing to start.

    Raises:
        TrackingError: The port is in use.
        ConfigError: The store's address cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m recexp.tracking.ui", description="Show the recorded runs.")
    parser.add_argument("--root", type=Path, default=Path(), help="folder of mlflow.db (paths.root)")
    parser.add_argument("--uri", default=None, help="another store (tracking.uri)")
    parser.add_argument("--port", type=int, default=5000, help="port on this machine")
    asked = parser.parse_args(arguments)
    target = store.resolve(asked.uri, asked.root)
    if target.uri.startswith(("http://", "https://")):
        sys.stdout.write(f"The runs are on a server already: open {target.shown}\n")
        return
    _check_port(asked.port)
    store.initialise(target)
    # Through the environment, because anybody on the machine may read a command line.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = target.uri
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(asked.port), "--workers", "1"]
    if target.artifact_location:
        command += ["--default-artifact-root", target.artifact_location]
    sys.stdout.write(f"Runs of {target.shown}: http://{HOST}:{asked.port} (end with Ctrl-C)\n")
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise TrackingError(f"Port {port} of {HOST} cannot be had: {error}. Choose another with --port.") from error


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RecexpError as failure:
        sys.stderr.write(f"recexp: {failure}\n")
        sys.exit(failure.exit_code)
