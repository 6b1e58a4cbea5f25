# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rows of the table of settings, a class for each subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmsg.config.settings.history import DatanommerSettings, StatscacheSettings
from fedmsg.config.settings.kinds import (
    ADDRESS,
    ANYTHING,
    BOOLEAN,
    ENDPOINTS,
    FILE,
    FILE_MODE,
    FOLDER,
    INTEGER,
    LINES,
    MAPPING,
    NUMBER,
    OUTPUT_FILE,
    PATTERN,
    POLICY,
    PREFIXES,
    RECORDS,
    SECONDS,
    TEXT,
    TEXTS,
)
from fedmsg.config.settings.setting import View, setting
from fedmsg.config.settings.statistics import StatscacheAppSettings

__all__ = ["Settings", "derive_topic_prefix_re"]

_BIGGEST = 2**63 - 1


def derive_topic_prefix_re(config: Mapping[str, Any]) -> str:
    """Return the regular expression for the prefix and the environment of a topic."""
    prefix = BaseSettings(config).topic_prefix
    # Of the prefix only the dots are escaped, as 1.x does: programs compare the text.
    return prefix.replace(".", r"\.") + r"\.[^\W\d_]+"


class BaseSettings(View):
    """The prefix of topics, times, threads."""

    # fmt: off
    topic_prefix = setting(TEXT, "org.fedoraproject", "What every topic of this bus begins with.", "base",
        flag="--topic-prefix", own_conf_default="com.example", required=True)
    topic_prefix_re = setting(PATTERN, None, "A regular expression for the prefix and the environment of a topic.",
        "base", in_conf=False, derived=derive_topic_prefix_re)
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


class TransportSettings(View):
    """How sockets behave, and which addresses they have."""

    # fmt: off
    high_water_mark = setting(INTEGER, 0,
        "How many messages a socket may hold; 0: no limit for who publishes through a relay.", "sockets",
        unit="messages", flag="--high-water-mark")
    receive_high_water_mark = setting(INTEGER, 100000,
        "How many messages a subscriber may hold, unless high_water_mark is above 0.", "sockets", unit="messages",
        in_conf=False)
    publish_high_water_mark = setting(INTEGER, 200000,
        "How many messages a bound publisher holds for one subscriber, unless high_water_mark is above 0.", "sockets",
        unit="messages", in_conf=False)
    max_message_size = setting(INTEGER, 16 * 1024 * 1024, "The biggest message that is sent or taken.", "sockets",
        unit="bytes", in_conf=False, low=1, high=_BIGGEST)
    zmq_linger = setting(INTEGER, 1000, "How long a closing socket goes on sending what it holds, at most.", "sockets",
        unit="milliseconds", flag="--linger")
    zmq_enabled = setting(BOOLEAN, True, "Whether messages go over ZeroMQ; False is for a message broker.", "sockets")
    zmq_strict = setting(BOOLEAN, False, "Whether a consumer's topic has to match as a whole, not as a prefix.",
        "sockets")
    zmq_tcp_keepalive = setting(INTEGER, 1, "Whether TCP probes idle connections: 1 for yes, 0 for no.", "sockets",
        high=1)
    zmq_tcp_keepalive_cnt = setting(INTEGER, 3, "How many probes without an answer end a connection.", "sockets",
        unit="probes")
    zmq_tcp_keepalive_idle = setting(INTEGER, 60, "How long a connection is idle before the first probe.", "sockets",
        unit="seconds")
    zmq_tcp_keepalive_intvl = setting(INTEGER, 5, "How long to wait between two probes.", "sockets", unit="seconds")
    zmq_reconnect_ivl = setting(INTEGER, 100, "How long to wait before a lost connection is tried again.", "sockets",
        unit="milliseconds")
    zmq_reconnect_ivl_max = setting(INTEGER, 0,
        "How far that wait grows while the other side stays away; 0: it does not grow.", "sockets",
        # Not at all, or a listener would miss a publisher that is there for half a second.
        unit="milliseconds", own_conf_default=1000)
    zmq_heartbeat_ivl = setting(INTEGER, 5000,
        "How often a connection is asked for a sign of life, so that a silent cut is noticed; 0 is never.", "sockets",
        unit="milliseconds", in_conf=False)
    endpoints = setting(ENDPOINTS, {"relay_outbound": ["tcp://127.0.0.1:4001"]},
        "Where messages come from: names of publishers, with the addresses that each may bind.", "endpoints",
        required=True, check="fedmsg.transport.zmq.preflight:problems")
    srv_endpoints = setting(TEXTS, [],
        "Domains whose endpoints are looked up in the DNS, as SRV records of _fedmsg._tcp.", "endpoints", in_conf=False)
    relay_inbound = setting(LINES, "tcp://127.0.0.1:2003", "Where the relay takes messages, to pass them on.", "relay",
        own_conf_default="tcp://127.0.0.1:2001")
    relay_high_water_mark = setting(INTEGER, 200000,
        "How many messages the relay holds for one subscriber that doesn't keep up.", "relay", unit="messages",
        name="fedmsg.consumers.relay.high_water_mark", in_conf=False)
    gateway_port = setting(INTEGER, 9940, "The port on which the gateway repeats the whole bus.", "gateway",
        name="fedmsg.consumers.gateway.port", high=65535)
    gateway_high_water_mark = setting(INTEGER, 200000,
        "How many messages the gateway holds for one subscriber that doesn't keep up.", "gateway", unit="messages",
        name="fedmsg.consumers.gateway.high_water_mark", own_conf_default=1000)


