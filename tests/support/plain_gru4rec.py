"""GRU4Rec as slow and as obvious as it can be written: what faster code is compared with, step by step.

Nothing here is shared with ``recexp``. Gradients are dense and come from autograd, every update returns new
tensors, evaluation takes one session after the other. Sources: Hidasi et al., "Session-based recommendations with
recurrent neural networks" (arXiv 1511.06939, "paper I"), Hidasi and Karatzoglou, "Recurrent neural networks with
top-k gains for session-based recommendations" (arXiv 1706.03847, "paper II"), and the behaviour of the authors'
PyTorch code ("official") and of the older TensorFlow code ("legacy").

Shapes: N items, k width of the input, h width of a layer, M live slots, S extra negatives, K = M + S scored columns.
Items are 0..N-1, gates are stacked in the order r, z, n as in ``torch.nn.GRUCell``.

Parameters, by name:
    ``output`` [N, h], ``output_bias`` [N];
    ``input`` [N, k] (separate) or [N, 3h] (onehot); constrained has none and reads ``output``;
    ``gru0.weight_ih`` [3h, in], ``gru0.weight_hh`` [3h, h], ``gru0.bias_ih`` and ``gru0.bias_hh`` [3h], and so on for
    the layers above; layer 0 of onehot has no ``weight_ih`` and no ``bias_hh``. The conventions that reset before
    the product have no ``bias_hh`` either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Parameters = dict[str, Tensor]
Ids = NDArray[np.int64]
End = Literal["official", "official_train_without_samples", "legacy"]
Convention = Literal["torch", "theano", "tf"]
Ties = Literal["standard", "conservative", "median"]
TABLES = ("input", "output", "output_bias")


@dataclass(frozen=True)
class Settings:
    """What is trained and how; the defaults are the official best parameters for RSC15."""

    num_items: int
    layers: tuple[int, ...] = (100,)
    embedding: Literal["constrained", "separate", "onehot"] = "constrained"
    embedding_dim: int = 0  # of separate; 0 is layers[0]
    cell: Convention = "torch"  # of every layer but the first of onehot, which is always "theano"
    hidden_act: Literal["tanh", "relu"] = "tanh"
    loss: Literal["cross_entropy", "bpr", "top1", "bpr_max", "top1_max"] = "cross_entropy"
    final_act: Literal["linear", "tanh", "relu", "elu"] = "linear"  # of the scores, before the loss
    elu: float = 0.5
    bpreg: float = 1.0
    logq: float = 1.0
    num_samples: int = 2048
    alpha: float = 0.5
    reduction: Literal["official", "legacy"] = "official"
    batch_size: int = 32
    end: End | None = None  # None: as official trains, by whether there are extra negatives
    reset_after_session: bool = True
    window: int = 1  # steps per update
    window_reduction: Literal["mean", "sum"] = "mean"
    dropout_embed: float = 0.0
    dropout_hidden: float = 0.4
    optimizer: Literal["adagrad", "adam"] = "adagrad"
    lr: float = 0.2
    momentum: float = 0.2
    decay: float = 1.0
    decay_steps: int = 10_000
    min_lr: float = 0.0
    grad_cap: float = 0.0
    sigma: float = 0.0
    init_as_normal: bool = False
    epochs: int = 10
    dtype: torch.dtype = torch.float32

    @property
    def input_dim(self) -> int:
        """Width of what the first layer reads."""
        return self.embedding_dim or self.layers[0] if self.embedding == "separate" else self.layers[-1]

    def convention(self, layer: int) -> Convention:
        """Official adds the onehot rows into the gates of a cell that resets before the product."""
        return "theano" if self.embedding == "onehot" and layer == 0 else self.cell


def legacy_settings(num_items: int, **other: object) -> Settings:
    """The seed's table: Adam with decay, in-batch negatives only, own input table, batch 50, three epochs."""
    legacy = Settings(
        num_items=num_items, embedding="separate", batch_size=50, num_samples=0, logq=0.0, reduction="legacy",
        dropout_hidden=0.0, optimizer="adam", lr=1e-3, decay=0.96, min_lr=1e-5, epochs=3,
    )  # fmt: skip
    return replace(legacy, **other)  # type: ignore[arg-type]


