"""What is made of a click log's rows: missing values, vocabularies, numbers, parts. Published recipes are presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recexp.errors import ConfigError

Dense = Literal["log1p", "max", "ln_squared", "log2"]


@dataclass(frozen=True)
class Recipe:
    """All that shapes the arrays beside the rows.

    Attributes:
        dense: What becomes of a number x. ``log1p``: log(1 + max(x, 0)). ``max``: x by the largest of its column, at
            least 0; negative numbers stay so. Both give a missing one 0. ``ln_squared`` and ``log2`` make it a
            category: x above 2 becomes floor(ln(x) ** 2) or floor(log2(x)), others stay; a missing one is 0.
        missing: What an id that is not there is: ``zero`` the id 0, ``category`` one of its own, ``rare`` a rare id.
        min_count: Ids with fewer rows in the fitted part are rare.
        vocabulary: Rows on which ids are counted and numbers are measured: those of training, or all.
        id_order: ``appearance``: ids are numbered as they first appear in the source; ``frequency``: from the most
            frequent to the rarest, ties by first appearance.
        split: ``days``: successive parts of equal line counts (or the files of the source, where it has several), the
            last one halved into test and then validation. ``blocks``: of every 1,000 lines; those that are left over
            are dropped. ``random``: rows at random.
        days: ``days``: number of days of a single file.
        split_seed: ``blocks``, ``random``: its seed.
        test_share: ``blocks``, ``random``: of all rows.
        validation_share: ``blocks``, ``random``: of all rows.
        max_ind_range: Ids of the source modulo this number, before they are counted; None: as they are.
        negative_subsampling: Probability that a row without a click is left out; by its line number alone.
    """

    dense: Dense
    missing: Literal["zero", "category", "rare"]
    min_count: int
    id_order: Literal["appearance", "frequency"]
    split: Literal["days", "blocks", "random"]
    days: int = 7
    split_seed: int = 0
    test_share: float = 0.1
    validation_share: float = 0.1
    vocabulary: Literal["train", "all"] = "train"
    max_ind_range: int | None = None
    negative_subsampling: float = 0.0

    @property
    def dense_is_categorical(self) -> bool:
        """Whether the numbers become fields."""
        return self.dense in {"ln_squared", "log2"}

    @property
    def has_rare(self) -> bool:
        """Whether id 0 of every field stands for rare and unseen ids."""
        return self.vocabulary == "train" or self.min_count > 1 or self.missing == "rare"


#: Sources: facebookresearch/dlrm data_utils.py; mindspore-ai/models DeepFM preprocess_data.py (a count above 100);
#: reczoo/BARS Criteo_x1 (its published sizes are 72:18:10) and Criteo_x4, Avazu_x4 with FuxiCTR's preprocessing.
PRESETS: Mapping[str, Recipe] = {
    "dlrm_kaggle": Recipe("log1p", "zero", 1, "appearance", "days"),
    "ms_deepfm": Recipe("max", "category", 101, "appearance", "blocks", split_seed=2020),
    "bars_x1": Recipe("ln_squared", "rare", 10, "frequency", "random", split_seed=2018, validation_share=0.18),
    "bars_x4": Recipe("ln_squared", "rare", 10, "frequency", "random", split_seed=2018),
}
_UNUSED = {"days": ("days",), "split_seed": ("blocks", "random"), "test_share": ("blocks", "random")}
_UNUSED["validation_share"] = _UNUSED["test_share"]


def recipe_of(dataset: Mapping[str, Any], preset: Recipe) -> Recipe:
    """The preset with what the ``dataset`` node sets otherwise; null means the preset's.

    Raises:
        ConfigError: an option that has no effect, or shares that leave nothing to train on.
    """
    names = [each.name for each in dataclasses.fields(Recipe)]
    given = {name: dataset[name] for name in names if dataset.get(name) is not None}
    recipe = dataclasses.replace(preset, **given)
    problems = [
        f"dataset.{name}={given[name]} has no effect with dataset.split={recipe.split}: it belongs to "
        f"dataset.split={' or '.join(splits)}. Leave it out, or set that, too."
        for name, splits in _UNUSED.items()
        if name in given and recipe.split not in splits
    ]
    if recipe.test_share + recipe.validation_share >= 1:
        problems.append(
            f"dataset.test_share={recipe.test_share:g} and dataset.validation_share={recipe.validation_share:g} leave "
            f"nothing to train on: their sum must be below 1."
        )
    if problems:
        raise ConfigError(problems)
    return recipe
