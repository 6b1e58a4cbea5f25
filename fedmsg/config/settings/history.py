# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rows of the table of settings that are about the history."""

from __future__ import annotations

from fedmsg.config.settings.kinds import ANYTHING, BOOLEAN, NUMBER, PREFIXES, TEXT
from fedmsg.config.settings.setting import View, setting

__all__ = ["DatanommerSettings", "StatscacheSettings"]


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


class StatscacheSettings(View):
    """The consumer that keeps statistics up to date, and its database."""

    # fmt: off
    statscache_enabled = setting(BOOLEAN, False, "Whether a hub keeps statistics of what passes.", "statscache",
        name="statscache.consumer.enabled", in_conf=False)
    statscache_uri = setting(TEXT, None,
        "Where the numbers are stored: the URL of an SQLite or PostgreSQL database; a file in state_directory when "
        "not set.", "statscache", name="statscache.sqlalchemy.uri", in_conf=False, secret=True)
    statscache_epoch = setting(ANYTHING, None,
        "Where a first start begins in the history: a datetime, text such as 2026-05-01, or seconds since the epoch; "
        "only new messages are counted when not set.", "statscache", name="statscache.consumer.epoch", in_conf=False)
    statscache_durable = setting(ANYTHING, None,
        "Whether messages come from the stream of a relay: True, or the name of the durable subscription.",
        "statscache", name="statscache.consumer.durable", in_conf=False)
    statscache_recheck = setting(NUMBER, 60.0,
        "How long after its start a hub asks the history again for messages that it got late, and once more after ten "
        "times as long; never when 0.", "statscache", unit="seconds", name="statscache.consumer.recheck", in_conf=False,
        high=86400)
    statscache_frequency = setting(ANYTHING, 5.0,
        "How much time passes between two times that plugins bring up to date what depends on the clock.",
        "statscache", unit="seconds", name="statscache.producer.frequency", in_conf=False)
    statscache_endpoint = setting(TEXT, None,
        "The datagrepper that is asked for what was missed, where there is neither a stream nor a history of our own.",
        "statscache", name="statscache.datagrepper.endpoint", in_conf=False)
    statscache_profile = setting(BOOLEAN, False, "Whether it is logged how long each of its pages takes.",
        "statscache", name="statscache.datagrepper.profile", in_conf=False)