class CryptoSettings(View):
    """How messages are signed and checked, and connections encrypted."""

    # fmt: off
    sign_messages = setting(BOOLEAN, False, "Whether messages are signed when they are sent.", "ssl",
        check="fedmsg.crypto.preflight:problems")
    validate_signatures = setting(BOOLEAN, False, "Whether messages are checked when they arrive.", "ssl",
        check="fedmsg.crypto.preflight:problems",
        own_conf_default=True)
    crypto_backend = setting(TEXT, "x509", "How messages are signed.", "ssl")
    crypto_validate_backends = setting(TEXTS, ["x509"], "Which ways of signing are accepted.", "ssl")
    ssldir = setting(TEXT, "/etc/pki/fedmsg", "The folder with the keys and certificates of this machine.", "ssl")
    crl_location = setting(TEXT, None, "A file or https address with the lists of revoked certificates.", "ssl")
    crl_cache = setting(OUTPUT_FILE, None, "A file that keeps the last good copy of crl_location.", "ssl",
        needed_later=True)
    crl_cache_expiry = setting(INTEGER, 3600, "How long such a copy is used before it is fetched again.", "ssl",
        unit="seconds")
    ca_cert_location = setting(TEXT, "/etc/pki/fedmsg/ca.crt",
        "A file or https address with the certificates of the authorities to trust.", "ssl")
    ca_cert_cache = setting(OUTPUT_FILE, None, "A file that keeps the last good copy of ca_cert_location.", "ssl",
        needed_later=True)
    ca_cert_cache_expiry = setting(INTEGER, 0, "How long such a copy is used before it is fetched again; 0 is 60.",
        "ssl", unit="seconds")
    certnames = setting(MAPPING, {}, "Which certificate each service of this machine signs with.", "ssl")
    routing_policy = setting(POLICY, {}, "Which certificates may sign each topic.", "ssl")
    routing_nitpicky = setting(BOOLEAN, False, "Whether a topic that is not in routing_policy is rejected.", "ssl")
    allow_sha1_certificates = setting(BOOLEAN, False,
        "Whether certificates and CRLs that an authority signed with SHA-1 are accepted.", "ssl", in_conf=False)
    max_message_age = setting(INTEGER, 0, "How far the time of a signed message may be from now; 0 sets no limit.",
        "ssl", unit="seconds", in_conf=False)
    max_seen_ids = setting(INTEGER, 0,
        "How many checked messages a receiver remembers, to reject one that comes again.", "ssl", unit="messages",
        in_conf=False)
    gpg_home = setting(TEXT, None, "The home of GnuPG with the keyring for the backends gpg and gpg-envelope.", "ssl",
        in_conf=False)
    gpg_signing_key = setting(TEXT, None, "The fingerprint of the GnuPG key to sign with.", "ssl", in_conf=False)
    gpg_keys = setting(MAPPING, {}, "The same for each host: short host names and fingerprints.", "ssl", in_conf=False)
    curve_key = setting(TEXT, None, "The file with this program's own CURVE key pair, NAME.key_secret.", "curve",
        in_conf=False)
    curve_servers = setting(MAPPING, {},
        "The files with the CURVE public keys of servers, by their names in endpoints, relay_inbound, relay_confirmed "
        "or relay_stream.", "curve",
        in_conf=False)
    curve_publishers = setting(TEXT, None,
        "The folder with the CURVE public keys of those who may publish through the relay.", "curve", in_conf=False)
    curve_subscribers = setting(TEXT, None,
        "The folder with the CURVE public keys of those who may subscribe to the relay.", "curve", in_conf=False)


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
    """Texts for people: how messages are described, and the IRC bot."""

    # fmt: off
    meta_processors = setting(TEXTS, ["/etc/fedmsg.meta.d"],
        "Folders and YAML files that declare how messages are put into words.", "meta", in_conf=False)
    irc = setting(RECORDS, [], "The channels that the IRC bot speaks in, a dict for each.", "irc",
        # It has passwords in it.
        secret=True, check="fedmsg.irc.configuration:problems",
        own_conf_default=[_SAMPLE_BOT])
    irc_color_lookup = setting(MAPPING, {}, "The colour of a title, by its first word.", "irc",
        own_conf_default=_SAMPLE_COLOURS)
    irc_default_color = setting(TEXT, "light grey", "The colour of any other title.", "irc")
    irc_method = setting(TEXT, "notice", "How the bot speaks: notice or msg.", "irc", choices=("notice", "msg"))


