# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known of one setting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

from fedmsg.config.settings import kinds

__all__ = ["SAME", "Setting"]

#: Says that a setting has the same default in ``conf`` as in ``load_config``.
SAME: Any = object()


class Setting(NamedTuple):
    """A row of the table of settings.

    Attributes:
        name: The key in the configuration.
        kind: The kind of its value.
        default: What ``load_config`` gives it when nothing is configured.
        help: What it is for, in one line.
        section: The part of the reference, and the sample file in ``fedmsg.d``, that it stands in.
        unit: What a number counts.
        flag: The flag of the commands that sets it.
        in_conf: Whether ``fedmsg.config.conf`` has the key.
        own_conf_default: What ``conf`` gives it, where that is something else.
        low: The least that a number may be.
        high: The most that a number may be.
        choices: The values that there are, when they are few.
        required: Whether None is refused although the kind would allow it.
        secret: Whether the value must not be shown in an error message.
        derived: Whether the default is made from other settings, so that it stands in no table.
    """

    name: str
    kind: kinds.Kind
    default: Any
    help: str
    section: str
    unit: str = ""
    flag: str | None = None
    in_conf: bool = True
    own_conf_default: Any = SAME
    low: int = 0
    high: int = 2**31 - 1
    choices: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False
    derived: bool = False

    @property
    def type(self) -> str:
        """Give the kind of value in words."""
        return self.kind.name

    @property
    def validator(self) -> Callable[[Any], Any]:
        """Give the reading of ``conf``: takes a value or raises ValueError in the words of fedmsg 1.x."""
        return self.kind.strict

    @property
    def conf_default(self) -> Any:
        """Give the default that ``conf`` has."""
        return self.default if self.own_conf_default is SAME else self.own_conf_default

    @property
    def is_off_by_absence(self) -> bool:
        """Whether the setting is off, and its key absent, unless it is configured."""
        return not self.in_conf and (self.default is None or self.name.endswith(".enabled"))

    def fresh_default(self, *, for_conf: bool = False) -> Any:
        """Give a default that the caller may change without changing the table.

        Args:
            for_conf: Whether the one of ``conf`` is wanted.
        """
        value = self.conf_default if for_conf else self.default
        return copy.deepcopy(value) if isinstance(value, (dict, list)) else value

    def accept(self, value: Any) -> Any:
        """Read a configured value for ``load_config``.

        Args:
            value: What stands in the configuration.

        Returns:
            The value to work with.

        Raises:
            ValueError: The value can't work; the text is the reason.
        """
        if value is None:
            # What is off by default can be switched off again in a later file.
            if self.default is None and not self.derived:
                return None
            if self.required:
                raise ValueError("it has to have a value")
        value = self.kind.loose(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < self.low:
                raise ValueError(f"{value} is less than {self.low}")
            if value > self.high:
                raise ValueError(f"{value} is more than {self.high}")
        if self.choices and value is not None and value not in self.choices:
            raise ValueError(f"it is none of: {', '.join(self.choices)}")
        return value

    @property
    def fix(self) -> str:
        """Say what to write instead of a bad value."""
        if self.choices:
            return "write " + " or ".join(map(repr, self.choices))
        of = f" of {self.unit}" if self.unit else ""
        example = f", such as {self.default!r}" if isinstance(self.default, (int, float, str)) else ""
        if self.kind is kinds.BOOLEAN:
            example = ""
        return f"{self.kind.fix}{of}{example}"
