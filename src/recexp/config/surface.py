"""The whole surface that scripts may rely on, one line each: choices, keys and what is legal for them."""

from __future__ import annotations

import sys

from recexp.config import catalogue, schema
from recexp.config.conditions import described
from recexp.config.reference import own


def surface() -> str:
    """Every choice and every dotted key with its legal values and its share in the identity, sorted."""
    lines = {_line("", key, option) for key, option in schema.core().items()}
    for group in schema.groups():
        for choice in catalogue.choices(group):
            lines.add(f"{group}={choice}")
            options = own(group, choice)
            lines.update(_line(f"{group}={choice} ", key, option) for key, option in options.items())
            others = schema.aliases(options)
            lines.update(f"{group}={choice} {name}: another name, {alias.said()}" for name, alias in others.items())
    return "\n".join(sorted(lines)) + "\n"


def _line(prefix: str, key: str, option: schema.Option) -> str:
    return f"{prefix}{key}: {option.legal()}{described(key, option)}{'' if option.identity else ' (free)'}"


if __name__ == "__main__":
    sys.stdout.write(surface())
