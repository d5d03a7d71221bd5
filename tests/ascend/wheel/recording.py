"""Records of the operators of whole commands, kept in the cache while product and configuration stay the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from films import write_films
from worn_outfits import write_worn

from recexp.config import catalogue

from .cache import ROOT, digest, published
from .child import HERE

PRECISIONS = ["fp32", "mixed", "bf16"]
#: A set of generated data for each problem.
DATASETS = {
    "next_item": "dataset=ml1m_synthetic",
    # So few sessions that slots are left without one within the recorded updates.
    "session": "dataset=rsc15_synthetic dataset.sessions=300 dataset.items=60",
    # Fields of 3 to 30 ids: of those, quotients and narrow tables take the larger ones.
    "click": "dataset=criteo_synthetic dataset.impressions=2000 dataset.max_cardinality=30",
    "outfit": "dataset=polyvore_synthetic dataset.outfits=200 dataset.categories=10 dataset.items_per_category=24"
    " dataset.image_width=20 dataset.num_words=60",
}
#: A field of several ids beside those of one, and no numbers.
FILMS = "problem=click dataset=ml1m dataset.path=films dataset.verify=false"
#: Nothing is known of an item but its category.
WORN = "dataset=polyvore dataset.path=worn dataset.features=category"
#: For each model: settings that change which operators it uses, and the precisions in which they are recorded. What
#: autocast does not reach is the same in all of them; half a width is where Ascend lacks types, bfloat16 most of all.
VARIANTS = {
    "attrec": [
        ("model.mode=inner", PRECISIONS),
        ("model.mode=dist", PRECISIONS),
        ("problem=session", ["mixed", "bf16"]),
    ],
    "gru4rec": [
        ("", [*PRECISIONS, "fp16"]),
        ("problem=next_item", ["mixed", "bf16"]),
        (
            "model.embedding=separate model.layers=[32,24] model.dropout_embed=0.2 model.loss=bpr_max"
            " model.hidden_act=elu optim.name=adam optim.momentum=null optim.rows=all"
            " trainer.gradient_clip_val=1 trainer.gradient_clip_algorithm=norm_per_tensor",
            ["mixed", "bf16"],
        ),
        (
            "model.embedding=onehot model.loss=top1 model.final_act=selu model.hidden_act=leaky_relu"
            " optim.name=sgd optim.rows=all problem.validate=true problem.ties=median",
            ["bf16"],
        ),
        (
            "model.training=bptt model.bptt_steps=2 model.cell=tf model.hidden_act=relu model.loss=bpr model.samples=0"
            " model.end_rule=legacy model.reset_after_session=false optim.name=rmsprop optim.rows=all",
            ["bf16"],
        ),
        (
            "model.loss=top1_max model.final_act=leaky_relu model.hidden_act=selu model.hidden_scale=1.05"
            " optim.name=lazy_adam optim.momentum=null trainer.gradient_clip_val=0.1"
            " trainer.gradient_clip_algorithm=value",
            ["bf16"],
        ),
        (
            "model.final_act=softmax_relu model.smoothing=0.1 model.reduction=mean model.hidden_act=sigmoid"
            " optim.name=adagrad optim.momentum=null",
            ["bf16"],
        ),
        ("optim.rows=all trainer.gradient_clip_val=1 trainer.gradient_clip_algorithm=norm", ["bf16"]),
    ],
    "dlrm": [
        ("", PRECISIONS),
        (
            "model.embedding=qr model.qr_threshold=20 model.arch_interaction_op=cat model.loss=wbce"
            " model.loss_weights=[1,3] model.loss_threshold=0.001 model.batch_norm=true model.dropout_top=0.1"
            " model.l2_embedding=0.001 model.l2_scope=batch optim.name=rowwise_adagrad",
            ["mixed"],
        ),
        (
            "model.embedding=mixed_dim model.md_threshold=20 model.arch_interaction_itself=true model.loss=mse"
            " optim.name=adagrad trainer.accumulate_grad_batches=2",
            ["bf16"],
        ),
        (f"{FILMS} model.weighted_pooling=learned", ["bf16"]),
    ],
    "deepfm": [
        ("model.bias=true", ["mixed", "bf16"]),
        (
            "model.dense=linear model.combine=projection model.batch_norm=true model.dropout_fm=0.1"
            " model.dropout_deep=0.2 model.l2_scope=batch optim.name=lazy_adam optim.rows=touched",
            ["bf16"],
        ),
    ],
    "fm": [(f"{FILMS} model.l2_scope=batch model.l2_embedding=0.001", ["mixed"])],
    "ngnn": [
        ("", PRECISIONS),
        (
            "model.edges=cooccurrence model.loss=neg_sigmoid model.consistency=reference_bug model.l2=0.001"
            " optim.rows=all trainer.gradient_clip_val=1 problem.validate=true",
            ["mixed", "bf16"],
        ),
        (
            "model.edges=mean model.consistency_mean=all model.steps=1 problem.shuffle=outfits optim.momentum=0.9"
            " optim.rows=all trainer.accumulate_grad_batches=2",
            ["bf16"],
        ),
        (f"{WORN} optim.name=lazy_adam optim.alpha=null", ["bf16"]),
    ],
    "lr": [
        (
            "problem=click dataset=ml1m_synthetic dataset.users=60 problem.auc=histogram"
            " optim.name=adam optim.rows=all",
            ["mixed"],
        )
    ],
}
SMALL = ["trainer.max_steps=8", "dataset.batch_size=128", "trainer.progress=lines", "tracking.backend=off"]


def models() -> list[str]:
    """Words of ``model=``."""
    return list(catalogue.choices("model"))


def cells(model: str) -> list[list[str]]:
    """The settings of each command that is recorded for a model."""
    usual = catalogue.implied({"model": model})["problem"]
    found = []
    for variant, precisions in VARIANTS.get(model, [("", PRECISIONS)]):
        settings = variant.split()
        problem = next((word.partition("=")[2] for word in settings if word.startswith("problem=")), usual)
        data = [] if any(word.startswith("dataset=") for word in settings) else DATASETS[problem].split()
        found += [[f"model={model}", f"precision={precision}", *data, *settings] for precision in precisions]
    return found


def record(words: list[str], ways: str, variables: dict[str, str], where: str) -> dict[str, dict]:
    """The operators of a training and its evaluation with ``device=npu``.

    Args:
        words: Settings of the cell.
        ways: What children/kernels.py printed.
        variables: Of the child: what its ``import torch_npu`` finds.
        where: A name for that.
    """
    sources = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml"), *HERE.rglob("*.py")])
    sources += sorted([*HERE.glob("*.c*"), *(HERE.parent / "host_device").rglob("*.[cp]*")])
    key = digest(where, ways, *words, *(path for path in sources if path.is_file()))

    def make(target: Path) -> None:
        work, given, made = target / "work", target / "ways.json", target / "record.json"
        write_films(work / "films")
        write_worn(work / "worn")
        given.write_text(ways)
        command = [sys.executable, str(HERE / "children" / "record.py"), str(given), str(made)]
        done = subprocess.run(
            [*command, *words, *SMALL, "device=npu"], cwd=work, capture_output=True, text=True, timeout=600,
            env={**variables, "RECEXP_CACHE": str(work / "cache")},
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        shutil.rmtree(work)

    return json.loads((published(f"record-{key}", make) / "record.json").read_text())
