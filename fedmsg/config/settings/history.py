# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rows of the table of settings that are about the history."""

from __future__ import annotations

from fedmsg.config.settings.kinds import ANYTHING, BOOLEAN, PREFIXES, TEXT
from fedmsg.config.settings.setting import View, setting

__all__ = ["DatanommerSettings"]


class DatanommerSettings(View):
    """The consumer that stores every message, and its database."""

    # fmt: off
    datanommer_enabled = setting(BOOLEAN, False, "Whether a hub stores every message in a database.", "datanommer",
        name="datanommer.enabled", in_conf=False)
    datanommer_topic = setting(PREFIXES, None, "Which topics are stored, by their beginnings; all when not set.",
        "datanommer", name="datanommer.topic", in_conf=False)
    datanommer_url = setting(TEXT, None,
        "Where messages are stored: the URL of an SQLite or PostgreSQL database; a file in state_directory when not "
        "set.", "datanommer", name="datanommer.sqlalchemy.url", in_conf=False,
        # It may have a password in it.
        secret=True)
    datanommer_uri = setting(TEXT, None, "The same: another name of datanommer.sqlalchemy.url, which wins.",
        "datanommer", name="datanommer.sqlalchemy.uri", in_conf=False, secret=True)
    datanommer_durable = setting(ANYTHING, None,
        "Whether messages come from the stream of a relay: True, or the name of the durable subscription.",
        "datanommer", name="datanommer.durable", in_conf=False)
