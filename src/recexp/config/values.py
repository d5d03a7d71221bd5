"""One value against one option: converted to the option's type, or refused with what is legal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recexp.config.schema import Option
from recexp.config.suggest import closest, did_you_mean


class IllegalValue(ValueError):
    """The value is not legal; the text says what is."""


def convert(option: Option, value: Any, *, written: str | None = None) -> Any:
    """Return ``value`` in the option's type, so that 1 and 1.0 are one value where a float is asked for.

    Args:
        option: What is legal.
        value: As YAML or the command line was parsed.
        written: The characters that were typed, where known: a text keeps them (``001`` stays ``001``).

    Raises:
        IllegalValue: wrong type, outside of the range, or not among the choices.
    """
    if value is None:
        if option.nullable:
            return None
        raise IllegalValue(f"null is not allowed here; legal is {option.legal()}.")
    if isinstance(value, str) and value == "???":
        raise IllegalValue(f"no value was given; legal is {option.legal()}.")
    if option.type.startswith("list["):
        joined = option.type.endswith("|str") and not isinstance(value, (list, tuple))
        return _joined(option, value, written) if joined else _convert_list(option, value)
    if option.type == "dict":
        return _convert_dict(option, value)
    return _convert_scalar(option, option.type, value, written)


def show(value: Any) -> str:
    """A value as the command line writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(show(element) for element in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{show(element)}" for key, element in value.items()) + "}"
    return str(value)


def _convert_list(option: Option, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise IllegalValue(f"'{show(value)}' is not {option.legal()}; write [a,b].")
    if option.nonempty and not value:
        raise IllegalValue(f"at least one is needed; legal is {option.legal()}.")
    kind = option.type.removesuffix("|str")[5:-1]
    return [_convert_scalar(option, kind, element, None) for element in value]


def _joined(option: Option, value: Any, written: str | None) -> str:
    """Numbers joined by dashes, kept as they are written."""
    text = _text(option, value, written)
    kind = option.type.removesuffix("|str")[5:-1]
    for piece in text.split("-"):
        try:
            number = {"int": int, "float": float}[kind](piece)
        except ValueError:
            raise IllegalValue(f"'{text}' is not {option.legal()}.") from None
        _in_range(option, number, text)
    return text


def _convert_dict(option: Option, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise IllegalValue(f"'{show(value)}' is not {option.legal()}.")
    return {str(key): element for key, element in value.items()}


def _convert_scalar(option: Option, kind: str, value: Any, written: str | None) -> Any:
    if kind == "str":
        return _text(option, value, written)
    if kind == "bool":
        converted: Any = value if isinstance(value, bool) else None
    elif kind == "int":
        converted = value if isinstance(value, int) and not isinstance(value, bool) else None
    else:
        converted = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if converted is None:
        raise IllegalValue(f"'{show(value)}' is not {option.legal()}.{_hint(kind, value)}")
    return _in_range(option, converted, value)


def _hint(kind: str, value: Any) -> str:
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return f" Write {int(value)}."
    if kind == "bool" and value in (0, 1):
        return f" Write {show(bool(value))}."
    return ""


def _in_range(option: Option, converted: Any, value: Any) -> Any:
    if isinstance(converted, float) and not math.isfinite(converted):
        raise IllegalValue(f"'{show(value)}' is not {option.legal()}: it must be finite.")
    if option.choices is not None and converted not in option.choices:
        raise IllegalValue(f"'{show(value)}' is not {option.legal()}.")
    if (option.min is not None and converted < option.min) or (option.max is not None and converted > option.max):
        raise IllegalValue(f"{show(value)} is out of range; legal is {option.legal()}.")
    return converted


def _text(option: Option, value: Any, written: str | None) -> str:
    if isinstance(value, (list, tuple, Mapping)):
        raise IllegalValue(f"'{show(value)}' is not {option.legal()}.")
    text = value if isinstance(value, str) else _typed_text(option, value, written)
    if option.choices is not None and text not in option.choices:
        suggestion = did_you_mean(closest(text, [str(choice) for choice in option.choices]))
        raise IllegalValue(f"'{text}' is not {option.legal()}.{suggestion}")
    return text


def _typed_text(option: Option, value: Any, written: str | None) -> str:
    if isinstance(value, bool) and option.choices is not None:
        # YAML reads a bare off, no, on or yes as a truth value.
        for word in ("on", "yes", "true") if value else ("off", "no", "false"):
            if word in option.choices:
                return word
    return written if written is not None else show(value)
