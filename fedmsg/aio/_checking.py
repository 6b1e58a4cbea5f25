# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checking signatures where it may block: GnuPG is a program, and a CA may be far away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedmsg import crypto
from fedmsg.aio._threads import in_thread
from fedmsg.config import settings

__all__ = ["Checking"]


class Checking:
    """What checks the messages of one listener.

    Args:
        config: The configuration.
        make: Makes what checks; None where nothing is checked.

    Attributes:
        may_block: Whether that may take longer than an event loop should stand still.

    Raises:
        RefusedAtStart: Checking needs something that is not there. Where finding that out
            may block, `check` raises it.
    """

    def __init__(self, config: Mapping[str, Any], make: Callable[[], crypto.Check | None]) -> None:
        locations = (str(config.get(key)) for key in ("ca_cert_location", "crl_location"))
        far_away = any(location.startswith(("http:", "https:")) for location in locations)
        checked = settings.get(config, "validate_signatures")
        self.may_block = bool(checked) and (far_away or crypto.accepts_gnupg(config))
        self._make = make
        self._check = None if self.may_block else make()
        self._made = not self.may_block

    async def check(self) -> crypto.Check | None:
        """Give what answers whether a message is valid; None lets all pass."""
        if not self._made:
            self._check = await in_thread(self._make, daemon=True)
            self._made = True
        return self._check
