"""AttRec (Zhang, Tay, Yao, Sun 2018, arXiv 1808.06414): self-attention over the last items plus a long-term factor.

Three lineages of the same model differ in details that are options here: the TensorFlow 2 reference (RecLearn,
the default), the paper, and the paper author's code (DeepRec). Shape letters: B rows, L history, C candidates,
T targets, N negatives, D width, I item ids.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recexp.models import kernels
from recexp.models.attention_pool import attention_mean, fused_attention_mean
from recexp.models.blocks import block
from recexp.models.tables import table_rows

if TYPE_CHECKING:
    from recexp.problems.next_item import NextItemBatch

#: Which matrices the words of ``model.projection`` have.
PROJECTIONS: dict[str, tuple[str, ...]] = {"shared": ("query",), "separate": ("query", "key"), "none": ()}


def interleaved_positions(length: int, dim: int) -> Tensor:
    """Sinusoids, sine on even and cosine on odd dimensions (TF reference), float32 [length, dim]."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    index = torch.arange(dim)
    angle = position / 10000.0 ** (2 * (index // 2) / dim)
    return torch.where(index % 2 == 0, angle.sin(), angle.cos()).float()


def timing_positions(length: int, dim: int) -> Tensor:
    """tensor2tensor's timing signal, all sines before all cosines (author's code), float32 [length, dim]."""
    scales = dim // 2
    increment = math.log(10000.0) / max(scales - 1, 1)
    inverse = torch.exp(-increment * torch.arange(scales, dtype=torch.float64))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * inverse
    signal = torch.cat((angle.sin(), angle.cos()), dim=1)
    return functional.pad(signal, (0, dim - 2 * scales)).float()


def clip_to_unit_ball(vectors: Tensor) -> Tensor:
    """Vectors whose norm exceeds 1 are rescaled to 1; last dimension."""
    squared = vectors.square().sum(-1, keepdim=True)
    return vectors * squared.clamp(min=1.0).rsqrt()


class AttRec(nn.Module):
    """The network, its loss and its scores of the catalogue."""

    position: Tensor

    def __init__(
        self,
        *,
        num_users: int,
        num_items: int,
        dim: int = 100,
        max_len: int = 5,
        targets: int = 1,
        mode: str = "inner",
        long_term_weight: float = 0.5,
        margin: float = 0.5,
        unit_ball: bool = True,
        mask: str = "reference",
        average: str = "all",
        positions: str = "interleaved",
        projection: str = "shared",
        dropout: float = 0.0,
        l2: float = 1e-6,
        l2_projection: float = 0.0,
        reduction: str | None = None,
        init: str = "normal",
        init_std: float = 0.05,
        init_projection: str = "uniform",
    ) -> None:
        """Build the tables; the options are described in conf/model/attrec.yaml.

        Args:
            num_users: Largest user id.
            num_items: Largest item id; row 0 of the item tables is padding and stays zero.
            dim: Width D.
            max_len: Items of history L.
            targets: Next items of a row T.
            mode: ``inner`` (BPR loss) or ``dist`` (hinge loss on squared distances).
            long_term_weight: Share w of the long-term part of the score.
            margin: Of the hinge.
            unit_ball: ``dist``: clip user, item and candidate vectors to norm 1.
            mask: ``reference``, ``paper``, ``author`` or ``scaled`` (see :func:`attention_mean`).
            average: Rows of the attention that are averaged: ``all``, or those that are not padding (``valid``).
            positions: ``interleaved``, ``timing`` or ``none``.
            projection: A word of ``PROJECTIONS``.
            dropout: On the attended history.
            l2: Penalty l2 * sum(w^2) on the three tables.
            l2_projection: The same on the projections.
            reduction: Of the rows' losses; None: ``mean`` for inner, ``sum`` for dist, as in the reference.
            init: ``normal`` or ``truncated_normal`` tables.
            init_std: Their standard deviation.
            init_projection: ``uniform`` (-0.05, 0.05) or ``xavier``.
        """
        super().__init__()
        self.mode, self.mask, self.average, self.unit_ball = mode, mask, average, unit_ball
        self.long_term_weight, self.margin, self.dropout = long_term_weight, margin, dropout
        self.max_len, self.targets, self.l2, self.l2_projection = max_len, targets, l2, l2_projection
        self.reduction = reduction or ("mean" if mode == "inner" else "sum")
        self.user_long = nn.Parameter(torch.empty(num_users + 1, dim))
        self.item_short = nn.Parameter(torch.empty(num_items + 1, dim))
        self.item_long = nn.Parameter(torch.empty(num_items + 1, dim))
        self.projections = nn.ParameterDict({n: nn.Parameter(torch.empty(dim, dim)) for n in PROJECTIONS[projection]})
        code = {"interleaved": interleaved_positions, "timing": timing_positions}.get(positions)
        self.register_buffer("position", code(max_len, dim) if code else torch.zeros(max_len, dim), persistent=False)
        self._initialise(init, init_std, init_projection)

    def _initialise(self, init: str, std: float, projection: str) -> None:
        for table in (self.user_long, self.item_short, self.item_long):
            if init == "normal":
                nn.init.normal_(table, std=std)
            else:
                nn.init.trunc_normal_(table, std=std, a=-2 * std, b=2 * std)
        for weight in self.projections.values():
            if projection == "uniform":
                nn.init.uniform_(weight, -0.05, 0.05)
            else:
                nn.init.xavier_uniform_(weight)
        with torch.no_grad():
            # Row 0 is padding, and a user whom nobody knows.
            for table in (self.item_short, self.item_long, self.user_long):
                table[0].zero_()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The tables and the projections, each with its penalty."""
        tables = [self.user_long, self.item_short, self.item_long]
        groups: list[dict[str, Any]] = [{"params": tables, "l2": self.l2}]
        if self.projections:
            groups.append({"params": list(self.projections.values()), "l2": self.l2_projection})
        return groups

    def short_term(self, history_BL: Tensor) -> Tensor:
        """Attended mean of the history's embeddings, m of the paper, [B, D]."""
        valid = history_BL > 0
        query = self.projections.get("query")
        key = self.projections.get("key", query)
        if query is not None and self._is_usual(query, key):
            distinct, index = torch.unique(history_BL, return_inverse=True)
            rows = table_rows(self.item_short, distinct, padded=True)
            mean = fused_attention_mean(rows, index, self.position, query, valid)
        else:
            rows = table_rows(self.item_short, history_BL, padded=True)
            with block(self, "attention", rows) as (rows,):
                mean = attention_mean(rows, self.position, query, key, valid, mask=self.mask, average=self.average)
        return functional.dropout(mean, self.dropout, self.training)

    def _is_usual(self, query: Tensor, key: Tensor | None) -> bool:
        """Whether the form that is written out by hand applies; finding distinct rows would stall other devices."""
        float32_on_cpu = kernels.hand_written(query) and query.dtype == torch.float32
        reference = key is query and self.mask == "reference" and self.average == "all"
        return reference and float32_on_cpu and not torch.is_autocast_enabled("cpu")

    def scores(self, user_BD: Tensor, mean_BD: Tensor, long_BCD: Tensor, short_BCD: Tensor) -> Tensor:
        """Scores of candidates, [B, C]: higher is better for ``inner``, a distance for ``dist``."""
        w = self.long_term_weight
        if self.mode == "inner":
            long = (long_BCD * user_BD[:, None]).sum(-1)
            return w * long + (1 - w) * (short_BCD * mean_BD[:, None]).sum(-1)
        if self.unit_ball:
            user_BD, long_BCD, short_BCD = map(clip_to_unit_ball, (user_BD, long_BCD, short_BCD))
        long = (user_BD[:, None] - long_BCD).square().sum(-1)
        short = (mean_BD[:, None] - short_BCD).square().sum(-1)
        return w * long + (1 - w) * short

    def loss(self, batch: NextItemBatch) -> Tensor:
        """BPR (``inner``) or hinge (``dist``) over the pairs of target and negative, float32 [B].

        A pair counts where the row has that target; with reduction ``mean`` a row's pairs are averaged.
        """
        rows, count = len(batch.user), batch.negative.shape[-1]
        candidate_BC = torch.cat((batch.target[..., None], batch.negative), dim=-1).view(rows, -1)
        short = table_rows(self.item_short, candidate_BC, padded=True)
        long = table_rows(self.item_long, candidate_BC, padded=True)
        user = table_rows(self.user_long, batch.user, padded=False)
        mean = self.short_term(batch.history)
        with block(self, "scores", mean) as (mean,):
            score = self.scores(user, mean, long, short).float().view(rows, self.targets, 1 + count)
        positive, negative = score[..., :1], score[..., 1:]
        if self.mode == "inner":
            pairs = functional.softplus(negative - positive)
        else:
            pairs = functional.relu(positive - negative + self.margin)
        if self.targets == 1 and count == 1:
            return pairs.view(rows)
        present = (batch.target > 0)[..., None]
        total = (pairs * present).flatten(1).sum(1)
        return total / (present.sum((1, 2)) * count).clamp(min=1) if self.reduction == "mean" else total

    def catalogue_scores(self, user: Tensor, history: Tensor) -> Tensor:
        """Scores of every id, higher is better, float32 [B, I]; two products with the tables."""
        m = self.short_term(history)
        with block(self, "scores", m) as (m,):
            return self._catalogue_scores(user, m)

    def _catalogue_scores(self, user: Tensor, m: Tensor) -> Tensor:
        w = self.long_term_weight
        clip = clip_to_unit_ball if self.mode == "dist" and self.unit_ball else nn.Identity()
        u, v, x = clip(self.user_long[user]), clip(self.item_long), clip(self.item_short)
        if self.mode == "inner":
            return torch.cat((w * u, (1 - w) * m), 1) @ torch.cat((v, x), 1).T
        # -w |u - v|^2 - (1 - w) |m - x|^2 without the terms that are the same for all items of a row.
        norms = w * v.square().sum(1) + (1 - w) * x.square().sum(1)
        return 2 * (torch.cat((w * u, (1 - w) * m), 1) @ torch.cat((v, x), 1).T) - norms
