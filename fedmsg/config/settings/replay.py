# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of publishing and of replay."""

from __future__ import annotations

from fedmsg.config.settings.kinds import ANYTHING, BOOLEAN, INTEGER, MAPPING
from fedmsg.config.settings.setting import View, setting

__all__ = ["ReplaySettings"]

_BIGGEST = 2**63 - 1


class ReplaySettings(View):
    """How messages are published, kept and asked for again."""

    # fmt: off
    active = setting(BOOLEAN, False, "Whether a publisher connects to the relay instead of binding an endpoint.",
        "relay")
    persistent_store = setting(ANYTHING, None,
        "Where every message that is sent is kept for replay: the URL of a database, or an object.", "replay")
    replay_endpoints = setting(MAPPING, {}, "Where lost messages can be asked for: names of publishers and addresses.",
        "replay", in_conf=False)
    replay_max = setting(INTEGER, 10000, "How many messages one question for lost messages may ask for.", "replay",
        unit="messages", in_conf=False, low=1)
    replay_max_bytes = setting(INTEGER, 16 * 1024 * 1024, "How big the answer to one such question may be.", "replay",
        unit="bytes", in_conf=False, low=1, high=_BIGGEST)
