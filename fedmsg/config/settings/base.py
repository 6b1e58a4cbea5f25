# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of every program."""

from __future__ import annotations

from fedmsg.config.settings.kinds import BOOLEAN, INTEGER, NUMBER, PATTERN, SECONDS, TEXT
from fedmsg.config.settings.setting import View, setting

__all__ = ["BaseSettings", "derive_topic_prefix_re"]


def derive_topic_prefix_re(prefix: str) -> str:
    r"""Make the regular expression for the prefix and the environment of a topic.

    Args:
        prefix: The topic prefix.

    Returns:
        The prefix with its dots escaped, a dot, and one word of letters.
    """
    # Only the dots, as 1.x does: programs compare the text.
    return prefix.replace(".", r"\.") + r"\.[^\W\d_]+"


class BaseSettings(View):
    """The prefix of topics, times, threads."""

    # fmt: off
    topic_prefix = setting(TEXT, "org.fedoraproject", "What every topic of this bus begins with.", "base",
        flag="--topic-prefix", own_conf_default="com.example", required=True)
    topic_prefix_re = setting(PATTERN, None, "A regular expression for the prefix and the environment of a topic.",
        "base", in_conf=False, derived=lambda config: derive_topic_prefix_re(BaseSettings(config).topic_prefix))
    environment = setting(TEXT, "dev", "The second part of every topic: dev, stg or prod.", "base", required=True)
    io_threads = setting(INTEGER, 1, "How many threads ZeroMQ has for its input and output.", "base",
        flag="--io-threads", low=1, high=256)
    post_init_sleep = setting(NUMBER, 0.5, "How long a bound publisher waits for its first subscriber, at most.",
        "base", unit="seconds", flag="--post-init-sleep")
    timeout = setting(SECONDS, 2, "How long to wait for the relay or for another server to answer, at most.", "base",
        unit="seconds", flag="--timeout")
    stop_timeout = setting(SECONDS, 5, "How long a daemon takes to finish its work when it is stopped, at most.",
        "base", unit="seconds", in_conf=False)
    print_config = setting(BOOLEAN, False, "Print the configuration as JSON and do nothing else.", "base",
        flag="--print-config")
