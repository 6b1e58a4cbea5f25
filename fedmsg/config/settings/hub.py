# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of logging, of a broker, of the hub and of daemons."""

from __future__ import annotations

from typing import Any

from fedmsg.config.settings.kinds import (
    ADDRESS,
    BOOLEAN,
    FILE_MODE,
    FOLDER,
    INTEGER,
    LINES,
    MAPPING,
    NUMBER,
    TEXT,
    TEXTS,
)
from fedmsg.config.settings.setting import View, setting

__all__ = ["HubSettings"]

_LOG_FORMAT = {"format": "[%(asctime)s][%(name)10s %(levelname)7s] %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}
_LOG_HANDLER = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "level": "INFO", "formatter": "bare"}
_LOGGERS = ("fedmsg", "moksha")

_LOGGING: dict[str, Any] = {
    "version": 1,
    "formatters": {"bare": _LOG_FORMAT},
    "handlers": {"console": _LOG_HANDLER},
    "loggers": {name: {"level": "INFO", "propagate": False, "handlers": ["console"]} for name in _LOGGERS},
}


class HubSettings(View):
    """How daemons run, and what consumers get."""

    # fmt: off
    logging = setting(MAPPING, _LOGGING, "What is logged and where, for logging.config.dictConfig.", "logging",
        check="fedmsg.commands._preflight:logging_problems")
    stomp_uri = setting(TEXT, None, "The hosts and ports of a STOMP broker.", "stomp")
    stomp_user = setting(TEXT, None, "The name to log in to it with.", "stomp")
    stomp_pass = setting(TEXT, None, "The password to log in to it with.", "stomp", secret=True)
    stomp_ssl_crt = setting(TEXT, None, "A file with the certificate to log in to it with.", "stomp")
    stomp_ssl_key = setting(TEXT, None, "A file with the key of that certificate.", "stomp")
    stomp_queue = setting(TEXT, None, "The queue to read from it.", "stomp", in_conf=False)
    stomp_heartbeat = setting(INTEGER, None, "How often it is asked for a sign of life.", "stomp", unit="milliseconds",
        in_conf=False)
    datagrepper_url = setting(TEXT, None, "A datagrepper that has what was missed while a consumer was down.", "hub")
    skip_last_message = setting(BOOLEAN, False, "Whether the message in work at a crash is left out at the next start.",
        "hub")
    status_directory = setting(FOLDER, None, "A folder in which each consumer notes the message it is at.", "hub",
        in_conf=False)
    zmq_publish_endpoints = setting(LINES, None,
        "Where a hub publishes what its consumers send through it; the first free address is bound.", "hub",
        in_conf=False)
    zmq_subscribe_endpoints = setting(LINES, None, "Where a hub receives from, instead of all endpoints.", "hub",
        in_conf=False)
    zmq_subscribe_method = setting(TEXT, None, "Whether it connects to those addresses or binds them.", "hub",
        in_conf=False, choices=("connect", "bind"))
    state_directory = setting(FOLDER, None,
        "A folder for messages that are left when a hub stops, handled first at its next start, and for the number "
        "of a relay's subscribers; $STATE_DIRECTORY when not set.",
        "hub", in_conf=False, needed_later=True)
    consumer_queue_limit = setting(INTEGER, 10000, "How many messages may wait for one consumer.", "hub",
        unit="messages", in_conf=False, low=1)
    consumer_queue_policy = setting(TEXT, "block",
        "What happens when so many wait: block stops receiving, drop leaves out the oldest and counts them.", "hub",
        in_conf=False, choices=("block", "drop"))
    consume_retries = setting(INTEGER, 0, "How often a message whose handling failed is tried again.", "hub",
        unit="tries", in_conf=False)
    consume_retry_delay = setting(NUMBER, 1.0, "How long to wait before that; the wait doubles each time.", "hub",
        unit="seconds", in_conf=False)
    dead_letter_directory = setting(FOLDER, None, "A folder that keeps messages whose handling failed for good.", "hub",
        in_conf=False, needed_later=True)
    workers_per_consumer = setting(INTEGER, 1, "How many threads work for each consumer.", "hub", unit="threads",
        name="moksha.workers_per_consumer", in_conf=False, low=1)
    blocking_mode = setting(BOOLEAN, False, "Whether a message is handled before the next is received.", "hub",
        name="moksha.blocking_mode", in_conf=False)
    monitoring_socket = setting(ADDRESS, None, "Where a daemon reports the state of its consumers and producers.",
        "hub", name="moksha.monitoring.socket", in_conf=False)
    monitoring_socket_mode = setting(FILE_MODE, None, "The file mode of an ipc:// socket for that, such as '0770'.",
        "hub", name="moksha.monitoring.socket.mode", in_conf=False)
    websocket_port = setting(INTEGER, None, "The port on which the hub serves WebSockets.", "hub",
        name="moksha.livesocket.websocket.port", in_conf=False, high=65535)
    websocket_interface = setting(TEXT, None, "The address on which it serves them; only this machine when not set.",
        "hub", name="moksha.livesocket.websocket.interface", in_conf=False)
    websocket_origins = setting(TEXTS, None,
        "Web sites whose pages may connect, such as https://wall.example.org; when not set, those of this machine, "
        "or all where the interface is open to others.",
        "hub", name="moksha.livesocket.websocket.origins", in_conf=False)
    websocket_client2server = setting(BOOLEAN, False,
        "Whether messages that WebSocket clients send go to the consumers of the hub.", "hub",
        name="moksha.livesocket.websocket.client2server", in_conf=False)
    metrics_port = setting(INTEGER, None, "The port on which a daemon serves figures for Prometheus.", "hub",
        in_conf=False, high=65535)
    metrics_interface = setting(TEXT, "127.0.0.1", "The address on which it serves them.", "hub", in_conf=False,
        needed_later=True)
    dummy_enabled = setting(BOOLEAN, False, "Whether a hub runs the consumer dummy.", "hub",
        name="fedmsg.consumers.dummy.enabled", in_conf=False)
    relay_enabled = setting(BOOLEAN, False, "Whether a hub runs the consumer relay.", "hub",
        name="fedmsg.consumers.relay.enabled", in_conf=False)
    gateway_enabled = setting(BOOLEAN, False, "Whether a hub runs the consumer gateway.", "hub",
        name="fedmsg.consumers.gateway.enabled", in_conf=False)
    ircbot_enabled = setting(BOOLEAN, False, "Whether a hub runs the consumer ircbot.", "hub",
        name="fedmsg.consumers.ircbot.enabled", in_conf=False)
    daemon = setting(BOOLEAN, False, "Whether a long-running command goes to the background.", "daemon", in_conf=False)
    pidfile = setting(TEXT, None, "A file with the number of the process that went to the background.", "daemon",
        in_conf=False)
