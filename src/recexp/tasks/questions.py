"""``task=questions``: the frozen questions of a problem as files that others can answer, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recexp.config.typed import settings as typed
from recexp.datasets import prepare
from recexp.datasets.outfits import Outfits
from recexp.errors import ConfigError, DataError
from recexp.problems.outfit_build import ask
from recexp.problems.outfit_question_files import write
from recexp.problems.outfit_questions import PUBLISHED
from recexp.reports.console import show_facts
from recexp.reports.progress import Progress
from recexp.tasks.session import cache_folder, data_folder


def run(config: Mapping[str, Any]) -> None:
    """Write them, and show where they are.

    Raises:
        ConfigError: The problem has none, or only published ones are asked.
        DataError: The data cannot be had, or the folder cannot be written.
    """
    settings, options = typed(config), config["problem"]
    with Progress(settings.trainer.progress) as display:
        data = prepare.prepare(
            config["dataset"],
            data=data_folder(settings),
            cache=cache_folder(settings),
            progress=display.task,
            problem=options,
        )
    if not isinstance(data, Outfits):
        raise ConfigError([f"task=questions: problem={options['name']} asks none that could be written."])
    own = {**options, "protocols": [name for name in options["protocols"] if name != PUBLISHED]}
    if not own["protocols"]:
        raise ConfigError([f"task=questions: problem.protocols={list(options['protocols'])} are published already."])
    tested = np.asarray(data.part("test"), dtype=np.int64)
    questions = ask(data, tested, own, settings.trainer.limit_eval_users, config["dataset"]["name"])
    folder = Path(config["task"]["output"]).expanduser()
    try:
        files = write(folder, data, questions)
    except OSError as error:
        raise DataError(f"task.output={folder}: {error.strerror or error}.") from error
    facts = {str(path): path.parent.name for path in files}
    show_facts(f"{sum(len(one.blanks) for one in questions):,} questions about {len(tested):,} outfits", facts)
