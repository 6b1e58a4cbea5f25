# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of settings: the one place that knows their names, defaults and meanings.

The defaults, the validation, the flags of the commands, the reference in the
documentation and the words of ``fedmsg-config`` are all made from it. Rows that ``conf``
has stand in the order in which it lists them.
"""

from __future__ import annotations

from typing import Any

from fedmsg.config.settings.kinds import (
    ADDRESS,
    ANYTHING,
    BOOLEAN,
    ENDPOINTS,
    INTEGER,
    LINES,
    MAPPING,
    NUMBER,
    PATTERN,
    POLICY,
    RECORDS,
    SECONDS,
    TEXT,
    TEXTS,
)
from fedmsg.config.settings.setting import Setting

__all__ = ["TABLE"]

_BIGGEST = 2**63 - 1

_LOG_FORMAT = {"format": "[%(asctime)s][%(name)10s %(levelname)7s] %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}
_LOG_HANDLER = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "level": "INFO", "formatter": "bare"}
_LOGGERS = ("fedmsg", "moksha")

_LOGGING: dict[str, Any] = {
    "version": 1,
    "formatters": {"bare": _LOG_FORMAT},
    "handlers": {"console": _LOG_HANDLER},
    "loggers": {name: {"level": "INFO", "propagate": False, "handlers": ["console"]} for name in _LOGGERS},
}

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

_ROWS = [
    # ---------------------------------------------------------------- every program
    Setting("topic_prefix", TEXT, "org.fedoraproject", "What every topic of this bus begins with.", "base",
            flag="--topic-prefix", own_conf_default="com.example", required=True),
    Setting("topic_prefix_re", PATTERN, None, "A regular expression for the prefix and the environment of a topic.",
            "base", in_conf=False, derived=True),
    Setting("environment", TEXT, "dev", "The second part of every topic: dev, stg or prod.", "base", required=True),
    Setting("io_threads", INTEGER, 1, "How many threads ZeroMQ has for its input and output.", "base",
            # Each takes three descriptors, and libzmq ends the process when there are no more.
            flag="--io-threads", low=1, high=256),
    Setting("post_init_sleep", NUMBER, 0.5, "How long a bound publisher waits for its first subscriber, at most.",
            "base", "seconds", "--post-init-sleep"),
    Setting("timeout", SECONDS, 2, "How long to wait for the relay or for another server to answer, at most.",
            "base", "seconds", "--timeout"),
    Setting("stop_timeout", SECONDS, 5, "How long a daemon takes to finish its work when it is stopped, at most.",
            "base", "seconds", in_conf=False),
    Setting("print_config", BOOLEAN, False, "Print the configuration as JSON and do nothing else.", "base",
            flag="--print-config"),
    # ---------------------------------------------------------------- sockets
    Setting("high_water_mark", INTEGER, 0,
            "How many messages a socket may hold; 0: no limit for who publishes through a relay.", "sockets",
            "messages", "--high-water-mark"),
    Setting("receive_high_water_mark", INTEGER, 100000,
            "How many messages a subscriber may hold, unless high_water_mark is above 0.", "sockets", "messages",
            in_conf=False),
    Setting("publish_high_water_mark", INTEGER, 200000,
            "How many messages a bound publisher holds for one subscriber, unless high_water_mark is above 0.",
            "sockets", "messages", in_conf=False),
    Setting("max_message_size", INTEGER, 16 * 1024 * 1024, "The biggest message that is sent or taken.", "sockets",
            "bytes", in_conf=False, low=1, high=_BIGGEST),
    Setting("zmq_linger", INTEGER, 1000, "How long a closing socket goes on sending what it holds, at most.",
            "sockets", "milliseconds", "--linger"),
    Setting("zmq_enabled", BOOLEAN, True, "Whether messages go over ZeroMQ; False is for a message broker.",
            "sockets"),
    Setting("zmq_strict", BOOLEAN, False, "Whether a consumer's topic has to match as a whole, not as a prefix.",
            "sockets"),
    Setting("zmq_tcp_keepalive", INTEGER, 1, "Whether TCP probes idle connections: 1 for yes, 0 for no.", "sockets",
            high=1),
    Setting("zmq_tcp_keepalive_cnt", INTEGER, 3, "How many probes without an answer end a connection.", "sockets",
            "probes"),
    Setting("zmq_tcp_keepalive_idle", INTEGER, 60, "How long a connection is idle before the first probe.", "sockets",
            "seconds"),
    Setting("zmq_tcp_keepalive_intvl", INTEGER, 5, "How long to wait between two probes.", "sockets", "seconds"),
    Setting("zmq_reconnect_ivl", INTEGER, 100, "How long to wait before a lost connection is tried again.", "sockets",
            "milliseconds"),
    Setting("zmq_reconnect_ivl_max", INTEGER, 0,
            "How far that wait grows while the other side stays away; 0 is not at all, so that a listener finds "
            "short-lived publishers.", "sockets", "milliseconds", own_conf_default=1000),
    Setting("zmq_heartbeat_ivl", INTEGER, 5000,
            "How often a connection is asked for a sign of life, so that a silent cut is noticed; 0 is never.",
            "sockets", "milliseconds", in_conf=False),
    # ---------------------------------------------------------------- addresses
    Setting("endpoints", ENDPOINTS, {"relay_outbound": ["tcp://127.0.0.1:4001"]},
            "Where messages come from: names of publishers, with the addresses that each may bind.", "endpoints",
            required=True),
    Setting("srv_endpoints", TEXTS, [],
            "Domains whose endpoints are looked up in the DNS, as SRV records of _fedmsg._tcp.", "endpoints",
            in_conf=False),
    Setting("relay_inbound", LINES, "tcp://127.0.0.1:2003", "Where the relay takes messages, to pass them on.",
            "relay", own_conf_default="tcp://127.0.0.1:2001"),
    Setting("fedmsg.consumers.relay.high_water_mark", INTEGER, 200000,
            "How many messages the relay holds for one subscriber that doesn't keep up.", "relay", "messages",
            in_conf=False),
    Setting("fedmsg.consumers.gateway.port", INTEGER, 9940, "The port on which the gateway repeats the whole bus.",
            "gateway", high=65535),
    Setting("fedmsg.consumers.gateway.high_water_mark", INTEGER, 200000,
            "How many messages the gateway holds for one subscriber that doesn't keep up.", "gateway", "messages",
            own_conf_default=1000),
    # ---------------------------------------------------------------- signing and checking
    Setting("sign_messages", BOOLEAN, False, "Whether messages are signed when they are sent.", "ssl"),
    Setting("validate_signatures", BOOLEAN, False, "Whether messages are checked when they arrive.", "ssl",
            own_conf_default=True),
    Setting("crypto_backend", TEXT, "x509", "How messages are signed.", "ssl"),
    Setting("crypto_validate_backends", TEXTS, ["x509"], "Which ways of signing are accepted.", "ssl"),
    Setting("ssldir", TEXT, "/etc/pki/fedmsg", "The folder with the keys and certificates of this machine.", "ssl"),
    Setting("crl_location", TEXT, None, "A file or https address with the lists of revoked certificates.", "ssl"),
    Setting("crl_cache", TEXT, None, "A file that keeps the last good copy of crl_location.", "ssl"),
    Setting("crl_cache_expiry", INTEGER, 3600, "How long such a copy is used before it is fetched again.", "ssl",
            "seconds"),
    Setting("ca_cert_location", TEXT, "/etc/pki/fedmsg/ca.crt",
            "A file or https address with the certificates of the authorities to trust.", "ssl"),
    Setting("ca_cert_cache", TEXT, None, "A file that keeps the last good copy of ca_cert_location.", "ssl"),
    Setting("ca_cert_cache_expiry", INTEGER, 0, "How long such a copy is used before it is fetched again; 0 is 60.",
            "ssl", "seconds"),
    Setting("certnames", MAPPING, {}, "Which certificate each service of this machine signs with.", "ssl"),
    Setting("routing_policy", POLICY, {}, "Which certificates may sign each topic.", "ssl"),
    Setting("routing_nitpicky", BOOLEAN, False, "Whether a topic that is not in routing_policy is refused.", "ssl"),
    Setting("allow_sha1_certificates", BOOLEAN, False,
            "Whether certificates and CRLs that an authority signed with SHA-1 are accepted.", "ssl", in_conf=False),
    Setting("max_message_age", INTEGER, 0,
            "How far the time of a signed message may be from now; 0 sets no limit.", "ssl", "seconds", in_conf=False),
    Setting("max_seen_ids", INTEGER, 0,
            "How many checked messages a receiver remembers, to refuse one that comes again.", "ssl", "messages",
            in_conf=False),
    Setting("gpg_home", TEXT, None, "The home of GnuPG with the keyring for the backends gpg and gpg-envelope.",
            "ssl", in_conf=False),
    Setting("gpg_signing_key", TEXT, None, "The fingerprint of the GnuPG key to sign with.", "ssl", in_conf=False),
    Setting("gpg_keys", MAPPING, {}, "The same for each host: short host names and fingerprints.", "ssl",
            in_conf=False),
    # ---------------------------------------------------------------- CURVE
    Setting("curve_key", TEXT, None, "The file with this program's own CURVE key pair, NAME.key_secret.", "curve",
            in_conf=False),
    Setting("curve_servers", MAPPING, {},
            "The files with the CURVE public keys of servers, by their names in endpoints or relay_inbound.", "curve",
            in_conf=False),
    Setting("curve_publishers", TEXT, None,
            "The folder with the CURVE public keys of those who may publish through the relay.", "curve",
            in_conf=False),
    Setting("curve_subscribers", TEXT, None,
            "The folder with the CURVE public keys of those who may subscribe to the relay.", "curve", in_conf=False),
    # ---------------------------------------------------------------- messages in words
    Setting("meta_processors", TEXTS, ["/etc/fedmsg.meta.d"],
            "Folders and YAML files that declare what messages say in words.", "meta", in_conf=False),
    # ---------------------------------------------------------------- the IRC bot
    Setting("irc", RECORDS, [], "The channels that the IRC bot speaks in, a dict for each.", "irc",
            own_conf_default=[_SAMPLE_BOT], secret=True),
    Setting("irc_color_lookup", MAPPING, {}, "The colour of a title, by its first word.", "irc",
            own_conf_default=_SAMPLE_COLOURS),
    Setting("irc_default_color", TEXT, "light grey", "The colour of any other title.", "irc"),
    Setting("irc_method", TEXT, "notice", "How the bot speaks: notice or msg.", "irc", choices=("notice", "msg")),
    # ---------------------------------------------------------------- publishing through a relay, replay
    Setting("active", BOOLEAN, False, "Whether a publisher connects to the relay instead of binding an endpoint.",
            "relay"),
    Setting("persistent_store", ANYTHING, None,
            "Where every message that is sent is kept for replay: the URL of a database, or an object.",
            "replay"),
    Setting("replay_endpoints", MAPPING, {}, "Where lost messages can be asked for: names of publishers and addresses.",
            "replay", in_conf=False),
    Setting("replay_max", INTEGER, 10000, "How many messages one question for lost messages may ask for.", "replay",
            "messages", in_conf=False, low=1),
    Setting("replay_max_bytes", INTEGER, 16 * 1024 * 1024, "How big the answer to one such question may be.", "replay",
            "bytes", in_conf=False, low=1, high=_BIGGEST),
    # ---------------------------------------------------------------- logging
    Setting("logging", MAPPING, _LOGGING, "What is logged and where, for logging.config.dictConfig.", "logging"),
    # ---------------------------------------------------------------- the STOMP broker
    Setting("stomp_uri", TEXT, None, "The hosts and ports of a STOMP broker.", "stomp"),
    Setting("stomp_user", TEXT, None, "The name to log in to it with.", "stomp"),
    Setting("stomp_pass", TEXT, None, "The password to log in to it with.", "stomp", secret=True),
    Setting("stomp_ssl_crt", TEXT, None, "A file with the certificate to log in to it with.", "stomp"),
    Setting("stomp_ssl_key", TEXT, None, "A file with the key of that certificate.", "stomp"),
    Setting("stomp_queue", TEXT, None, "The queue to read from it.", "stomp", in_conf=False),
    Setting("stomp_heartbeat", INTEGER, None, "How often it is asked for a sign of life.", "stomp", "milliseconds",
            in_conf=False),
    # ---------------------------------------------------------------- the hub and its consumers
    Setting("datagrepper_url", TEXT, None, "A datagrepper that has what was missed while a consumer was down.", "hub"),
    Setting("skip_last_message", BOOLEAN, False,
            "Whether the message in work at a crash is left out at the next start.", "hub"),
    Setting("status_directory", TEXT, None, "A folder in which each consumer notes the message it is at.", "hub",
            in_conf=False),
    Setting("zmq_publish_endpoints", LINES, None,
            "Where a hub publishes what its consumers send through it; the first free address is bound.",
            "hub", in_conf=False),
    Setting("zmq_subscribe_endpoints", LINES, None, "Where a hub receives from, instead of all endpoints.", "hub",
            in_conf=False),
    Setting("zmq_subscribe_method", TEXT, None, "Whether it connects to those addresses or binds them.", "hub",
            in_conf=False, choices=("connect", "bind")),
    Setting("state_directory", TEXT, None,
            "A folder for messages that are left when a hub stops, handled first at its next start, and for the number "
            "of a relay's subscribers; $STATE_DIRECTORY when not set.", "hub", in_conf=False),
    Setting("consumer_queue_limit", INTEGER, 10000, "How many messages may wait for one consumer.", "hub",
            "messages", in_conf=False, low=1),
    Setting("consumer_queue_policy", TEXT, "block",
            "What happens when so many wait: block stops receiving, drop leaves out the oldest and counts them.",
            "hub", in_conf=False, choices=("block", "drop")),
    Setting("consume_retries", INTEGER, 0, "How often a message whose handling failed is tried again.", "hub",
            "tries", in_conf=False),
    Setting("consume_retry_delay", NUMBER, 1.0, "How long to wait before that; the wait doubles each time.", "hub",
            "seconds", in_conf=False),
    Setting("dead_letter_directory", TEXT, None, "A folder that keeps messages whose handling failed for good.",
            "hub", in_conf=False),
    Setting("moksha.workers_per_consumer", INTEGER, 1, "How many threads work for each consumer.", "hub", "threads",
            in_conf=False, low=1),
    Setting("moksha.blocking_mode", BOOLEAN, False, "Whether a message is handled before the next is received.",
            "hub", in_conf=False),
    Setting("moksha.monitoring.socket", ADDRESS, None, "Where a daemon tells how its consumers and producers are.",
            "hub", in_conf=False),
    Setting("moksha.monitoring.socket.mode", TEXT, None, "The file mode of an ipc:// socket for that, such as '0770'.",
            "hub", in_conf=False),
    Setting("moksha.livesocket.websocket.port", INTEGER, None, "The port on which the hub serves WebSockets.", "hub",
            in_conf=False, high=65535),
    Setting("moksha.livesocket.websocket.interface", TEXT, None,
            "The address on which it serves them; only this machine when not set.", "hub", in_conf=False),
    Setting("moksha.livesocket.websocket.origins", TEXTS, None,
            "Web sites whose pages may connect, such as https://wall.example.org; when not set, those of this machine, "
            "or all where the interface is open to others.", "hub", in_conf=False),
    Setting("moksha.livesocket.websocket.client2server", BOOLEAN, False,
            "Whether messages that WebSocket clients send go to the consumers of the hub.", "hub", in_conf=False),
    Setting("metrics_port", INTEGER, None, "The port on which a daemon serves figures for Prometheus.", "hub",
            in_conf=False, high=65535),
    Setting("metrics_interface", TEXT, "127.0.0.1", "The address on which it serves them.", "hub", in_conf=False),
    *(Setting(f"fedmsg.consumers.{name}.enabled", BOOLEAN, False, f"Whether a hub runs the consumer {name}.", "hub",
              in_conf=False) for name in ("dummy", "relay", "gateway", "ircbot")),
    # ---------------------------------------------------------------- daemons
    Setting("daemon", BOOLEAN, False, "Whether a long-running command goes to the background.", "daemon",
            in_conf=False),
    Setting("pidfile", TEXT, None, "A file with the number of the process that went to the background.", "daemon",
            in_conf=False),
]  # fmt: skip

#: The settings by name.
TABLE: dict[str, Setting] = {row.name: row for row in _ROWS}
