# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bot that reports in IRC channels what happens on the bus."""

from __future__ import annotations

config = {
    # A dict for each channel, such as
    #
    # {
    #   "network": "irc.libera.chat", "ssl": True, "nickname": "fedmsg-bot", "channel": "my-channel",
    #   "make_pretty": True,   # in colours
    #   "make_terse": True,    # in English; False prints the message itself
    #   "make_short": True,    # with shortened links
    #   "line_rate": 1.0,      # seconds between two lines
    #   "filters": {"topic": ["_heartbeat"], "body": []},   # what matches is dropped
    #   "sasl_username": "fedmsg-bot", "sasl_password_file": "/etc/fedmsg-irc.password",
    # }
    #
    # More keys: port (6697 with ssl, else 6667), ssl_ca (a file with the certificates of the
    # authorities to trust), timeout (120 seconds), backlog (how many messages may wait, 1000),
    # channel_key, nickserv_password, server_password, sasl_password. Those that are secret can
    # be read from a file: nickserv_password_file.
    #     "irc": [],
    #
    # The colour of a title by its first word, for example {"git": "red"}, and that of any other.
    #     "irc_color_lookup": {},
    #     "irc_default_color": "light grey",
    #
    # "notice", which other bots do not answer, or "msg".
    #     "irc_method": "notice",
}
