# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands of the history, one module each."""

from __future__ import annotations

from fedmsg.datanommer.commands.checking import CheckCommand, check
from fedmsg.datanommer.commands.counting import StatsCommand, stats
from fedmsg.datanommer.commands.creating import CreateCommand, create
from fedmsg.datanommer.commands.dumping import DumpCommand, dump
from fedmsg.datanommer.commands.extracting import ExtractCommand, extract
from fedmsg.datanommer.commands.forgetting import ForgetCommand, forget
from fedmsg.datanommer.commands.loading import LoadCommand, load
from fedmsg.datanommer.commands.newest import LatestCommand, latest
from fedmsg.datanommer.commands.pruning import PruneCommand, prune

__all__ = [
    "CheckCommand",
    "CreateCommand",
    "DumpCommand",
    "ExtractCommand",
    "ForgetCommand",
    "LatestCommand",
    "LoadCommand",
    "PruneCommand",
    "StatsCommand",
    "check",
    "create",
    "dump",
    "extract",
    "forget",
    "latest",
    "load",
    "prune",
    "stats",
]
