"""Widths of layers and pairs of weights as they are written: a list, or numbers joined by dashes (DLRM's script)."""

from __future__ import annotations

from collections.abc import Sequence


def layer_widths(option: str, written: str | Sequence[int], wrong: list[str]) -> list[int]:
    """Whole numbers from 1, at least one.

    Args:
        option: Its name, for messages.
        written: ``"512-256"`` or ``[512, 256]``.
        wrong: Takes a text for what cannot be read.

    Returns:
        The widths; none where they cannot be read.
    """
    pieces = written.split("-") if isinstance(written, str) else [str(width) for width in written]
    if pieces and all(piece.strip().isdecimal() and int(piece) > 0 for piece in pieces):
        return [int(piece) for piece in pieces]
    wrong.append(f"{option}={_said(written)}: write whole numbers from 1, [512,256] or joined by dashes, 512-256.")
    return []


def bottom_widths(option: str, written: str | Sequence[int], num_dense: int, dim: int, wrong: list[str]) -> list[int]:
    """Widths from the dense numbers to a vector that can meet those of the fields, that of the input first.

    A text begins with the width of the data, as in DLRM's script; a list has the layers alone.

    Args:
        option: Its name, for messages.
        written: What was configured.
        num_dense: Dense numbers of the data.
        dim: Width of the fields' vectors.
        wrong: Takes a text for each mistake.
    """
    widths = layer_widths(option, written, wrong)
    if not widths:
        return []
    if isinstance(written, str):
        if widths[0] != num_dense:
            wrong.append(
                f"{option}={written}: begins with {widths[0]}, but the data has {num_dense} dense numbers. "
                f"Write {'-'.join(map(str, [num_dense, *widths[1:]]))}, or the layers alone: {_said(widths[1:])}."
                if num_dense
                else f"{option}={written}: begins with {widths[0]}, but the data has no dense numbers. "
                f"Write the layers alone, {_said(widths[1:])}; they are left out then."
            )
        if len(widths) == 1:
            wrong.append(f"{option}={written}: has an input and no layer. Write {written}-{dim}.")
            return []
    elif widths[0] == num_dense:
        wrong.append(
            f"{option}={_said(written)}: a list has the layers alone, and the first of them would be as wide as the "
            f"data ({num_dense}). Leave the {num_dense} out, or write {'-'.join(map(str, [num_dense, *widths]))} "
            "where a layer of that width is meant."
        )
    else:
        widths = [num_dense, *widths]
    if widths[-1] != dim:
        wrong.append(
            f"{option}={_said(written)}: ends with {widths[-1]}, but the vectors of the fields, with which it is "
            f"combined, are arch_sparse_feature_size={dim} wide. Make the two equal."
        )
    return widths


def top_widths(option: str, written: str | Sequence[int], width: int, wrong: list[str]) -> list[int]:
    """Widths from the interaction to the log-odds, that of the input first.

    Args:
        option: Its name, for messages.
        written: What was configured: the layers alone, the last of them 1.
        width: Of the interaction.
        wrong: Takes a text for each mistake.
    """
    widths = layer_widths(option, written, wrong)
    if widths and widths[-1] != 1:
        wrong.append(
            f"{option}={_said(written)}: ends with {widths[-1]}, but the log-odds of a click are 1 number. "
            f"Write the layers alone, such as {'-'.join(map(str, [*widths, 1]))}: their input ({width} wide) is known."
        )
    return [width, *widths]


def class_weights(option: str, written: str | Sequence[float], wrong: list[str]) -> tuple[float, float]:
    """Factors of the losses without and with a click.

    Args:
        option: Its name, for messages.
        written: ``"0.5-2"`` or ``[0.5, 2]``.
        wrong: Takes a text for what cannot be read.
    """
    pieces = written.split("-") if isinstance(written, str) else [str(weight) for weight in written]
    try:
        without_click, with_click = (float(piece) for piece in pieces)
    except ValueError:
        wrong.append(
            f"{option}={_said(written)}: two numbers are needed, the weights of rows without and with a click. "
            "Write 0.5-2 or [0.5,2]."
        )
        return 1.0, 1.0
    return without_click, with_click


def _said(written: str | Sequence[float]) -> str:
    return written if isinstance(written, str) else f"[{','.join(map(str, written))}]"
