"""Metrics of click probabilities over all rows of a split, whatever the process that saw them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from recexp.metrics.auc import Curve, bin_of, histogram_areas
from recexp.metrics.probabilities import ProbabilitySums

_log = logging.getLogger(__name__)

#: Rows that wait on the device before they are fetched: the device is waited for once in so many.
WAITING_ROWS = 1 << 20
AUC_FORMS = ("exact", "histogram")
Scores = NDArray[np.float32]


class ClickMetrics(nn.Module):
    """ROC-AUC, log loss, accuracy, average precision and calibration, in double precision on the host.

    ``exact`` keeps every score (float32, 4 bytes a row; under several processes each holds all of them while it
    computes); the result depends neither on the order of the rows, nor on the batches or the number of processes.
    ``histogram`` keeps counts, in constant memory, and says by how much the area may be off.
    """

    device_of: Tensor

    def __init__(self, auc: str = "exact", bins: int = 65536) -> None:
        """Start empty.

        Args:
            auc: ``exact`` or ``histogram``.
            bins: Of the histogram over the log-odds, at least 2.
        """
        super().__init__()
        if auc not in AUC_FORMS:
            raise ValueError(f"auc={auc!r} is not known: choose one of {', '.join(AUC_FORMS)}")
        if bins < 2:
            raise ValueError(f"bins={bins!r}: at least 2")
        self.auc, self.bins = auc, bins
        # Lightning moves it: the device through which processes exchange what they saw.
        self.register_buffer("device_of", torch.zeros(0), persistent=False)
        self.reset()

    def metric_names(self) -> list[str]:
        """The keys of :meth:`compute`, in its order."""
        names = ["auc", "logloss", "accuracy", "ap", "calibration", "ece"]
        return [*names, "auc_error_bound"] if self.auc == "histogram" else names

    def reset(self) -> None:
        """Forget the rows seen."""
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waiting_rows = 0
        self._seen: tuple[list[Scores], list[Scores]] = ([], [])
        self._sums = ProbabilitySums()
        self._counts = np.zeros((2, self.bins if self.auc == "histogram" else 0), np.int64)
        self._undefined = 0

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add rows; does not wait for the device, but once in a million rows.

        Args:
            logits: Log-odds of a click, float [B].
            label: 0 or 1, [B].
        """
        # A tensor that shares its memory may be overwritten by the next batch.
        self._waiting.append((logits.detach().to(torch.float32, copy=True), (label > 0.5).detach()))
        self._waiting_rows += len(logits)
        if self._waiting_rows >= WAITING_ROWS:
            self._fetch()

    def _fetch(self) -> None:
        if not self._waiting:
            return
        logits, clicked = (torch.cat(part).reshape(-1).cpu().numpy() for part in zip(*self._waiting, strict=True))
        self._waiting, self._waiting_rows = [], 0
        defined = ~np.isnan(logits)
        self._undefined += int(len(logits) - np.count_nonzero(defined))
        for own, mask in enumerate((~clicked & defined, clicked & defined)):
            scores = logits[mask]
            if self.auc == "exact":
                self._seen[own].append(scores)
            else:
                self._sums.add(scores, clicked=bool(own))
                self._counts[own] += np.bincount(bin_of(scores, self.bins), minlength=self.bins)

    def compute(self) -> dict[str, float]:
        """All metrics over all processes; NaN, and a warning, where a score is NaN or a class is absent."""
        self._fetch()
        undefined = int(self._summed(np.array([self._undefined]))[0])
        values = self._exact() if self.auc == "exact" else self._from_histogram()
        if undefined:
            _log.warning("%d scores are not a number: no metric can be computed from them", undefined)
            values = dict.fromkeys(values, math.nan)
        elif math.isnan(values["auc"]):
            _log.warning("auc is undefined: it compares rows with a click to rows without, and one kind is missing")
        return {name: values[name] for name in self.metric_names()}

    def _exact(self) -> dict[str, float]:
        # Sorted, sums do not depend on the order in which the rows came.
        negative, positive = (np.sort(self._gathered(_joined(scores))) for scores in self._seen)
        sums = ProbabilitySums()
        sums.add(negative, clicked=False)
        sums.add(positive, clicked=True)
        curve = Curve.of(positive, negative)
        return {"auc": curve.roc_auc(), "ap": curve.average_precision(), **sums.metrics()}

    def _from_histogram(self) -> dict[str, float]:
        negative, positive = self._summed(self._counts)
        # Not every process group can add doubles.
        pieces = self._of_all(lambda device: torch.from_numpy(self._sums.packed()).view(torch.int64).to(device))
        sums = ProbabilitySums.of(np.sum([piece.view(np.float64) for piece in pieces], axis=0))
        areas = histogram_areas(positive, negative)
        values = {"auc": areas.auc, "ap": areas.average_precision, "auc_error_bound": areas.error_bound}
        return {**values, **sums.metrics()}

    def _summed(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum over all processes."""
        if not _shared():
            return counts
        total = torch.from_numpy(counts).to(self.device_of.device, copy=True)
        distributed.all_reduce(total)
        return total.cpu().numpy()

    def _gathered(self, scores: Scores) -> Scores:
        """The rows of all processes."""
        if not _shared():
            return scores
        lengths = [int(piece[0]) for piece in self._of_all(lambda device: torch.tensor([len(scores)], device=device))]
        padded = np.zeros(max(lengths), np.float32)
        padded[: len(scores)] = scores
        pieces = self._of_all(lambda device: torch.from_numpy(padded).to(device))
        return np.concatenate([piece[:length] for piece, length in zip(pieces, lengths, strict=True)])

    def _of_all(self, own: Callable[[torch.device], Tensor]) -> list[NDArray[np.generic]]:
        """A tensor of each process, all of one shape, by rank."""
        tensor = own(self.device_of.device)
        if not _shared():
            return [tensor.cpu().numpy()]
        pieces = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(pieces, tensor)
        return [piece.cpu().numpy() for piece in pieces]


def _shared() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _joined(pieces: list[Scores]) -> Scores:
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
