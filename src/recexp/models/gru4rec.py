"""GRU4Rec (Hidasi et al. 2016, arXiv 1511.06939; Hidasi and Karatzoglou 2018, arXiv 1706.03847): a GRU over sessions.

Defaults and details follow the authors' code (GRU4Rec_PyTorch_Official); what their Theano code and the TensorFlow
system do otherwise are options. Shape letters: b slots, K scored columns, T steps, D width of the last layer, I ids.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recexp.models import session_losses
from recexp.models.activations import activation
from recexp.models.blocks import block
from recexp.models.gru4rec_fused import FusedGradients, applies
from recexp.models.gru_cell import gru_step
from recexp.models.products import linear
from recexp.models.tables import table_rows
from recexp.problems.session_steps import FeedOptions

if TYPE_CHECKING:
    from recexp.problems.session_steps import SessionBatch, SessionStep

#: What `final_act=null` stands for.
USUAL_FINAL = {"cross_entropy": "softmax", "bpr": "tanh", "top1": "tanh", "bpr_max": "elu", "top1_max": "elu"}
#: Of the scores before the softmax of the cross-entropy.
BEFORE_SOFTMAX = {"softmax": "linear", "softmax_tanh": "tanh", "softmax_relu": "relu"}


def widened(value: Tensor) -> Tensor:
    """At least float32: sums and states are not kept in what autocast lowers products to."""
    return value if value.dtype == torch.float64 else value.float()


class GRU4Rec(nn.Module):
    """The network, its losses and its scores of the catalogue."""

    log_support: Tensor

    def __init__(
        self,
        *,
        num_users: int,
        num_items: int,
        layers: list[int] | None = None,
        embedding: str = "constrained",
        embedding_dim: int | None = None,
        cell: str = "official",
        hidden_act: str = "tanh",
        hidden_alpha: float = 1.0,
        hidden_scale: float = 1.0,
        final_act: str | None = None,
        final_alpha: float = 0.5,
        final_scale: float = 1.0,
        loss: str = "cross_entropy",
        logq: float = 1.0,
        bpreg: float = 1.0,
        smoothing: float = 0.0,
        reduction: str = "batch_size",
        dropout_embed: float = 0.0,
        dropout_hidden: float = 0.4,
        samples: int = 2048,
        sample_alpha: float = 0.5,
        init_sigma: float | None = None,
        init_as_normal: bool = False,
        gate_bias: float = 0.0,
        reset_after_session: bool = True,
        session_order: str = "time",
        end_rule: str = "official",
        training: str = "bp",
        bptt_steps: int = 20,
        max_len: int = 200,
    ) -> None:
        """Build the parameters; the options are described in conf/model/gru4rec.yaml.

        Args:
            num_users: Not used: a session has no identity.
            num_items: Largest item id; row 0 of the tables is padding and stays zero.
            layers: Width of each GRU layer.
            embedding: ``constrained`` (the output table is the input table), ``separate``, ``onehot`` (every item owns
                its part of the first layer's gates).
            embedding_dim: Width of a separate table; None: that of the first layer.
            cell: ``official`` (theano for the first layer of ``onehot``, else torch), ``torch``, ``theano``, ``tf``.
            hidden_act: Of the candidate state.
            hidden_alpha: Its constant (elu, selu, leaky_relu).
            hidden_scale: Its second constant (selu).
            final_act: Of the scores within the loss; None: the usual one for the loss.
            final_alpha: As ``hidden_alpha``.
            final_scale: As ``hidden_scale``.
            loss: cross_entropy, bpr, top1, bpr_max or top1_max.
            logq: Strength of the correction of the cross-entropy for how likely a column is drawn.
            bpreg: Strength of bpr_max's regularisation of scores.
            smoothing: Label smoothing of the cross-entropy.
            reduction: Sum over the slots / the configured ``batch_size``, as the authors; or ``mean`` over the slots.
            dropout_embed: Drop probability of the input vector.
            dropout_hidden: Drop probability of each layer's output, which is also the next step's state.
            samples: Extra negatives, shared by the slots of a step.
            sample_alpha: They are drawn in proportion to support ** sample_alpha.
            init_sigma: Bound of the initial weights; None: sqrt(6 / (rows + columns)) of each block.
            init_as_normal: Normal with that standard deviation instead of uniform within the bound.
            gate_bias: Initial bias of the gates (1 in the TensorFlow system).
            reset_after_session: Zero a slot's state when it takes a new session.
            session_order: ``time`` of the first event, or ``id``.
            end_rule: How an epoch ends: ``official`` or ``legacy``.
            training: ``bp`` (one step an update, the state carried on as a constant) or ``bptt`` (a window of steps).
            bptt_steps: Steps of such a window.
            max_len: Most items of a history that is ranked from (leave-one-out protocols).
        """
        super().__init__()
        self.layers = list(layers or [100])
        self.embedding, self.cell, self.loss_word = embedding, cell, loss
        self.logq, self.bpreg, self.smoothing = logq, bpreg, smoothing
        self.dropout_embed, self.dropout_hidden = dropout_embed, dropout_hidden
        self.samples, self.sample_alpha, self.reset_after_session = samples, sample_alpha, reset_after_session
        self.session_order, self.end_rule, self.max_len = session_order, end_rule, max_len
        self.window = bptt_steps if training == "bptt" else 1
        self.per_batch_size = reduction == "batch_size"
        self.reduction = "batches" if self.per_batch_size else "mean"
        final = final_act or USUAL_FINAL[loss]
        self.final_word = BEFORE_SOFTMAX.get(final, final)
        self.hidden_word = hidden_act
        self.hidden_act = activation(hidden_act, hidden_alpha, hidden_scale)
        self.final_act = activation(self.final_word, final_alpha, final_scale)
        self._build(num_items, embedding_dim or self.layers[0])
        self._initialise(init_sigma, init_as_normal, gate_bias)
        self.register_buffer("log_support", torch.zeros(num_items + 1), persistent=False)
        self.batch_size = 1
        self._fused: FusedGradients | None = None
        self._state: list[Tensor] = []

    def _build(self, num_items: int, embedding_dim: int) -> None:
        """Empty parameters."""
        last, first = self.layers[-1], self.layers[0]
        self.output = nn.Parameter(torch.empty(num_items + 1, last))
        self.output_bias = nn.Parameter(torch.empty(num_items + 1, 1))
        width = {"constrained": last, "separate": embedding_dim, "onehot": 3 * first}[self.embedding]
        self.input_width = width
        self.input = None if self.embedding == "constrained" else nn.Parameter(torch.empty(num_items + 1, width))
        widths = [width, *self.layers]
        self.weight_hh, self.bias_ih = nn.ParameterList(), nn.ParameterList()
        # By the layer's number: the first layer of `onehot` has its weights in the table, and one bias may do.
        self.weight_ih, self.bias_hh = nn.ParameterDict(), nn.ParameterDict()
        self.conventions = []
        for number, hidden in enumerate(self.layers):
            onehot = self.embedding == "onehot" and number == 0
            convention = ("theano" if onehot else "torch") if self.cell == "official" else self.cell
            self.conventions.append(convention)
            if not onehot:
                self.weight_ih[str(number)] = nn.Parameter(torch.empty(3 * hidden, widths[number]))
            self.weight_hh.append(nn.Parameter(torch.empty(3 * hidden, hidden)))
            self.bias_ih.append(nn.Parameter(torch.empty(3 * hidden)))
            if convention == "torch":
                self.bias_hh[str(number)] = nn.Parameter(torch.empty(3 * hidden))

    @torch.no_grad()
    def _initialise(self, sigma: float | None, as_normal: bool, gate_bias: float) -> None:
        """Each gate's block is drawn as a matrix of its own: bound sqrt(6 / (rows + columns)) (authors' code)."""

        def draw(block: Tensor) -> None:
            bound = sigma if sigma is not None else math.sqrt(6 / (block.shape[0] + block.shape[1]))
            nn.init.normal_(block, std=bound) if as_normal else nn.init.uniform_(block, -bound, bound)

        if self.input is not None:
            for part in self.input[1:].chunk(3, 1) if self.embedding == "onehot" else (self.input[1:],):
                draw(part)
            self.input[0].zero_()
        draw(self.output[1:])
        self.output[0].zero_()
        self.output_bias.zero_()
        for number, hidden in enumerate(self.layers):
            if str(number) in self.weight_ih:
                for part in self.weight_ih[str(number)].chunk(3, 0):
                    draw(part)
            for part in self.weight_hh[number].chunk(3, 0):
                draw(part)
            self.bias_ih[number].zero_()
            self.bias_ih[number][: 2 * hidden] = gate_bias
        for bias in self.bias_hh.values():
            bias.zero_()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, without a penalty."""
        return [{"params": list(self.parameters())}]

    def feed_options(self) -> FeedOptions:
        """Session-parallel steps as the options say."""
        dropout = [(self.dropout_embed, self.input_width)] if self.dropout_embed else []
        if self.dropout_hidden:
            dropout += [(self.dropout_hidden, hidden) for hidden in self.layers]
        return FeedOptions(
            window=self.window,
            samples=self.samples,
            sample_alpha=self.sample_alpha,
            end=self.end_rule,
            order=self.session_order,
            reset=self.reset_after_session,
            dropout=tuple(dropout),
        )

    def observe(self, support: Tensor, batch_size: int) -> None:
        """Keep the logarithm of the support, 0 for items without any, and the number of slots."""
        self.batch_size, self._fused = batch_size, None
        self.log_support = support.clamp(min=1).float().log().to(self.log_support.device)

    def carried(self) -> list[Tensor]:
        """The state after the last step."""
        return self._state

    def carry(self, state: list[Tensor]) -> None:
        """Go on with such a state."""
        self._state = state

    def gradients_by_hand(self) -> FusedGradients | None:
        """Where the options are the usual ones, on a processor."""
        if not applies(self):
            return None
        if self._fused is None:
            self._fused = FusedGradients(self)
        return self._fused

    def loss(self, batch: SessionBatch) -> Tensor:
        """Loss of each slot at each step, float32 [rows]."""
        losses = [self._step(step) for step in batch.steps]
        self._state = [state.detach() for state in self._state]
        rows = losses[0] if len(losses) == 1 else torch.cat(losses)
        return rows / (self.batch_size * len(losses)) if self.per_batch_size else rows

    def _step(self, step: SessionStep) -> Tensor:
        slots, ids = len(step.item), torch.cat((step.item, step.column))
        if self.input is None:
            rows = table_rows(self.output, ids, padded=False)
            entered, output = rows[:slots], rows[slots:]
        else:
            entered = table_rows(self.input, step.item, padded=False)
            output = table_rows(self.output, step.column, padded=False)
        bias = table_rows(self.output_bias, step.column, padded=False)
        masks = list(step.dropped)
        if self.dropout_embed:
            entered = entered * masks.pop(0)
        if not self._state:
            self._state = [entered.new_zeros(slots, hidden) for hidden in self.layers]
        states = self._state if step.alive is None else [state.index_select(0, step.alive) for state in self._state]
        going = (~step.reset)[:, None]
        states = self._through(entered, [state * going for state in states], masks)
        with block(self, "scores", states[-1], output) as (query, output):
            scores = widened(query @ output.T) + bias.T
        if step.alive is not None:
            states = [old.index_copy(0, step.alive, new) for old, new in zip(self._state, states, strict=True)]
        self._state = states
        return self.losses(scores, step)

    def _through(self, entered: Tensor, states: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """The next state of each layer, after dropout."""
        after = []
        for number, state in enumerate(states):
            with block(self, "gru", entered, state) as (read, before):
                new = widened(self._recur(number, self._project(number, read), before))
            if masks:
                new = new * masks[number]
            after.append(new)
            entered = new
        return after

    def _project(self, number: int, entered: Tensor) -> Tensor:
        """The input's part of a layer's gates, [..., 3h]."""
        if str(number) in self.weight_ih:
            return nn.functional.linear(entered, self.weight_ih[str(number)], self.bias_ih[number])
        projected: Tensor = entered + self.bias_ih[number]
        return projected

    def _recur(self, number: int, projected: Tensor, state: Tensor) -> Tensor:
        bias = self.bias_hh.get(str(number))
        return gru_step(
            projected, state, self.weight_hh[number], bias, convention=self.conventions[number], act=self.hidden_act
        )

    def losses(self, scores: Tensor, step: SessionStep) -> Tensor:
        """Loss of each slot from float32 scores [b, K]."""
        scores, own = self.final_act(scores), step.own
        if self.loss_word == "cross_entropy":
            if self.logq:
                scores = scores - self.logq * self.log_chance(step)
            return session_losses.cross_entropy(scores, own, smoothing=self.smoothing)
        if self.loss_word == "bpr_max":
            return session_losses.bpr_max(scores, own, regularisation=self.bpreg)
        losses = {"bpr": session_losses.bpr, "top1": session_losses.top1, "top1_max": session_losses.top1_max}
        return losses[self.loss_word](scores, own)

    def log_chance(self, step: SessionStep) -> Tensor:
        """Log of how likely a column is there, up to a constant: support of targets, support ** alpha of samples, [K].

        The two stand on different powers on purpose, as in the authors' code.
        """
        log = self.log_support.index_select(0, step.column)
        if not self.samples:
            return log
        return torch.cat((log[: step.targets], self.sample_alpha * log[step.targets :]))

    def encode(self, items: Tensor) -> Tensor:
        """State of the last layer after each event, from zero, [T, b, D]; an item 0 leaves the state as it is."""
        table = self.output if self.input is None else self.input
        layer = table.index_select(0, items.reshape(-1)).view(*items.shape, -1)
        present = (items > 0).unsqueeze(-1)
        for number, hidden in enumerate(self.layers):
            with block(self, "gru", layer) as (layer,):
                projected = self._project(number, layer)
                state = projected.new_zeros(items.shape[1], hidden, dtype=self.weight_hh[number].dtype)
                states = []
                for step in range(len(items)):
                    new = self._recur(number, projected[step], state)
                    state = torch.where(present[step], widened(new), state)
                    states.append(state)
            layer = torch.stack(states)
        return layer

    def score(self, query: Tensor) -> Tensor:
        """Scores of every id before the final activation, [R, D] to [R, I]."""
        with block(self, "scores", query) as (query,):
            return linear(query, self.output, self.output_bias.view(-1))

    def catalogue_scores(self, user: Tensor, history: Tensor) -> Tensor:
        """Scores of every id from the last items, 0 on the left, [b, L] to [b, I]; a user is not looked at."""
        return self.score(self.encode(history.T)[-1])