# ---- the schedule ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One session-parallel step; every list has one entry per live slot."""

    inputs: list[int]
    targets: list[int]
    resets: list[bool]  # the state of the slot is zeroed before this step: it reads the first event of a session
    slots: list[int]  # which of the batch_size states
    sessions: list[int]  # which session the slot is in


def schedule(sessions: Sequence[Sequence[int]], batch_size: int, end: End) -> Iterator[Step]:
    """Session-parallel mini-batches, section 3.1.1 of paper I, in the words of its figure.

    The first events of the first B sessions are the input of the first step, their second events its targets. A slot
    with at most one event left has no next target: it takes the next session that nobody has taken. Sessions of one
    event are passed over in the same way, which is why finished slots take sessions in rounds.

    ``official`` drops a slot for which no session is left and goes on until all are gone;
    ``official_train_without_samples`` ends as soon as fewer than two slots are live, for then a target has no
    negative; ``legacy`` ends when a slot finds no session, whatever the other slots still have.
    """
    next_session = min(batch_size, len(sessions))
    session = {slot: slot for slot in range(next_session)}
    position = dict.fromkeys(session, 0)
    while True:
        while finished := [slot for slot in session if len(sessions[session[slot]]) - position[slot] <= 1]:
            for slot in finished:
                if next_session < len(sessions):
                    session[slot], position[slot] = next_session, 0
                    next_session += 1
                elif end == "legacy":
                    return
                else:
                    del session[slot], position[slot]
        if not session or (end == "official_train_without_samples" and len(session) < 2):
            return
        yield Step(
            inputs=[sessions[session[slot]][position[slot]] for slot in session],
            targets=[sessions[session[slot]][position[slot] + 1] for slot in session],
            resets=[position[slot] == 0 for slot in session],
            slots=list(session),
            sessions=list(session.values()),
        )
        for slot in session:
            position[slot] += 1


# ---- the network ----------------------------------------------------------------------------------------------------


def initial_bound(rows: int, cols: int) -> float:
    """Bound of the uniform distribution of a rows x cols matrix (Glorot and Bengio 2010)."""
    return math.sqrt(6.0 / (rows + cols))


def initial_parameters(settings: Settings, generator: torch.Generator) -> Parameters:
    """U(-s, s) with s of each matrix; the three gates are matrices of their own; biases 0.

    As the official code does in its compatibility mode. (Outside of it the code swaps the two sides of the stacked
    matrices of nn.GRUCell and arrives at sqrt(6 / (3h + in / 3)).)
    """

    def matrix(rows: int, cols: int) -> Tensor:
        bound = settings.sigma or initial_bound(rows, cols)
        if settings.init_as_normal:
            drawn = torch.randn(rows, cols, generator=generator, dtype=torch.float64) * bound
        else:
            drawn = (torch.rand(rows, cols, generator=generator, dtype=torch.float64) * 2 - 1) * bound
        return drawn.to(settings.dtype)

    def gates(inputs: int, outputs: int) -> Tensor:
        return torch.cat([matrix(inputs, outputs).T for _ in range(3)])

    items, widths, new = settings.num_items, settings.layers, Parameters()
    if settings.embedding == "onehot":
        new["input"] = gates(items, widths[0]).T.contiguous()
    elif settings.embedding == "separate":
        new["input"] = matrix(items, settings.input_dim)
    for layer, width in enumerate(widths):
        if not (settings.embedding == "onehot" and layer == 0):
            new[f"gru{layer}.weight_ih"] = gates(widths[layer - 1] if layer else settings.input_dim, width)
        new[f"gru{layer}.weight_hh"] = gates(width, width)
        new[f"gru{layer}.bias_ih"] = torch.zeros(3 * width, dtype=settings.dtype)
        if settings.convention(layer) == "torch":
            new[f"gru{layer}.bias_hh"] = torch.zeros(3 * width, dtype=settings.dtype)
    new["output"] = matrix(items, widths[-1])
    new["output_bias"] = torch.zeros(items, dtype=settings.dtype)
    return new


