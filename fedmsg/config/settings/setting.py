# SPDX-License-Identifier: LGPL-2.1-or-later
"""A row of the table of settings, and the view of a configuration that it is an attribute of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar, overload

from fedmsg.config.settings import kinds

__all__ = ["SAME", "Problem", "Setting", "View", "setting"]

#: Marks that a setting has the same default in ``conf`` as in ``load_config``.
SAME: Any = object()

T = TypeVar("T")


class Problem(NamedTuple):
    """What ``fedmsg-config --check`` finds wrong with a setting.

    Attributes:
        text: What is wrong, and the cure.
        stops: Whether a program would not start; otherwise it would start, but not work.
    """

    key: str
    text: str
    stops: bool = True


class View:
    """A configuration with its settings as typed attributes; what it lacks has its default."""

    __slots__ = ("config",)

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config


class Setting(Generic[T]):
    """A row of the table of settings.

    As an attribute of a `View` it is the configured value, or the default where that is missing or None.

    Attributes:
        name: The key in the configuration.
        default: Its value in ``load_config`` when nothing is configured.
        help: What it is for, in one line.
        section: The part of the reference, and the sample file in ``fedmsg.d``, that it stands in.
        unit: What a number counts.
        flag: The flag of the commands that sets it.
        in_conf: Whether ``fedmsg.config.conf`` has the key.
        choices: The values that there are, when they are few.
        required: Whether None is rejected although the kind would allow it.
        secret: Whether the value must not be shown in an error message.
        derived: Makes the default from other settings of a configuration.
        needed_later: Whether a program starts all the same when what `Kind.faults` looks for is wrong.
        check: The function of a higher room, ``module:function``, that looks for problems before a start. It
            gets a configuration and returns an iterable of `Problem`; settings may share one.
    """

    def __init__(
        self,
        kind: kinds.Kind[Any],
        default: T,
        help: str,  # noqa: A002 the name that click and argparse have for it
        section: str,
        *,
        name: str = "",
        unit: str = "",
        flag: str | None = None,
        in_conf: bool = True,
        own_conf_default: Any = SAME,
        low: int = 0,
        high: int = 2**31 - 1,
        choices: tuple[str, ...] = (),
        required: bool = False,
        secret: bool = False,
        derived: Callable[[Mapping[str, Any]], T] | None = None,
        needed_later: bool = False,
        check: str = "",
    ) -> None:
        self.name, self.kind, self.default, self.help, self.section = name, kind, default, help, section
        self.unit, self.flag, self.in_conf = unit, flag, in_conf
        self.conf_default: Any = default if own_conf_default is SAME else own_conf_default
        self.low, self.high, self.choices = low, high, choices
        self.required, self.secret, self.derived = required, secret, derived
        self.needed_later, self.check = needed_later, check

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.name = self.name or attribute

    @overload
    def __get__(self, view: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, view: View, owner: type) -> T: ...
    def __get__(self, view: View | None, owner: type) -> Setting[T] | T:
        if view is None:
            return self
        value: T | None = view.config.get(self.name)
        if value is not None:
            return value
        default: T = self.derived(view.config) if self.derived else self.fresh_default()
        return default

    @property
    def type(self) -> str:
        """The kind of value in words."""
        return self.kind.name

    @property
    def is_off_by_absence(self) -> bool:
        """Whether the setting is off, and its key absent, unless it is configured."""
        if self.default is None:
            return self.name != "persistent_store"
        return not self.in_conf and self.name.endswith(".enabled")

    def fresh_default(self, *, for_conf: bool = False) -> Any:
        """Return a default that the caller may change without changing the table."""
        value = self.conf_default if for_conf else self.default
        return copy.deepcopy(value) if isinstance(value, (dict, list)) else value

    def accept(self, value: Any) -> Any:
        """Return what ``load_config`` makes of a configured value.

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
        """What to write instead of a bad value."""
        if self.choices:
            return "write " + " or ".join(map(repr, self.choices))
        of = f" of {self.unit}" if self.unit else ""
        example = f", such as {self.default!r}" if isinstance(self.default, (int, float, str)) else ""
        if self.kind is kinds.BOOLEAN:
            example = ""
        return f"{self.kind.fix}{of}{example}"


@overload
def setting(
    kind: kinds.Kind[T],
    default: None,
    help: str,
    section: str,
    **more: Any,
) -> Setting[T | None]: ...
@overload
def setting(kind: kinds.Kind[T], default: T, help: str, section: str, **more: Any) -> Setting[T]: ...
def setting(kind: kinds.Kind[T], default: Any, help: str, section: str, **more: Any) -> Setting[Any]:  # noqa: A002
    """Make a row: its value is of the kind, and may be None only where the default is."""
    return Setting(kind, default, help, section, **more)
