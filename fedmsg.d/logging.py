# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is logged, and where: the dictionary that Python's logging.config.dictConfig takes."""

from __future__ import annotations

config = {
    # This one is merged into its default, so that you only write down what differs:
    #
    # "logging": {"loggers": {"fedmsg": {"level": "DEBUG"}}},
    #
    # Commands that print messages are used in pipes: with "ext://sys.stderr" as the stream of the
    # handler the log stays out of them.
    #     "logging": {
    #         "version": 1,
    #         "formatters": {
    #             "bare": {
    #                 "datefmt": "%Y-%m-%d %H:%M:%S",
    #                 "format": "[%(asctime)s][%(name)10s %(levelname)7s] %(message)s",
    #             },
    #         },
    #         "handlers": {
    #             "console": {
    #                 "class": "logging.StreamHandler",
    #                 "formatter": "bare",
    #                 "level": "INFO",
    #                 "stream": "ext://sys.stdout",
    #             },
    #         },
    #         "loggers": {
    #             "fedmsg": {"level": "INFO", "propagate": False, "handlers": ["console"]},
    #             "moksha": {"level": "INFO", "propagate": False, "handlers": ["console"]},
    #         },
    #     },
}
