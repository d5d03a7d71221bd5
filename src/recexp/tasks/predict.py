"""``task=predict``: what a trained model says of a user's own requests."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from recexp.config.typed import settings as typed
from recexp.devices.build import assert_placement, explained
from recexp.errors import ConfigError, DataError
from recexp.problems.problem_data import Asked, ProblemData
from recexp.reports.progress import Progress
from recexp.storage.atomic import atomic_file
from recexp.tasks.session import Session, data_and_device, make_trainer, open_session
from recexp.tasks.trained import load_state, of_configuration, with_checkpoint
from recexp.training.signals import stop_requests

_log = logging.getLogger(__name__)


def run(config: Mapping[str, Any]) -> None:
    """Read requests, answer them, write the answers.

    Raises:
        DataError: The requests cannot be read, or something is wrong with them; nothing is written then.
        CheckpointError: There is no such checkpoint.
    """
    task = config["task"]
    assert_writable(task["output"])
    sent = read_requests(task["input"])
    config, checkpoint = with_checkpoint(config)
    settings = typed(config)
    with stop_requests(), Progress(settings.trainer.progress) as display:
        prepared = data_and_device(config, display.task)
        with explained(prepared[1]):
            session = open_session(config, *prepared)
            checkpoint = checkpoint or of_configuration(session)
            answers = _answers(session, checkpoint, sent, task)
    write_answers(answers, task["output"])
    _log.info("answered %d request%s with %s", len(answers), "s" * (len(answers) != 1), checkpoint)


def _answers(session: Session, checkpoint: Path, sent: list[Any], task: Mapping[str, Any]) -> list[dict[str, Any]]:
    module, data = session.posed.module, cast(ProblemData, session.posed.data)
    if session.posed.answer is None:
        raise ConfigError([f"task=predict: problem={session.config['problem']['name']} takes no requests yet."])
    if session.device.count > 1:
        raise ConfigError(["task=predict answers on one device: set device.count=1."])
    load_state(module, checkpoint)
    data.place(session.device.root)
    laid_out = session.posed.answer(sent, task)
    data.asked = Asked(laid_out.steps)
    trainer = make_trainer(session, [])
    scored = trainer.predict(module, datamodule=data)
    assert_placement(module.to(session.device.root), session.device, session.policy)
    return laid_out.answers(scored or [])


def read_requests(name: str) -> list[Any]:
    """Requests from a file, or from standard input.

    Raises:
        DataError: It cannot be read, is empty, or is no JSON; with the line and the column.
    """
    where = "standard input" if name == "-" else name
    try:
        # Some editors begin a file with a mark of its encoding.
        text = sys.stdin.read() if name == "-" else Path(name).expanduser().read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"task.input={name}: {getattr(error, 'strerror', None) or error}.") from error
    if not text.strip():
        raise DataError(f"{where} is empty; expected a JSON list of requests, or one JSON object a line.")
    if text.lstrip().startswith("["):
        listed = list(_json(text, where, 1))
        if not listed:
            raise DataError(f"{where} holds no request: its list is empty.")
        return listed
    # Texts may hold other signs that Python, too, ends a line at.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return [_json(line, where, number) for number, line in lines]
    return [whole]


def _json(text: str, where: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"{where}, line {line + error.lineno - 1}, column {error.colno}"
        raise DataError(f"{at}: this is not JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        # A whole number of thousands of digits, or brackets within brackets.
        raise DataError(f"{where}, line {line}: this cannot be read: {error}.") from error


def write_answers(answers: list[dict[str, Any]], name: str | None) -> None:
    """One JSON object a line, all or nothing."""
    lines = "".join(f"{_written(answer)}\n" for answer in answers)
    if name is None:
        sys.stdout.write(lines)
        sys.stdout.flush()
        return
    with atomic_file(Path(name).expanduser(), "w") as stream:
        stream.write(lines)


def assert_writable(name: str | None) -> None:
    """Refuse a file that could not be written, before anything is computed.

    Raises:
        DataError: It is a folder, or in a folder that is not there.
    """
    if name is None:
        return
    path = Path(name).expanduser()
    if path.is_dir():
        raise DataError(f"task.output={name} is a folder. Name a file for the answers.")
    if not path.parent.is_dir():
        raise DataError(f"task.output={name}: there is no folder {path.parent}. Make it, or name another file.")


def _written(answer: dict[str, Any]) -> str:
    """As JSON in one line; letters as they are, unless half of a pair of code units is among them."""
    line = json.dumps(answer, ensure_ascii=False)
    return line if line.isascii() or _encodes(line) else json.dumps(answer)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
