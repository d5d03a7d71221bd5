"""DLRM (Naumov et al. 2019, arXiv 1906.00091): embeddings of fields and a dense vector meet in inner products.

Details follow facebookresearch/dlrm (dlrm_s_pytorch.py). Shape letters: B rows, D dense numbers, S slots, F fields,
d width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recexp.errors import ConfigError
from recexp.models.blocks import block
from recexp.models.click_losses import click_losses, widened
from recexp.models.compressed_tables import MixedDimensionTables, QuotientRemainderTables
from recexp.models.dense_layers import DenseLayers
from recexp.models.field_tables import FieldTables
from recexp.models.interactions import interact, interaction_width
from recexp.models.layer_widths import bottom_widths, class_weights, top_widths
from recexp.models.valued_fields import penalised

if TYPE_CHECKING:
    from recexp.problems.click import ClickBatch, ClickSizes


ODD_WIDTH = (
    "model.qr_operation=concat with model.arch_sparse_feature_size={dim}: quotient and remainder have one half of the "
    "width each. Choose an even width, or qr_operation=mult or add."
)


class DLRM(nn.Module):
    """The network and its losses."""

    #: Of an update's rows, as the reference.
    reduction = "mean"

    def __init__(
        self,
        *,
        sizes: ClickSizes,
        arch_sparse_feature_size: int = 16,
        arch_mlp_bot: str | Sequence[int] = (512, 256, 64, 16),
        arch_mlp_top: str | Sequence[int] = (512, 256, 1),
        arch_interaction_op: str = "dot",
        arch_interaction_itself: bool = False,
        pooling: str = "sum",
        weighted_pooling: str | None = None,
        loss: str = "bce",
        loss_weights: str | Sequence[float] = (1.0, 1.0),
        loss_threshold: float = 0.0,
        embedding: str = "full",
        qr_operation: str = "mult",
        qr_threshold: int = 200,
        qr_collisions: int = 4,
        md_threshold: int = 200,
        md_temperature: float = 0.3,
        md_round: bool = False,
        dropout_top: float = 0.0,
        batch_norm: bool = False,
        l2_embedding: float = 0.0,
        l2_scope: str = "full",
    ) -> None:
        """Build and draw the parameters, the embeddings first, then the bottom and the top layers.

        Args:
            sizes: Of the data.
            arch_sparse_feature_size: Width d of a field's vector.
            arch_mlp_bot: Layers from the dense numbers to a vector of width d; as a text, their input stands first.
            arch_mlp_top: Layers from the interaction, which is not written, to 1.
            arch_interaction_op: ``dot`` or ``cat``.
            arch_interaction_itself: Whether each vector's product with itself is among the features.
            pooling: Of multi-valued fields, ``sum`` or ``mean``.
            weighted_pooling: A factor for each id, 1 at first: ``learned``, ``fixed`` or None.
            loss: ``mse``, ``bce`` or ``wbce``.
            loss_weights: ``wbce``: of rows without and with a click.
            loss_threshold: Probabilities are kept this far from 0 and 1.
            embedding: ``full``, ``qr`` (quotient-remainder) or ``mixed_dim``.
            qr_operation: How quotient and remainder meet: ``mult``, ``add`` or ``concat``.
            qr_threshold: Fields of more ids are compressed.
            qr_collisions: Ids that share a quotient.
            md_threshold: Fields of more ids get narrower rows.
            md_temperature: How much narrower.
            md_round: Round their widths to powers of two.
            dropout_top: Drop probability of each top layer's output but the last one's (BARS; the reference has none).
            batch_norm: Normalise before each ReLU (BARS).
            l2_embedding: Penalty l2_embedding / 2 * sum(w^2) on the tables.
            l2_scope: ``full``, or the rows that a ``batch`` looks up.

        Raises:
            ConfigError: Widths do not fit one another or the data; all mistakes at once.
        """
        super().__init__()
        dim = arch_sparse_feature_size
        self.interaction_op, self.interaction_itself = arch_interaction_op, arch_interaction_itself
        self.loss_word, self.loss_threshold = loss, loss_threshold
        wrong: list[str] = []
        has_dense = sizes.num_dense > 0
        bottom = bottom_widths("model.arch_mlp_bot", arch_mlp_bot, sizes.num_dense, dim, wrong)
        entered = interaction_width(
            len(sizes.fields), dim, has_dense=has_dense, op=arch_interaction_op, itself=arch_interaction_itself
        )
        top = top_widths("model.arch_mlp_top", arch_mlp_top, entered, wrong)
        self.loss_weights = class_weights("model.loss_weights", loss_weights, wrong)
        if pooling != "sum" and all(field.slots == 1 for field in sizes.fields):
            wrong.append(
                f"model.pooling={pooling} has no effect: no field of the data has several values. Leave it out."
            )
        if embedding == "qr" and qr_operation == "concat" and dim % 2:
            wrong.append(ODD_WIDTH.format(dim=dim))
        if wrong:
            raise ConfigError(wrong)
        self.tables: nn.Module
        if embedding == "qr":
            self.tables = QuotientRemainderTables(
                sizes.fields, dim, pooling, threshold=qr_threshold, collisions=qr_collisions, operation=qr_operation
            )
        elif embedding == "mixed_dim":
            self.tables = MixedDimensionTables(
                sizes.fields, dim, pooling, threshold=md_threshold, temperature=md_temperature, powers_of_two=md_round
            )
        else:
            self.tables = FieldTables(sizes.fields, dim, pooling, weights=weighted_pooling)
        # Without dense numbers there is nothing for the bottom layers to read.
        self.bottom = DenseLayers(bottom, last_relu=True, batch_norm=batch_norm) if has_dense else None
        self.top = DenseLayers(top, last_relu=False, batch_norm=batch_norm, dropout=dropout_top)
        self.l2_embedding, self.l2_scope = l2_embedding, l2_scope
        self._initialise()

    def _initialise(self) -> None:
        """Tables uniform within sqrt(1 / ids); layers normal: weights sqrt(2 / (in + out)), biases sqrt(1 / out)."""
        self.tables.initialise()  # type: ignore[operator]
        for layers in (self.bottom, self.top):
            if layers is not None:
                layers.initialise()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The tables with their penalty, and the layers without one."""
        tables, layers = (
            [parameter for parameter in own if parameter.requires_grad]
            for own in (
                self.tables.parameters(),
                [p for part in (self.bottom, self.top) if part is not None for p in part.parameters()],
            )
        )
        return [penalised(tables, self.l2_embedding, self.l2_scope), penalised(layers, 0.0)]

    def _log_odds(self, batch: ClickBatch) -> Tensor:
        """Of a click, before they are kept within bounds, [B]."""
        dense: Tensor | None = None
        if self.bottom is not None:
            with block(self, "bottom", batch.dense) as (numbers,):
                dense = self.bottom(numbers)
        fields = self.tables(batch.ids)
        operands = (fields,) if dense is None else (fields, dense)
        with block(self, "interaction", *operands) as (fields, *rest):
            op, itself = self.interaction_op, self.interaction_itself
            features = interact(rest[0] if rest else None, fields, op=op, itself=itself)
        with block(self, "top", features) as (features,):
            return widened(self.top(features)).squeeze(1)

    def logits(self, batch: ClickBatch) -> Tensor:
        """Log-odds of a click, float32 [B], within those of ``loss_threshold``."""
        logits = self._log_odds(batch)
        if not self.loss_threshold:
            return logits
        bound = float(torch.logit(torch.tensor(self.loss_threshold, dtype=torch.float64)))
        return logits.clamp(bound, -bound)

    def loss(self, batch: ClickBatch) -> Tensor:
        """Loss of each row, float32 [B]."""
        logits, weights = self._log_odds(batch), self.loss_weights
        return click_losses(logits, batch.label, loss=self.loss_word, clamp=self.loss_threshold, weights=weights)
