# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which consumers and producers a hub runs: found among the installed plugins, and constructed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from fedmsg._util import plugins

__all__ = ["Roster"]

log = logging.getLogger("fedmsg.hub")


class Roster:
    """Constructs what a hub runs.

    Attributes:
        running: The instances that are ready.
        failed: What could not be imported or constructed, as lines for a person.
    """

    def __init__(self) -> None:
        self.running: list[Any] = []
        self.failed: list[str] = []

    def installed(self, *groups: str) -> list[Any]:
        """Give the classes that installed distributions declare.

        Args:
            groups: The groups of entry points; an entry may be one class or a collection of them.
        """
        found: list[Any] = []
        for group in groups:
            for _, loaded in plugins.load(group, self.failed):
                found += [loaded] if isinstance(loaded, type) or not isinstance(loaded, Iterable) else list(loaded)
        # One class may be declared twice, and is still one consumer. What is no class can't always be hashed.
        return list({id(one): one for one in found}.values())

    def take_on(self, classes: Iterable[Any], make: Callable[[Any], Any]) -> None:
        """Make an instance of each class and keep those that are ready to run.

        Args:
            classes: The classes.
            make: Makes an instance of one.
        """
        for kind in classes:
            name = f"{getattr(kind, '__module__', '?')}:{getattr(kind, '__qualname__', kind)}"
            try:
                one = make(kind)
            except (Exception, SystemExit) as error:
                self.failed.append(f"{name}: {type(error).__name__}: {error}")
                log.exception("%s can't be started", name)
                continue
            # One that is disabled has not finished its constructor.
            if getattr(one, "_initialized", False):
                self.running.append(one)