class ReplaySettings(View):
    """How messages are published, kept and asked for again."""

    # fmt: off
    active = setting(BOOLEAN, False, "Whether a publisher connects to the relay instead of binding an endpoint.",
        "relay")
    persistent_store = setting(ANYTHING, None,
        "Where every message that is sent is kept for replay: the URL of a database, or an object.", "replay")
    replay_endpoints = setting(MAPPING, {}, "Where lost messages can be asked for: names of publishers and addresses.",
        "replay", in_conf=False)
    replay_max = setting(INTEGER, 10000, "How many messages one question for lost messages may ask for.", "replay",
        unit="messages", in_conf=False, low=1)
    replay_max_bytes = setting(INTEGER, 16 * 1024 * 1024, "How big the answer to one such question may be.", "replay",
        unit="bytes", in_conf=False, low=1, high=_BIGGEST)


class StreamSettings(View):
    """The stream that a relay with a store keeps: storing, confirms, reading."""

    # fmt: off
    relay_store = setting(TEXT, None,
        "Where the relay keeps what it passes on, the stream: the URL of an SQLite or PostgreSQL database.", "stream",
        # It may have a password in it.
        in_conf=False, secret=True)
    relay_confirmed = setting(LINES, "tcp://127.0.0.1:2004",
        "Where relays with a store take messages that they confirm; publishers try them in this order.", "stream",
        in_conf=False)
    relay_stream = setting(LINES, "tcp://127.0.0.1:4002",
        "Where relays with a store serve their stream; subscribers try them in this order.", "stream",
        in_conf=False)
    relay_upstream = setting(LINES, [],
        "Where other relays take messages that they confirm; a relay with a store hands everything on to each of them.",
        "stream", in_conf=False)
    relay_retention_age = setting(INTEGER, 604800, "How long the stream keeps a message; 0 sets no limit.", "stream",
        unit="seconds", in_conf=False, high=_BIGGEST)
    relay_retention_bytes = setting(INTEGER, 0,
        "How big the topics and bodies in the stream may become; 0 sets no limit.", "stream", unit="bytes",
        in_conf=False, high=_BIGGEST)
    relay_retention_messages = setting(INTEGER, 0, "How many messages the stream keeps; 0 sets no limit.", "stream",
        unit="messages", in_conf=False, high=_BIGGEST)
    relay_durable_max = setting(INTEGER, 10000, "How many durable subscriptions a stream may have.", "stream",
        unit="subscriptions", in_conf=False)
    publish_confirm = setting(BOOLEAN, False,
        "Whether a publisher waits until a relay has confirmed that a message is on disk.", "stream", in_conf=False)
    publish_window = setting(INTEGER, 1000,
        "How many messages a publisher of many sends ahead of their confirms.", "stream", unit="messages",
        in_conf=False, low=1)
    stream_credit = setting(INTEGER, 1000, "How many messages of the stream a subscriber is sent ahead.", "stream",
        unit="messages", in_conf=False, low=1)
    stream_credit_bytes = setting(INTEGER, 4 * 1024 * 1024,
        "How many bytes of the stream a subscriber is sent ahead; one message always fits.", "stream", unit="bytes",
        in_conf=False, low=1, high=_BIGGEST)


_LOG_FORMAT = {"format": "[%(asctime)s][%(name)10s %(levelname)7s] %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}
_LOG_HANDLER = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "level": "INFO", "formatter": "bare"}
_LOGGERS = ("fedmsg", "moksha")

_LOGGING: dict[str, Any] = {
    "version": 1,
    "formatters": {"bare": _LOG_FORMAT},
    "handlers": {"console": _LOG_HANDLER},
    "loggers": {name: {"level": "INFO", "propagate": False, "handlers": ["console"]} for name in _LOGGERS},
}


