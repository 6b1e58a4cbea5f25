# SPDX-License-Identifier: LGPL-2.1-or-later
"""The arguments of a request: a table of them parses requests, and makes what documents them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fedmsg._web import kinds
from fedmsg._web.kinds import Kind
from fedmsg.exceptions import UsageError

__all__ = ["Argument", "BadArgument", "read"]

_MOST_VALUES = 1000


class BadArgument(UsageError):
    """An argument of a request makes no sense.

    Attributes:
        name: Its name.
        reason: What is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Argument:
    """A row of the table.

    Attributes:
        name: Its name in a request.
        kind: How it is read.
        help: What it is for, in a line.
        default: Its value where a request has none.
        repeated: Whether it may be there several times.
        example: A value for the documentation.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    repeated: bool = False
    example: str = ""

    def read(self, texts: list[str]) -> Any:
        """Return the value of what was given; the first one counts where there may be only one.

        Raises:
            BadArgument: It makes no sense.
        """
        given = [text for text in texts if text != ""]
        if len(given) > _MOST_VALUES:
            raise BadArgument(self.name, f"it has more than {_MOST_VALUES} values")
        if not given:
            return [] if self.repeated else self.default
        try:
            values = [self.kind.read(kinds.checked(text)) for text in (given if self.repeated else given[:1])]
        except ValueError as error:
            raise BadArgument(self.name, str(error)) from error
        if not self.repeated:
            return values[0]
        flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
        return list(dict.fromkeys(flat))


def read(rows: Sequence[Argument], pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of all arguments of a table; what it does not know is ignored.

    Raises:
        BadArgument: One makes no sense.
    """
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        given.setdefault(name, []).append(text)
    return {row.name: row.read(given.get(row.name, [])) for row in rows}
