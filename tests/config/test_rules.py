"""Combinations that cannot work: each rule fires on its own case, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recexp.config.compose import compose
from recexp.errors import ConfigError

pytestmark = pytest.mark.usefixtures("house")

Writer = Callable[[Path, dict[str, str]], None]
POLICY = "optim.schedule=dlrm_policy optim.schedule.decay_start=7 optim.schedule.decay_steps=5"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("dataset=click", "Datasets for this model: shelf. Models for this dataset: beta."),
        ("problem=guess", "Models that do: beta. Problems of this model and dataset: rank."),
        ("precision=half", "Precisions of box: full."),
        ("ckpt=last", "task=evaluate does"),
        ("ckpt=best", "task=train does not use it"),
        ("task=evaluate resume=true", "task=train does"),
        ("trainer.max_epochs=null", "would never end"),
        ("trainer.limit_train_batches=1.5", "a share of the epoch"),
        ("trainer.limit_train_batches=0", "a share of the epoch"),
        ("trainer.early_stop_min_delta=0.1", "without trainer.early_stop_patience"),
        ("trainer.gradient_clip_algorithm=value", "without trainer.gradient_clip_val"),
        (
            "optim.momentum=0.9",
            "optim.momentum=0.9 is an option of sgd, rmsprop, rmsprop_tf and adagrad_momentum, not of adam",
        ),
        ("optim=sgd optim.beta1=0.9", "not of sgd"),
        ("optim=sgd optim.nesterov=true", "needs optim.momentum"),
        ("optim=adagrad optim.alpha=0.9", "not of adagrad"),
        ("optim=adagrad_momentum optim.nesterov=true", "not of adagrad_momentum"),
        ("optim=adagrad optim.rows=touched optim.weight_decay=0.1", "the decay moves every row"),
        ("optim.rows=touched", "Set optim.name=lazy_adam to have that one, or optim.rows=all."),
        ("optim=lazy_adam", "Set optim.rows=touched, or optim.name=adam."),
        ("optim=lazy_adam optim.rows=touched optim.momentum=0.9", "not of lazy_adam, which has beta1, beta2, eps"),
        ("optim=rowwise_adagrad optim.beta1=0.9", "not of rowwise_adagrad, which has eps, initial_accumulator"),
        (
            "optim=rmsprop optim.momentum=0.9 optim.rows=touched",
            "optim.name=rmsprop with momentum with optim.rows=touched",
        ),
        ("optim=rmsprop_tf optim.momentum=0.9 optim.rows=touched", "what a row remembers of earlier steps moves it"),
        ("optim=rmsprop_tf optim.beta1=0.9", "not of rmsprop_tf, which has alpha, eps, momentum"),
        ("optim=sgd optim.momentum=0.9 optim.rows=touched", "Set optim.momentum=0, or optim.rows=all."),
        ("optim.rows=some", "one of all, touched"),
        ("optim.schedule=step optim.schedule.gamma=0.5", "step_size is needed"),
        ("optim.schedule=exponential optim.schedule.step_size=5", "gamma is needed"),
        ("optim.schedule.step_size=5", "not of constant"),
        ("optim.schedule=cosine optim.schedule.gamma=0.5", "not of cosine"),
        ("optim.schedule.min_lr=0.1", "has no effect"),
        ("optim.schedule=dlrm_policy optim.schedule.decay_start=3", "decay_steps is needed"),
        ("optim.schedule=dlrm_policy optim.schedule.decay_steps=3", "decay_start is needed"),
        (f"{POLICY} optim.schedule.gamma=0.5", "an option of step and exponential, not of dlrm_policy"),
        (f"{POLICY} optim.schedule.min_lr=0.1", "whose floor is 1e-7"),
        (f"{POLICY} optim.schedule.semantics=rough", "one of clean, reference"),
        (f"{POLICY} optim.schedule.semantics=reference", "and fails where there was none"),
        (f"{POLICY} optim.schedule.semantics=reference optim.schedule.warmup_steps=1", "warmup_steps from 2"),
        (f"{POLICY} optim.schedule.warmup_steps=8", "before the end of the warm-up"),
        ("optim.schedule.decay_steps=5", "an option of dlrm_policy, not of constant"),
        ("optim.schedule=linear optim.schedule.semantics=clean", "an option of dlrm_policy, not of linear"),
    ],
)
def test_refused(words: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(words.split())
    assert len(caught.value.problems) == 1
    assert says in caught.value.problems[0]


@pytest.mark.parametrize(
    "words",
    [
        "model=beta dataset=click",
        "device=chip precision=half",
        "resume=true",
        "task=evaluate ckpt=last",
        "trainer.max_epochs=null trainer.max_steps=5",
        "trainer.limit_train_batches=1",
        "trainer.limit_train_batches=0.5",
        "trainer.early_stop_min_delta=0.1 trainer.early_stop_patience=3",
        "trainer.gradient_clip_algorithm=value trainer.gradient_clip_val=1",
        "optim=sgd optim.momentum=0.9 optim.nesterov=true",
        "optim=rmsprop optim.alpha=0.9 optim.eps=1e-8",
        "optim=rmsprop optim.rows=touched",
        "optim=rmsprop optim.rows=touched optim.momentum=0",
        "optim=rmsprop_tf optim.momentum=0.9",
        "optim=rmsprop_tf optim.rows=touched optim.alpha=0.9 optim.eps=1e-10",
        "optim=adagrad optim.initial_accumulator=0.1",
        "optim=adagrad_momentum optim.momentum=0.2 optim.eps=1e-6 optim.initial_accumulator=0 optim.rows=touched",
        "optim.rows=all optim.weight_decay=0.1",
        "optim=lazy_adam optim.rows=touched optim.beta1=0.8 optim.eps=1e-6",
        "optim=rowwise_adagrad optim.rows=touched optim.initial_accumulator=0.1",
        "optim=rowwise_adagrad",
        "optim=sgd optim.rows=touched optim.momentum=0",
        POLICY,
        f"{POLICY} optim.schedule.semantics=reference optim.schedule.warmup_steps=7",
        "optim.schedule=dlrm_policy optim.schedule.decay_start=0 optim.schedule.decay_steps=0 "
        "optim.schedule.semantics=reference",
        "optim.schedule=step optim.schedule.step_size=5 optim.schedule.gamma=0.5 optim.schedule.min_lr=1e-5",
        "optim.schedule=linear optim.schedule.warmup_steps=10",
    ],
)
def test_taken(words: str) -> None:
    compose(words.split())


def test_a_rule_is_silent_where_its_keys_are_wrong_already() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["model=betta", "trainer.max_epochs=abc", "optim.name=sdg", "optim.momentum=0.9"])
    assert len(caught.value.problems) == 3


def test_an_unknown_key_does_not_silence_the_rules() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["optim.lrr=1", "optim.momentum=0.9"])
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", None),
        ("optim=adam", None),  # the file's momentum is simply not used
        ("optim=adam optim.momentum=0.2", "is an option of sgd"),
        ("optim=adam optim.momentum=0.3", "is an option of sgd"),
        ("optim=adam optim.momentum=null", None),
        ("optim.momentum=0.3", None),
    ],
)
def test_what_a_models_file_says_of_its_optimiser_is_no_mistake(
    words: str, says: str | None, new_house: Path, write: Writer
) -> None:
    text = (new_house / "conf/model/alpha.yaml").read_text(encoding="utf-8")
    text = text.replace("trainer: {max", "optim: {name: adagrad_momentum, momentum: 0.2}\ntrainer: {max")
    write(new_house, {"conf/model/alpha.yaml": text})
    if says is None:
        assert compose(words.split())["optim"]["name"] in ("adam", "adagrad_momentum")
    else:
        with pytest.raises(ConfigError, match=says):
            compose(words.split())


def test_a_recipe_breaks_rules_like_a_command(new_house: Path, write: Writer) -> None:
    write(new_house / "work", {"experiments/mine.yaml": "optim: {momentum: 0.9}\n"})
    with pytest.raises(ConfigError, match="not of adam"):
        compose(["experiment=mine"])
