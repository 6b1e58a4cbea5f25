# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands of the history, one module each."""

from __future__ import annotations

from fedmsg.datanommer.commands.creating import CreateCommand, create
from fedmsg.datanommer.commands.newest import LatestCommand, latest

__all__ = ["CreateCommand", "LatestCommand", "create", "latest"]