def gru_step(
    from_input: Tensor,
    hidden: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    convention: Convention,
    act: Callable[[Tensor], Tensor] = torch.tanh,
) -> Tensor:
    """One step of a GRU; ``from_input`` [M, 3h] is what the input adds to the gates, bias included.

    torch (documentation of nn.GRUCell): n = act(x + r * (h W + b)), h' = z h + (1 - z) n.
    theano (official, and its onehot layer in PyTorch): n = act(x + (r * h) W), h' = (1 - z) h + z n.
    tf (GRUCell of TensorFlow 1, legacy): n = act(x + (r * h) W), h' = z h + (1 - z) n.
    """
    x_r, x_z, x_n = from_input.chunk(3, dim=1)
    w_r, w_z, w_n = weight_hh.chunk(3)
    b_r, b_z, b_n = torch.zeros_like(weight_hh[:, 0]).chunk(3) if bias_hh is None else bias_hh.chunk(3)
    r = torch.sigmoid(x_r + hidden @ w_r.T + b_r)
    z = torch.sigmoid(x_z + hidden @ w_z.T + b_z)
    from_hidden = r * (hidden @ w_n.T + b_n) if convention == "torch" else (r * hidden) @ w_n.T + b_n
    n = act(x_n + from_hidden)
    return (1 - z) * hidden + z * n if convention == "theano" else z * hidden + (1 - z) * n


