"""GRU4Rec's gradients written out by hand, for the usual case on a processor: few and large operations, no graph.

At a batch of 32 or 50 a step has some fifteen million operations of arithmetic, and a graph of torch's operators spends
most of its time between them. Here the columns of a step are its distinct items (an item that is drawn three times is
one column of three times the weight), so that every row of a table is read and written once, and what does not depend
on the weights is prepared for many steps at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recexp.models import kernels, native
from recexp.models.gru_arithmetic import Arithmetic, ByNumpy, Compiled, Floats, Work
from recexp.models.products import linear
from recexp.models.tables import RowGradient

if TYPE_CHECKING:
    from recexp.models.gru4rec import GRU4Rec
    from recexp.problems.session_steps import SessionBatch, SessionStep

Ids = NDArray[np.int64]
LARGEST_LOG = 60.0


def applies(network: GRU4Rec) -> bool:
    """Whether the network is the usual case: one tanh layer in torch's convention, plain cross-entropy, one step."""
    usual = len(network.layers) == 1 and network.conventions == ["torch"] and network.hidden_word == "tanh"
    plain = network.loss_word == "cross_entropy" and network.final_word == "linear" and not network.smoothing
    float32 = kernels.hand_written(network.output) and network.output.dtype == torch.float32
    alone = not torch.distributed.is_available() or not torch.distributed.is_initialized()
    # Beyond, the weights of the columns could not be told from 0 in float32; the graph works with their logarithms.
    strength = network.logq * max(1.0, network.sample_alpha) * float(network.log_support.max())
    simple = network.window == 1 and strength < LARGEST_LOG and not torch.is_autocast_enabled("cpu")
    return usual and plain and simple and float32 and alone


@dataclass(frozen=True)
class Prepared:
    """A step's ids, without repeats. U distinct items of inputs and columns, C of columns.

    Attributes:
        rows: Distinct items, int64 [U]; with a separate input table those of the columns.
        item: Place of each slot's input among ``rows`` (among ``inputs`` with a separate table), int64 [b].
        own: Place of each slot's target among ``rows``, int64 [b].
        offset: Logarithm of the columns' weights, -inf for rows that are inputs only, float32 [U].
        repeats: What the sum of the losses gains because a target that is several columns stands for one of them.
        columns: Places of the columns among ``rows``, int64 [C]; None where all are.
        column_rows: These rows, int64 [C].
        inputs: Distinct inputs of a separate table, int64; None where the tables are one.
        begins: Slots whose session begins, int64 [.]; None where there is none.
    """

    rows: Tensor
    item: Tensor
    own: Ids
    offset: Tensor
    repeats: float
    columns: Tensor | None
    column_rows: Tensor
    inputs: Tensor | None
    begins: Ids | None


def _distinct(ids: Ids) -> tuple[Ids, NDArray[np.bool_], Ids]:
    """Row by row: ids in order, which of them are new, and where each came from; all [K, n]."""
    width = ids.shape[1]
    keys = ids * width + np.arange(width)
    keys.sort(axis=1)
    ordered, origin = np.divmod(keys, width)
    new = np.ones(ids.shape, dtype=np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:])
    return ordered, new, origin


def prepare(
    steps: Sequence[SessionStep], target_weight: Floats, sample_weight: Floats, *, tied: bool
) -> list[Prepared]:
    """Prepare steps that have the same slots.

    Args:
        steps: Of one width.
        target_weight: exp of the correction of an item as a target, float32 [num_items + 1].
        sample_weight: The same as a sample.
        tied: Inputs are rows of the output table.
    """
    item = np.stack([step.item.numpy() for step in steps])
    column = np.stack([step.column.numpy() for step in steps])
    slots, targets = item.shape[1], steps[0].targets
    weight = np.concatenate((target_weight[column[:, :targets]], sample_weight[column[:, targets:]]), axis=1)
    if tied:
        weight = np.concatenate((np.zeros(item.shape, np.float32), weight), axis=1)
        column = np.concatenate((item, column), axis=1)
    shift = slots if tied else 0
    ordered, new, origin = _distinct(column)
    place = np.empty_like(origin)
    np.put_along_axis(place, origin, np.cumsum(new, axis=1) - 1, axis=1)
    sorted_weight = np.take_along_axis(weight, origin, axis=1)
    inputs = None if tied else _distinct(item)
    made = []
    for n, step in enumerate(steps):
        starts = np.flatnonzero(new[n])
        rows = ordered[n, starts]
        total = np.add.reduceat(sorted_weight[n], starts)
        with np.errstate(divide="ignore"):
            offset = np.log(total)
        is_column = total > 0
        columns = None if not tied or is_column.all() else np.flatnonzero(is_column)
        begins = np.flatnonzero(step.reset.numpy())
        ids = torch.from_numpy(rows)
        own = place[n, shift + step.own.numpy()]
        repeats = float((offset[own] - np.log(target_weight[rows[own]])).sum())
        if inputs is None:
            at, of_inputs = place[n, :slots], None
        else:
            at = np.empty(slots, dtype=np.int64)
            at[inputs[2][n]] = np.cumsum(inputs[1][n]) - 1
            of_inputs = torch.from_numpy(inputs[0][n, inputs[1][n]])
        made.append(
            Prepared(
                rows=ids,
                item=torch.from_numpy(at),
                own=own,
                offset=torch.from_numpy(offset),
                repeats=repeats,
                columns=None if columns is None else torch.from_numpy(columns),
                column_rows=ids if columns is None else torch.from_numpy(rows[columns]),
                inputs=of_inputs,
                begins=begins if len(begins) else None,
            )
        )
    return made