class BrokerSettings(View):
    """RabbitMQ as the bus."""

    # fmt: off
    broker_url = setting(PREFIXES, [],
        "Where RabbitMQ is, in place of ZeroMQ: amqp:// or amqps:// URLs of its nodes, tried in this order.", "broker",
        # They have passwords in them.
        in_conf=False, secret=True, check="fedmsg.transport.amqp.urls:problems")
    broker_exchange = setting(TEXT, "amq.topic", "The topic exchange that messages go through.", "broker",
        in_conf=False)
    broker_ca = setting(TEXT, None, "A file with the certificates of the authorities that may vouch for the broker; "
        "those of the system when not set.", "broker", in_conf=False)
    broker_cert = setting(TEXT, None, "A file with the certificate to show to the broker.", "broker", in_conf=False)
    broker_key = setting(TEXT, None, "A file with the key of that certificate.", "broker", in_conf=False)
    broker_trusted = setting(BOOLEAN, False,
        "Whether unsigned messages of other programs are valid where messages are checked, since the broker admits "
        "known users only.", "broker", in_conf=False)
    broker_prefetch = setting(INTEGER, 100, "How many messages a consumer is sent ahead of their acknowledgement.",
        "broker", unit="messages", in_conf=False, low=1, high=65535)
    broker_stream = setting(TEXT, "fedmsg.stream", "The stream of RabbitMQ that keeps all messages.", "broker",
        in_conf=False)
    broker_stream_age = setting(INTEGER, None, "How long the stream keeps a message, when it is made.", "broker",
        unit="seconds", in_conf=False, low=1)
    broker_stream_bytes = setting(INTEGER, None, "How big the stream may become, when it is made.", "broker",
        unit="bytes", in_conf=False, low=1, high=_BIGGEST)


class HubSettings(View):
    """How daemons run, and what consumers get."""

    # fmt: off
    logging = setting(MAPPING, _LOGGING, "What is logged and where, for logging.config.dictConfig.", "logging",
        check="fedmsg.commands._preflight:logging_problems")
    stomp_uri = setting(TEXT, None, "The hosts and ports of a STOMP broker.", "stomp")
    stomp_user = setting(TEXT, None, "The name to log in to it with.", "stomp")
    stomp_pass = setting(TEXT, None, "The password to log in to it with.", "stomp", secret=True)
    stomp_ssl_crt = setting(FILE, None, "A file with the certificate to log in to it with.", "stomp",
        needed_later=True)
    stomp_ssl_key = setting(FILE, None, "A file with the key of that certificate.", "stomp",
        needed_later=True)
    stomp_queue = setting(TEXT, None, "The queue to read from it.", "stomp", in_conf=False)
    stomp_heartbeat = setting(INTEGER, None, "How often it is asked for a sign of life.", "stomp", unit="milliseconds",
        in_conf=False)
    datagrepper_url = setting(TEXT, None,
        "A datagrepper that has what was missed while a consumer was down, or what a relay no longer keeps.", "hub")
    skip_last_message = setting(BOOLEAN, False, "Whether the message in work at a crash is skipped at the next start.",
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
        "What happens when so many wait: block stops receiving, drop drops the oldest and counts them.", "hub",
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
    metrics_port = setting(INTEGER, None, "The port on which a daemon serves metrics for Prometheus.", "hub",
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
    pidfile = setting(OUTPUT_FILE, None, "A file with the number of the process that went to the background.", "daemon",
        in_conf=False, needed_later=True)


class DatagrepperSettings(View):
    """The history over HTTP."""

    # fmt: off
    datagrepper_host = setting(TEXT, "127.0.0.1", "The address on which the history is served over HTTP.",
        "datagrepper", name="datagrepper.host", in_conf=False)
    datagrepper_port = setting(INTEGER, 5000, "The port.", "datagrepper", name="datagrepper.port", in_conf=False,
        high=65535)
    datagrepper_threads = setting(INTEGER, 200, "How many requests and streams are answered at the same time.",
        "datagrepper", unit="threads", name="datagrepper.threads", in_conf=False, low=1, high=10000)
    datagrepper_workers = setting(INTEGER, None,
        "How many processes share the work; as many as there are processors, but at most 4, when not set.",
        "datagrepper", unit="processes", name="datagrepper.workers", in_conf=False, low=1, high=256)
    datagrepper_query_timeout = setting(NUMBER, 10.0, "How long a query may take.", "datagrepper", unit="seconds",
        name="datagrepper.query_timeout", in_conf=False)
    datagrepper_query_delta = setting(NUMBER, None,
        "How far back a request looks that names no time; all the history when not set.", "datagrepper",
        unit="seconds", name="datagrepper.query_delta", in_conf=False)


class Settings(
    BaseSettings, TransportSettings, CryptoSettings, WordsSettings, ReplaySettings, StreamSettings, BrokerSettings,
    HubSettings, DatanommerSettings, DatagrepperSettings, StatscacheSettings, StatscacheAppSettings,
):  # fmt: skip
    """All settings of a configuration, in the order of ``conf`` and of ``--help``."""

    __slots__ = ()