def forward(
    parameters: Mapping[str, Tensor],
    hidden: Sequence[Tensor],
    inputs: Tensor,
    settings: Settings,
    embed_mask: Tensor | None = None,
    hidden_masks: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """New states of all layers [M, h]; the last one is what items are scored with.

    Masks hold 0 or 1 / (1 - p). What a layer hands on is what it keeps as state: the dropped output (official). For
    onehot this is Theano's: the state of layer 0 is dropped as any other and there is no input vector to drop. (The
    PyTorch code there applies the dropout of embeddings to the state of layer 0.)
    """
    act = {"tanh": torch.tanh, "relu": torch.relu}[settings.hidden_act]
    x = parameters["output" if settings.embedding == "constrained" else "input"][inputs]
    if embed_mask is not None:
        assert settings.embedding != "onehot"
        x = x * embed_mask
    new: list[Tensor] = []
    for layer, old in enumerate(hidden):
        name = f"gru{layer}."
        from_input = x @ parameters[name + "weight_ih"].T if name + "weight_ih" in parameters else x
        from_input = from_input + parameters[name + "bias_ih"]
        bias_hh = parameters.get(name + "bias_hh")
        x = gru_step(from_input, old, parameters[name + "weight_hh"], bias_hh, settings.convention(layer), act)
        if hidden_masks is not None:
            x = x * hidden_masks[layer]
        new.append(x)
    return new


# ---- the losses -----------------------------------------------------------------------------------------------------


def final_activation(scores: Tensor, name: str, elu: float = 0.0) -> Tensor:
    """What happens to scores before the loss sees them; softmax belongs to the cross entropy itself."""
    if name == "elu":
        return torch.where(scores > 0, scores, elu * (torch.exp(scores.clamp(max=0)) - 1))
    known: dict[str, Callable[[Tensor], Tensor]] = {"linear": torch.clone, "tanh": torch.tanh, "relu": torch.relu}
    return known[name](scores)


def log_q(support_targets: Tensor, support_samples: Tensor, alpha: float) -> Tensor:
    """[K] log of how often a column comes up as a negative: support for targets, support^alpha for drawn ones."""
    return torch.cat([torch.log(support_targets), alpha * torch.log(support_samples)])


def positives(scores: Tensor) -> Tensor:
    """[M, 1] score of each row's own target: column i of row i."""
    return torch.diagonal(scores)[:, None]


def softmax_over_negatives(scores: Tensor) -> Tensor:
    """s of paper II, section 3.3: softmax over a row without its own target, which gets weight 0."""
    own = torch.eye(*scores.shape, dtype=torch.bool)
    return torch.softmax(scores.masked_fill(own, -math.inf), dim=1)


def cross_entropy(scores: Tensor) -> Tensor:
    """[M] -log softmax of the own target.

    Official adds 1e-24 to the probability, so a row's loss ends at 55.3 and beyond it the row has no gradient.
    """
    return -torch.diagonal(torch.log_softmax(scores, dim=1))


def bpr(scores: Tensor, include_self: bool = True) -> Tensor:
    """[M] mean over j of -log sigmoid(r_i - r_j) (paper I, eq. for BPR); legacy lets j be the target as well."""
    losses = -torch.nn.functional.logsigmoid(positives(scores) - scores)
    if include_self:
        return losses.mean(dim=1)
    return (losses.sum(dim=1) - torch.diagonal(losses)) / (scores.shape[1] - 1)


def top1(scores: Tensor) -> Tensor:
    """[M] mean over j of sigmoid(r_j - r_i) + sigmoid(r_j^2), less the target's own sigmoid(r_i^2) / K."""
    own = positives(scores)
    mean = (torch.sigmoid(scores - own) + torch.sigmoid(scores**2)).mean(dim=1)
    return mean - torch.sigmoid(own[:, 0] ** 2) / scores.shape[1]


def bpr_max(scores: Tensor, bpreg: float) -> Tensor:
    """[M] -log(sum_j s_j sigmoid(r_i - r_j) + 1e-24) + bpreg sum_j s_j r_j^2 (paper II, eq. 9)."""
    s = softmax_over_negatives(scores)
    likelihood = (s * torch.sigmoid(positives(scores) - scores)).sum(dim=1)
    return -torch.log(likelihood + 1e-24) + bpreg * (s * scores**2).sum(dim=1)


def top1_max(scores: Tensor) -> Tensor:
    """[M] sum_j s_j (sigmoid(r_j - r_i) + sigmoid(r_j^2)) (paper II, eq. 7)."""
    s = softmax_over_negatives(scores)
    return (s * (torch.sigmoid(scores - positives(scores)) + torch.sigmoid(scores**2))).sum(dim=1)


def row_losses(scores: Tensor, settings: Settings) -> Tensor:
    """[M] loss of each row of scores [M, K]."""
    scores = final_activation(scores, settings.final_act, settings.elu)
    if settings.loss == "bpr_max":
        return bpr_max(scores, settings.bpreg)
    return {"cross_entropy": cross_entropy, "bpr": bpr, "top1": top1, "top1_max": top1_max}[settings.loss](scores)


def reduce(losses: Tensor, settings: Settings) -> Tensor:
    """Official: the sum by the CONFIGURED batch size, so that a shrunken batch weighs less; legacy: the mean."""
    return losses.mean() if settings.reduction == "legacy" else losses.sum() / settings.batch_size


# ---- the optimisers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OptimizerState:
    """Adagrad: first = velocity, second = sum of squares. Adam: first and second moment."""

    first: Parameters
    second: Parameters
    step: int = 0  # updates made


def initial_state(parameters: Mapping[str, Tensor]) -> OptimizerState:
    """Everything 0 (official's Adagrad too)."""
    first, second = ({name: torch.zeros_like(value) for name, value in parameters.items()} for _ in range(2))
    return OptimizerState(first, second)


def learning_rate(settings: Settings, step: int) -> float:
    """Rate of the update before which ``step`` updates were made: by stairs (legacy), never below the floor."""
    return max(settings.min_lr, settings.lr * settings.decay ** (step // settings.decay_steps))


def adagrad(
    value: Tensor, grad: Tensor, velocity: Tensor, total: Tensor, lr: float, momentum: float, eps: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """New value, velocity and sum of squares: v = momentum v - lr g / sqrt(total + eps) (official)."""
    total = total + grad**2
    velocity = momentum * velocity - lr * grad / torch.sqrt(total + eps)
    return value + velocity, velocity, total


def adam(
    value: Tensor, grad: Tensor, first: Tensor, second: Tensor, lr: float, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """New value and moments after update number ``step`` = 1, 2, ... (Kingma and Ba 2015, algorithm 1)."""
    first = 0.9 * first + 0.1 * grad
    second = 0.999 * second + 0.001 * grad**2
    scale = torch.sqrt(second / (1 - 0.999**step)) + 1e-8
    return value - lr * (first / (1 - 0.9**step)) / scale, first, second


def clip(grad: Tensor, cap: float) -> Tensor:
    """Each tensor by its own norm (tf.clip_by_norm, legacy); 0 leaves it alone."""
    norm = float(torch.linalg.vector_norm(grad)) if cap > 0 else 0.0
    return grad * (cap / norm) if norm > cap else grad


def apply_gradients(
    parameters: Mapping[str, Tensor],
    state: OptimizerState,
    gradients: Mapping[str, Tensor],
    touched: Mapping[str, Ids],
    settings: Settings,
) -> tuple[Parameters, OptimizerState]:
    """Parameters and state after one update.

    Adagrad changes of a table only the rows that were looked up (``touched``), whatever their gradient: with a
    velocity they move even if it is 0; the other rows keep value, velocity and sum. Adam is dense (legacy).
    """
    lr = learning_rate(settings, state.step)
    values, firsts, seconds = Parameters(), Parameters(), Parameters()
    for name, value in parameters.items():
        grad, first, second = clip(gradients[name], settings.grad_cap), state.first[name], state.second[name]
        if settings.optimizer == "adam":
            value, first, second = adam(value, grad, first, second, lr, state.step + 1)
        elif name not in TABLES:
            value, first, second = adagrad(value, grad, first, second, lr, settings.momentum)
        else:
            rows = torch.from_numpy(touched[name])
            moved = adagrad(value[rows], grad[rows], first[rows], second[rows], lr, settings.momentum)
            value, first, second = value.clone(), first.clone(), second.clone()
            value[rows], first[rows], second[rows] = moved
        values[name], firsts[name], seconds[name] = value, first, second
    return values, OptimizerState(firsts, seconds, state.step + 1)


# ---- one update -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draws:
    """What is random in one step: S item ids, and masks of 0 or 1 / (1 - p), [M, k] and one [M, h] per layer."""

    negatives: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    embed_mask: Tensor | None = None
    hidden_masks: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Updated:
    """All that an update returns."""

    parameters: Parameters
    state: OptimizerState
    hidden: list[Tensor]
    loss: float
    gradients: Parameters
    touched: dict[str, Ids]


def zero_hidden(settings: Settings) -> list[Tensor]:
    """One state per layer and slot [batch_size, h]."""
    return [torch.zeros(settings.batch_size, width, dtype=settings.dtype) for width in settings.layers]


def step_loss(
    parameters: Mapping[str, Tensor],
    hidden: Sequence[Tensor],
    step: Step,
    draws: Draws,
    settings: Settings,
    support: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Loss of one step and the states [batch_size, h] after it; slots that are not live keep theirs."""
    slots, inputs = torch.tensor(step.slots), torch.tensor(step.inputs)
    columns = torch.tensor([*step.targets, *draws.negatives.tolist()])
    keep = torch.tensor([not (reset and settings.reset_after_session) for reset in step.resets])
    before = [torch.where(keep[:, None], old[slots], 0.0) for old in hidden]
    after = forward(parameters, before, inputs, settings, draws.embed_mask, draws.hidden_masks)
    scores = after[-1] @ parameters["output"][columns].T + parameters["output_bias"][columns]
    if settings.loss == "cross_entropy" and settings.logq > 0:
        assert support is not None
        targets, samples = support[columns[: len(slots)]], support[columns[len(slots) :]]
        scores = scores - settings.logq * log_q(targets, samples, settings.alpha).to(settings.dtype)
    loss = reduce(row_losses(scores, settings), settings)
    return loss, [old.index_copy(0, slots, new) for old, new in zip(hidden, after, strict=True)]


def touched_rows(steps: Sequence[Step], draws: Sequence[Draws], settings: Settings) -> dict[str, Ids]:
    """Rows of each table that the steps looked up."""
    inputs = [item for step in steps for item in step.inputs]
    columns = [item for step in steps for item in step.targets] + [i for draw in draws for i in draw.negatives.tolist()]
    touched = {"output": columns, "output_bias": columns}
    if settings.embedding == "constrained":
        touched["output"] = inputs + columns
    else:
        touched["input"] = inputs
    return {name: np.unique(np.array(ids, dtype=np.int64)) for name, ids in touched.items()}


def update(
    parameters: Mapping[str, Tensor],
    state: OptimizerState,
    hidden: Sequence[Tensor],
    steps: Sequence[Step],
    draws: Sequence[Draws],
    settings: Settings,
    support: Tensor | None = None,
) -> Updated:
    """One update from one or more consecutive steps; nothing that is passed in changes.

    One step is back-propagation as official does it: the state is carried on, the gradient stops at it. More steps
    are truncated back-propagation through time: the gradient runs through the states of the window, is cut where a
    session begins, and stops at the state from which the window starts. The loss of a window is the mean (or sum)
    of those of its steps.

    Whoever compares updates should do so in float64 and over few of them: the first steps of Adagrad are close to
    lr * sign(g), and at a rate of 0.2 a difference grows tenfold every four or five updates.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    now = [old.detach() for old in hidden]
    losses = []
    for step, draw in zip(steps, draws, strict=True):
        loss, now = step_loss(leaves, now, step, draw, settings, support)
        losses.append(loss)
    total = torch.stack(losses).mean() if settings.window_reduction == "mean" else torch.stack(losses).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), found, strict=True)
    }
    touched = touched_rows(steps, draws, settings)
    values, state = apply_gradients(parameters, state, gradients, touched, settings)
    return Updated(values, state, [state_.detach() for state_ in now], total.item(), gradients, touched)


# ---- training -------------------------------------------------------------------------------------------------------


def supports(sessions: Iterable[Sequence[int]], num_items: int) -> Tensor:
    """[N] number of events of each item."""
    return torch.bincount(torch.tensor([i for own in sessions for i in own]), minlength=num_items).double()


def draw_negatives(cumulative: NDArray[np.float64], count: int, generator: np.random.Generator) -> Ids:
    """Items with probability in proportion to support^alpha, with replacement, by the inverse of the cumulative."""
    ids = np.searchsorted(cumulative, generator.random(count), side="right")
    return np.minimum(ids, len(cumulative) - 1).astype(np.int64)


def draw_mask(shape: tuple[int, int], drop: float, generator: np.random.Generator, dtype: torch.dtype) -> Tensor:
    """0 with probability ``drop``, else 1 / (1 - drop)."""
    return torch.from_numpy(generator.random(shape) >= drop).to(dtype) / (1 - drop)


def draw(step: Step, settings: Settings, cumulative: NDArray[np.float64], generator: np.random.Generator) -> Draws:
    """Everything random of one step."""
    live = len(step.slots)

    def mask(width: int, drop: float) -> Tensor:
        return draw_mask((live, width), drop, generator, settings.dtype)

    embed = mask(settings.input_dim, settings.dropout_embed) if settings.dropout_embed > 0 else None
    hidden = tuple(mask(width, settings.dropout_hidden) for width in settings.layers)
    negatives = draw_negatives(cumulative, settings.num_samples, generator)
    return Draws(negatives, embed, hidden if settings.dropout_hidden > 0 else None)


def windows(steps: Iterable[Step], size: int) -> Iterator[list[Step]]:
    """Consecutive steps in groups of ``size``; the last may be shorter."""
    group: list[Step] = []
    for step in steps:
        group.append(step)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def train(
    sessions: Sequence[Sequence[int]],
    settings: Settings,
    seed: int,
    parameters: Parameters | None = None,
    watch: Callable[[int, float], None] | None = None,
) -> Parameters:
    """Parameters after all epochs; ``sessions`` in the order in which slots are to take them, the same every epoch.

    ``watch`` is called after each epoch with its number and the mean loss of its updates.
    """
    generator = np.random.default_rng(seed)
    values = parameters or initial_parameters(settings, torch.Generator().manual_seed(seed))
    support = supports(sessions, settings.num_items)
    cumulative = np.cumsum(support.numpy() ** settings.alpha)
    cumulative /= cumulative[-1]
    end = settings.end or ("official" if settings.num_samples else "official_train_without_samples")
    state = initial_state(values)
    for epoch in range(settings.epochs):
        hidden, losses = zero_hidden(settings), []
        for group in windows(schedule(sessions, settings.batch_size, end), settings.window):
            draws = [draw(step, settings, cumulative, generator) for step in group]
            done = update(values, state, hidden, group, draws, settings, support)
            values, state, hidden = done.parameters, done.state, done.hidden
            losses.append(done.loss)
            if not math.isfinite(done.loss):
                raise FloatingPointError(f"loss {done.loss} in epoch {epoch + 1} at update {state.step}")
        if watch:
            watch(epoch + 1, sum(losses) / max(len(losses), 1))
    return values


# ---- evaluation -----------------------------------------------------------------------------------------------------


def rank_of(scores: Tensor, target: int, ties: Ties = "conservative") -> float:
    """Place of the target among all scores [N]: before, behind or in the middle of those that score the same."""
    assert bool(torch.isfinite(scores).all())
    greater, equal = int((scores > scores[target]).sum()), int((scores == scores[target]).sum())
    return {"standard": greater + 1, "conservative": greater + equal, "median": greater + 1 + (equal - 1) / 2}[ties]


def session_states(parameters: Mapping[str, Tensor], session: Sequence[int], settings: Settings) -> Tensor:
    """[L, h] state of the last layer after each event of one session, from a state of zeros, nothing dropped."""
    hidden = [torch.zeros(1, width, dtype=settings.dtype) for width in settings.layers]
    states = []
    for item in session:
        hidden = forward(parameters, hidden, torch.tensor([item]), settings)
        states.append(hidden[-1][0])
    return torch.stack(states)


@torch.no_grad()
def session_ranks(
    parameters: Mapping[str, Tensor],
    sessions: Iterable[Sequence[int]],
    settings: Settings,
    ties: Ties = "conservative",
) -> NDArray[np.float64]:
    """Rank among all items of every event but the first of its session, session after session."""
    ranks = []
    for session in sessions:
        if len(session) < 2:
            continue
        states = session_states(parameters, session[:-1], settings)
        for state, target in zip(states, session[1:], strict=True):
            scores = parameters["output"] @ state + parameters["output_bias"]
            ranks.append(rank_of(scores, target, ties))
    return np.array(ranks, dtype=np.float64)


def recall(ranks: NDArray[np.float64], cutoff: int) -> float:
    """Share of events that rank at ``cutoff`` or better."""
    return float((ranks <= cutoff).mean())


def mrr(ranks: NDArray[np.float64], cutoff: int) -> float:
    """Mean of 1 / rank, of 0 beyond the cutoff."""
    return float(np.where(ranks <= cutoff, 1.0 / ranks, 0.0).mean())


def evaluate(
    parameters: Mapping[str, Tensor],
    sessions: Iterable[Sequence[int]],
    settings: Settings,
    cutoffs: Sequence[int] = (1, 5, 10, 20),
    ties: Ties = "conservative",
) -> dict[str, float]:
    """Recall@k and MRR@k over events."""
    ranks = session_ranks(parameters, sessions, settings, ties)
    return {f"{name}@{k}": of(ranks, k) for name, of in (("recall", recall), ("mrr", mrr)) for k in cutoffs}