class FusedGradients:
    """Computes the gradients of steps and leaves them at the parameters, in ``grad`` and ``row_gradient``."""

    def __init__(self, network: GRU4Rec) -> None:
        self.network = network
        self.tied = network.input is None
        log = network.log_support
        self.target_weight: Floats = torch.exp(-network.logq * log).numpy()
        power = network.sample_alpha if network.samples else 1.0
        self.sample_weight: Floats = torch.exp(-network.logq * power * log).numpy()
        self._work: dict[int, Work] = {}
        self._prepared: dict[int, Prepared] = {}
        self._dense = (network.weight_ih["0"], network.weight_hh[0], network.bias_ih[0], network.bias_hh["0"])
        self._weights = [parameter.detach() for parameter in self._dense]
        self._gradients = [torch.zeros_like(weight) for weight in self._weights]
        library = native.library()
        self._arithmetic: Arithmetic = Compiled(library) if library else ByNumpy()

    def __str__(self) -> str:
        return f"gradients by hand, {self._arithmetic}"

    def prepare(self, batches: Sequence[SessionBatch]) -> None:
        """Look at the ids of the batches, of one step each, that come next."""
        steps = [batch.steps[0] for batch in batches]
        self._prepared = {}
        start = 0
        while start < len(steps):
            width = len(steps[start].column)
            stop = start
            while stop < len(steps) and len(steps[stop].column) == width:
                stop += 1
            part = steps[start:stop]
            made = prepare(part, self.target_weight, self.sample_weight, tied=self.tied)
            self._prepared.update(zip(map(id, part), made, strict=True))
            start = stop

    def __call__(self, batch: SessionBatch, scale: float) -> Tensor:
        """Gradients of a batch of one step; moves the carried state on.

        Returns:
            Sum of what ``network.loss`` answers, times ``scale``, [].
        """
        (step,) = batch.steps
        if self.network.per_batch_size:
            scale /= self.network.batch_size
        network, ready = self.network, self._prepared[id(step)]
        slots, hidden = len(step.item), network.layers[0]
        work = self._work.get(slots)
        if work is None:
            work = self._work[slots] = Work(slots, network.input_width, hidden)
        rows = network.output.detach().index_select(0, ready.rows)
        if ready.inputs is None:
            entered = rows.index_select(0, ready.item)
        else:
            assert network.input is not None
            entered = network.input.detach().index_select(0, step.item)
        masks = list(step.dropped)
        entry_mask = masks.pop(0) if network.dropout_embed else None
        if entry_mask is not None:
            entered *= entry_mask
        mask = masks[0].contiguous() if masks else None
        state = self._state(step, ready, slots, hidden)
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights
        torch.addmm(bias_ih, entered, weight_ih.t(), out=work.projected.tensor)
        torch.addmm(bias_hh, state, weight_hh.t(), out=work.recurrent.tensor)
        self._arithmetic.forward(work, state, mask)
        loss, d_rows, d_bias = self._scores(work, rows, ready, scale)
        d_weight_ih, d_weight_hh, d_bias_ih, d_bias_hh = self._gradients
        self._arithmetic.backward(work, mask, d_bias_ih, d_bias_hh)
        torch.mm(work.d_projected.tensor.t(), entered, out=d_weight_ih)
        torch.mm(work.d_recurrent.tensor.t(), state, out=d_weight_hh)
        torch.mm(work.d_projected.tensor, weight_ih, out=work.d_entered)
        if entry_mask is not None:
            work.d_entered *= entry_mask
        self._leave(ready, work, d_rows, d_bias)
        self._carry(step, work.query.tensor)
        return loss

    def _state(self, step: SessionStep, ready: Prepared, slots: int, hidden: int) -> Tensor:
        carried = self.network.carried()
        if not carried:
            return torch.zeros(slots, hidden)
        state = carried[0] if step.alive is None else carried[0].index_select(0, step.alive)
        if ready.begins is not None:
            # Nobody else holds it: what is carried is this object's own copy.
            state.numpy()[ready.begins] = 0
        return state

    def _carry(self, step: SessionStep, query: Tensor) -> None:
        if step.alive is None:
            self.network.carry([query.clone()])
        else:
            self.network.carry([self.network.carried()[0].index_copy(0, step.alive, query)])

    def _scores(self, work: Work, rows: Tensor, ready: Prepared, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, and gradients of the rows and their biases; leaves that of the state in ``work.d_query``."""
        bias = self.network.output_bias.detach().view(-1).index_select(0, ready.rows)
        scores = linear(work.query.tensor, rows, bias.add_(ready.offset))
        loss, d_scores, d_columns, d_bias = self._arithmetic.softmax(scores, ready.own, scale)
        d_rows = linear(d_columns, work.query.tensor.t())
        linear(d_scores, rows.t(), out=work.d_query.tensor)
        return torch.tensor(scale * (ready.repeats + loss)), d_rows, d_bias

    def _leave(self, ready: Prepared, work: Work, d_rows: Tensor, d_bias: Tensor) -> None:
        network = self.network
        for parameter, gradient in zip(self._dense, self._gradients, strict=True):
            parameter.grad = gradient
        if ready.inputs is None:
            d_rows.index_add_(0, ready.item, work.d_entered)
        else:
            d_inputs = torch.zeros(len(ready.inputs), network.input_width).index_add_(0, ready.item, work.d_entered)
            RowGradient(ready.inputs, d_inputs).leave_at(network.input)
        RowGradient(ready.rows, d_rows).leave_at(network.output)
        if ready.columns is not None:
            d_bias = d_bias.index_select(0, ready.columns)
        RowGradient(ready.column_rows, d_bias.view(-1, 1)).leave_at(network.output_bias)
