# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bot that tells IRC channels what happens on the bus."""

from __future__ import annotations

config = {
    # A dict for each channel, such as
    #
    # {
    #   "network": "irc.libera.chat", "port": 6697, "ssl": True, "timeout": 120,
    #   "nickname": "fedmsg-bot", "channel": "my-channel",
    #   "make_pretty": True,   # in colours
    #   "make_terse": True,    # in English; False prints the message itself
    #   "make_short": True,    # with shortened links
    #   "line_rate": 1.0,      # seconds between two lines
    #   "filters": {"topic": ["_heartbeat"], "body": []},   # what matches is left out
    # }
    #     "irc": [],
    #
    # The colour of a title by its first word, for example {"git": "red"}, and that of any other.
    #     "irc_color_lookup": {},
    #     "irc_default_color": "light grey",
    #
    # "notice", which other bots do not answer, or "msg".
    #     "irc_method": "notice",
}
