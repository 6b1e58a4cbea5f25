# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks into the history again, some time after the start, for messages that it got late."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fedmsg._util.service import ServiceThread
from fedmsg.exceptions import FedmsgError

__all__ = ["LateReader"]

log = logging.getLogger("fedmsg.statscache")

#: How many times later the last look is than the first one.
LAST_FACTOR = 10.0
_RETRY_S = 10.0


class LateReader(ServiceThread):
    """Has the history counted again when it has been quiet for a while.

    A message that was published just before the hub subscribed, and stored by another program after the history was
    read, has come neither way. A minute later it is there, as a rule; where that program first had to catch up itself,
    ten minutes later. What was counted is known by its key, so that a look costs no more than reading an hour.

    Args:
        count: Counts what came late.
        delay: Seconds until the first look.
    """

    def __init__(self, count: Callable[[], object], delay: float) -> None:
        super().__init__("fedmsg-statscache-late")
        self._count = count
        self._delay = delay

    def run(self) -> None:
        """Wait and look, twice."""
        self.ready()
        for delay in (self._delay, self._delay * (LAST_FACTOR - 1)):
            self._wait(delay)
            while not self.stopping:
                try:
                    self._count()
                    break
                except FedmsgError as error:
                    log.info("what came late is not counted at present: %s", error)
                    self._wait(_RETRY_S)

    def _wait(self, seconds: float) -> None:
        if not self.stopping:
            self.waker.wait(seconds)
