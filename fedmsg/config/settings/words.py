# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of messages in words, and of the IRC bot."""

from __future__ import annotations

from typing import Any

from fedmsg.config.settings.kinds import MAPPING, RECORDS, TEXT, TEXTS
from fedmsg.config.settings.setting import View, setting

__all__ = ["WordsSettings"]

# The sample bot that 1.x puts into conf; load_config has none.
_SAMPLE_BOT: dict[str, Any] = {
    "network": "irc.freenode.net", "port": 6667, "ssl": False, "nickname": "fedmsg-dev", "channel": "my-fedmsg-channel",
    "timeout": 120, "make_pretty": True, "make_terse": True, "make_short": True, "line_rate": 0.9,
    "filters": {"topic": [], "body": ["lub-dub"]},
}  # fmt: skip

_SAMPLE_COLOURS = {
    "fas": "light blue", "bodhi": "green", "git": "red", "tagger": "brown", "wiki": "purple", "logger": "orange",
    "pkgdb": "teal", "buildsys": "yellow", "planet": "light green",
}  # fmt: skip


class WordsSettings(View):
    """What people read."""

    # fmt: off
    meta_processors = setting(TEXTS, ["/etc/fedmsg.meta.d"],
        "Folders and YAML files that declare what messages say in words.", "meta", in_conf=False)
    irc = setting(RECORDS, [], "The channels that the IRC bot speaks in, a dict for each.", "irc",
        # It has passwords in it.
        secret=True, check="fedmsg.irc.preflight:problems",
        own_conf_default=[_SAMPLE_BOT])
    irc_color_lookup = setting(MAPPING, {}, "The colour of a title, by its first word.", "irc",
        own_conf_default=_SAMPLE_COLOURS)
    irc_default_color = setting(TEXT, "light grey", "The colour of any other title.", "irc")
    irc_method = setting(TEXT, "notice", "How the bot speaks: notice or msg.", "irc", choices=("notice", "msg"))
