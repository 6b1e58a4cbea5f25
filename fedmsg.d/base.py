# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every program on the bus has to know. Take the hash mark away to change a value.

What is shown is what holds when nothing is configured. Files in this folder are read in the
order of their names, those of /etc/fedmsg.d first; ``fedmsg-config --origin`` shows the result.
"""

from __future__ import annotations

config = {
    # What every topic begins with: your organisation, backwards.
    #     "topic_prefix": "org.fedoraproject",
    #
    # The part of a topic after it. Take "dev" while you develop, "stg" for staging, and "prod"
    # in earnest: programs that listen to one of them then don't hear the others.
    #     "environment": "dev",
    #
    # How long anything waits for the other side: a publisher for the relay, a command for a
    # server. In seconds; 0 never waits, and fails when nothing listens yet.
    #     "timeout": 2,
    #
    # A publisher that binds an endpoint of its own waits so many seconds for a
    # subscriber before it sends its first message, and then sends it anyway.
    #     "post_init_sleep": 0.5,
    #
    # How many seconds a daemon takes to bring its work to an end when it is stopped.
    #     "stop_timeout": 5,
    #
    # ZeroMQ moves about a gigabyte per second with one thread.
    #     "io_threads": 1,
    #
    # True makes every command print its configuration and stop, like the flag --print-config.
    #     "print_config": False,
    #
    # There is also topic_prefix_re: a regular expression for the first two parts of a topic, by which
    # messages are put into words. It is made from topic_prefix; several environments or prefixes
    # at once need one of your own:
    #
    # r"org\.fedoraproject\.(dev|stg|prod)"
}
