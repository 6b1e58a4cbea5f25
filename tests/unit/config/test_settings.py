# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of settings, against the published defaults and what fedmsg 1.x takes and refuses."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg.config import settings
from fedmsg.config.settings import kinds

_CONF_KEYS = """topic_prefix environment io_threads post_init_sleep timeout print_config high_water_mark zmq_linger
zmq_enabled zmq_strict zmq_tcp_keepalive zmq_tcp_keepalive_cnt zmq_tcp_keepalive_idle zmq_tcp_keepalive_intvl
zmq_reconnect_ivl zmq_reconnect_ivl_max endpoints relay_inbound fedmsg.consumers.gateway.port
fedmsg.consumers.gateway.high_water_mark sign_messages validate_signatures crypto_backend crypto_validate_backends
ssldir crl_location crl_cache crl_cache_expiry ca_cert_location ca_cert_cache ca_cert_cache_expiry certnames
routing_policy routing_nitpicky irc irc_color_lookup irc_default_color irc_method active persistent_store logging
stomp_uri stomp_user stomp_pass stomp_ssl_crt stomp_ssl_key datagrepper_url skip_last_message"""
CONF_KEYS = _CONF_KEYS.split()

# As published, a line each.
_DEFAULTS = """
topic_prefix "org.fedoraproject" | environment "dev" | endpoints {"relay_outbound": ["tcp://127.0.0.1:4001"]}
relay_inbound "tcp://127.0.0.1:2003" | io_threads 1 | post_init_sleep 0.5 | timeout 2 | stop_timeout 5
print_config false | high_water_mark 0 | receive_high_water_mark 100000 | publish_high_water_mark 200000
max_message_size 16777216 | zmq_heartbeat_ivl 5000 | replay_max 10000 | replay_max_bytes 16777216 | zmq_linger 1000 | zmq_enabled true
zmq_strict false | zmq_tcp_keepalive 1 | zmq_tcp_keepalive_cnt 3 | zmq_tcp_keepalive_idle 60
zmq_tcp_keepalive_intvl 5 | zmq_reconnect_ivl 100 | zmq_reconnect_ivl_max 0 | fedmsg.consumers.gateway.port 9940
fedmsg.consumers.gateway.high_water_mark 200000 | fedmsg.consumers.relay.high_water_mark 200000
sign_messages false | validate_signatures false | crypto_backend "x509" | crypto_validate_backends ["x509"]
ssldir "/etc/pki/fedmsg" | ca_cert_location "/etc/pki/fedmsg/ca.crt" | crl_location null | crl_cache null
ca_cert_cache null | crl_cache_expiry 3600 | ca_cert_cache_expiry 0 | certnames {} | routing_policy {}
routing_nitpicky false | irc [] | irc_color_lookup {} | irc_default_color "light grey" | irc_method "notice"
active false | persistent_store null | replay_endpoints {} | srv_endpoints [] | status_directory null
datagrepper_url null | skip_last_message false | stomp_uri null | stomp_user null | stomp_pass null
stomp_ssl_crt null | stomp_ssl_key null | stomp_queue null | stomp_heartbeat null | moksha.monitoring.socket null
moksha.workers_per_consumer 1 | moksha.blocking_mode false | moksha.livesocket.websocket.port null
daemon false | pidfile null | allow_sha1_certificates false | max_message_age 0 | max_seen_ids 0
gpg_home null | gpg_signing_key null | gpg_keys {}
curve_key null | curve_servers {} | curve_publishers null | curve_subscribers null
logging {"version": 1, "formatters": {"bare": {"format": "[%(asctime)s][%(name)10s %(levelname)7s] %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}}, "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "level": "INFO", "formatter": "bare"}}, "loggers": {"fedmsg": {"level": "INFO", "propagate": false, "handlers": ["console"]}, "moksha": {"level": "INFO", "propagate": false, "handlers": ["console"]}}}
meta_processors ["/etc/fedmsg.meta.d"]
zmq_publish_endpoints null | zmq_subscribe_endpoints null | zmq_subscribe_method null
state_directory null | consumer_queue_limit 10000 | consumer_queue_policy "block" | consume_retries 0
consume_retry_delay 1.0 | dead_letter_directory null | moksha.monitoring.socket.mode null
moksha.livesocket.websocket.interface null | moksha.livesocket.websocket.client2server false
moksha.livesocket.websocket.origins null
metrics_port null | metrics_interface "127.0.0.1" | fedmsg.consumers.dummy.enabled false
fedmsg.consumers.relay.enabled false | fedmsg.consumers.gateway.enabled false | fedmsg.consumers.ircbot.enabled false
relay_store null | relay_confirmed "tcp://127.0.0.1:2004" | relay_stream "tcp://127.0.0.1:4002"
relay_retention_age 604800 | relay_retention_bytes 0 | relay_retention_messages 0
relay_durable_max 10000 | relay_upstream [] | publish_confirm false | publish_window 1000
stream_credit 1000 | stream_credit_bytes 4194304
broker_url [] | broker_exchange "amq.topic" | broker_ca null | broker_cert null | broker_key null
broker_trusted false | broker_prefetch 100 | broker_stream "fedmsg.stream" | broker_stream_age null
broker_stream_bytes null
datanommer.enabled false | datanommer.topic null | datanommer.durable null
datanommer.sqlalchemy.url null | datanommer.sqlalchemy.uri null
datagrepper.host "127.0.0.1" | datagrepper.port 5000 | datagrepper.threads 200 | datagrepper.workers null
datagrepper.query_timeout 10.0 | datagrepper.query_delta null
statscache.consumer.enabled false | statscache.sqlalchemy.uri null | statscache.consumer.epoch null
statscache.consumer.durable null | statscache.consumer.recheck 60.0 | statscache.producer.frequency 5.0
statscache.datagrepper.endpoint null | statscache.datagrepper.profile false | statscache.app.host "127.0.0.1" | statscache.app.port 5001
statscache.app.threads 50 | statscache.app.workers null | statscache.app.query_timeout 10.0
statscache.app.maximum_rows_per_page 100 | statscache.app.default_rows_per_page 100
"""  # noqa: E501 one setting is one piece

_OTHER_IN_CONF = """
topic_prefix "com.example" | relay_inbound "tcp://127.0.0.1:2001" | validate_signatures true
zmq_reconnect_ivl_max 1000 | fedmsg.consumers.gateway.high_water_mark 1000
irc_color_lookup {"wiki": "purple", "bodhi": "green", "pkgdb": "teal", "git": "red", "planet": "light green", "fas": "light blue", "buildsys": "yellow", "tagger": "brown", "logger": "orange"}
irc [{"channel": "my-fedmsg-channel", "port": 6667, "timeout": 120, "line_rate": 0.9, "nickname": "fedmsg-dev", "ssl": false, "make_short": true, "make_terse": true, "make_pretty": true, "filters": {"body": ["lub-dub"], "topic": []}, "network": "irc.freenode.net"}]
"""  # noqa: E501 one setting is one piece


def read_settings(text: str) -> dict[str, Any]:
    """Read settings: name, blank, JSON; separated by lines and bars."""
    pieces = [piece.strip().split(" ", 1) for line in text.split("\n") for piece in line.split(" | ") if piece]
    return {name: json.loads(value) for name, value in pieces}


DEFAULTS = read_settings(_DEFAULTS)
OTHER_IN_CONF = read_settings(_OTHER_IN_CONF)
# What is off until it is configured has no key in a loaded configuration; of those that are None 1.1.7 has one.
IN_LOAD_CONFIG = {
    name: value
    for name, value in DEFAULTS.items()
    if (name == "persistent_store" or value is not None) and (name in CONF_KEYS or not name.endswith(".enabled"))
}


ROWS = {
    attribute: getattr(settings.Settings, attribute) for attribute in dir(settings.Settings) if attribute != "config"
}


def test_the_defaults_are_the_published_ones() -> None:
    assert settings.defaults() == IN_LOAD_CONFIG
    assert {name: type(value) for name, value in settings.defaults().items()} == {
        name: type(value) for name, value in IN_LOAD_CONFIG.items()
    }


def test_conf_has_its_own_keys_in_their_order() -> None:
    assert list(settings.conf_defaults()) == CONF_KEYS
    assert len(CONF_KEYS) == 48


def test_conf_has_its_own_defaults() -> None:
    assert settings.conf_defaults() == {name: DEFAULTS[name] for name in CONF_KEYS} | OTHER_IN_CONF


def test_topic_prefix_re_is_in_the_table_without_being_a_default() -> None:
    assert set(settings.TABLE) - set(DEFAULTS) == {"topic_prefix_re"}


def damage(value: Any) -> None:
    """Change everything that can be changed in a value."""
    if isinstance(value, dict):
        for inner in value.values():
            damage(inner)
        value["damage"] = 1
    elif isinstance(value, list):
        for inner in value:
            damage(inner)
        value.append("damage")


@pytest.mark.parametrize("make", [settings.defaults, settings.conf_defaults])
def test_defaults_are_fresh(make: Any) -> None:
    damage(make())
    assert make() == (
        IN_LOAD_CONFIG if make is settings.defaults else {n: DEFAULTS[n] for n in CONF_KEYS} | OTHER_IN_CONF
    )


def test_get_prefers_what_is_configured() -> None:
    assert settings.get({"timeout": 0}, "timeout") == 0
    assert settings.get({"relay_inbound": None}, "relay_inbound") is None


@pytest.mark.parametrize("name", DEFAULTS)
def test_get_knows_the_default(name: str) -> None:
    found = settings.get({}, name)
    assert found == DEFAULTS[name]
    damage(found)
    assert settings.get({}, name) == DEFAULTS[name]


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_view_has_every_setting_with_its_default(name: str) -> None:
    attribute = next(attribute for attribute in dir(settings.Settings) if ROWS.get(attribute) is settings.TABLE[name])
    assert getattr(settings.of({}), attribute) == DEFAULTS[name]
    assert getattr(settings.of({name: None}), attribute) == DEFAULTS[name]
    value = object()
    assert getattr(settings.of({name: value}), attribute) is value


def test_a_view_derives_topic_prefix_re() -> None:
    assert settings.of({"topic_prefix": "com.example"}).topic_prefix_re == r"com\.example\.[^\W\d_]+"
    assert settings.of({"topic_prefix_re": "x"}).topic_prefix_re == "x"


def test_a_view_does_not_share_its_defaults() -> None:
    settings.of({}).endpoints["damage"] = []
    assert settings.of({}).endpoints == DEFAULTS["endpoints"]


def test_get_of_an_unknown_setting_is_a_mistake_in_the_code() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        settings.get({}, "nonsense")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, r"org\.fedoraproject\.[^\W\d_]+"),
        ({"topic_prefix": "a+b.c"}, r"a+b\.c\.[^\W\d_]+"),
        ({"topic_prefix": "com.example", "topic_prefix_re": "x"}, "x"),
    ],
)
def test_topic_prefix_re_is_made_from_the_prefix(config: dict[str, Any], expected: str) -> None:
    assert settings.get(config, "topic_prefix_re") == expected


@pytest.mark.parametrize("row", settings.TABLE.values(), ids=lambda row: row.name)
def test_a_row_is_complete(row: settings.Setting[Any]) -> None:
    assert row.help.endswith(".")
    assert row.help[0].isupper()
    assert "\n" not in row.help
    assert row.type
    assert row.section
    assert row.kind is kinds.ANYTHING or row.fix.startswith("write ")


@pytest.mark.parametrize("row", settings.TABLE.values(), ids=lambda row: row.name)
def test_a_default_is_accepted_and_left_as_it_is(row: settings.Setting[Any]) -> None:
    accepted = row.accept(row.fresh_default())
    assert (accepted, type(accepted)) == (row.default, type(row.default))
    if row.in_conf:
        validated = row.kind.strict(row.fresh_default(for_conf=True))
        assert (validated, type(validated)) == (row.conf_default, type(row.conf_default))


def test_the_flags_that_every_command_has_come_from_the_table() -> None:
    assert {row.flag: row.name for row in settings.TABLE.values() if row.flag} == {
        "--io-threads": "io_threads",
        "--topic-prefix": "topic_prefix",
        "--post-init-sleep": "post_init_sleep",
        "--print-config": "print_config",
        "--timeout": "timeout",
        "--high-water-mark": "high_water_mark",
        "--linger": "zmq_linger",
    }


# Seen by giving each value to FedmsgConfig.load_config(settings={...}) of fedmsg 1.1.7. An exception stands
# for its text. 1.1.7 lets the TypeError of int(None) out; here it is one more reason.
NOT_TEXT = "is not \"<class 'str'>\""
STRICT: list[tuple[str, Any, Any]] = [
    ("timeout", "3", 3),
    ("timeout", 3.7, 3),
    ("timeout", True, 1),
    ("timeout", "x", ValueError("invalid literal for int() with base 10: 'x'")),
    ("timeout", "2.5", ValueError("invalid literal for int() with base 10: '2.5'")),
    ("timeout", -1, ValueError("Integer must be greater than or equal to zero")),
    ("timeout", None, ValueError("int() argument must be a string, a bytes-like object or a real number, "
                                 "not 'NoneType'")),
    ("timeout", [], ValueError("int() argument must be a string, a bytes-like object or a real number, not 'list'")),
    ("timeout", math.inf, ValueError("cannot convert float infinity to integer")),
    ("io_threads", "4", 4),
    ("io_threads", 0, 0),
    ("zmq_tcp_keepalive", "1", 1),
    ("fedmsg.consumers.gateway.port", "99", 99),
    ("fedmsg.consumers.gateway.port", 70000, 70000),
    ("ca_cert_cache_expiry", "z", ValueError("invalid literal for int() with base 10: 'z'")),
    ("post_init_sleep", "0.5", 0.5),
    ("post_init_sleep", 3, 3.0),
    ("post_init_sleep", "x", ValueError("could not convert string to float: 'x'")),
    ("post_init_sleep", -1, ValueError("Floating point number must be greater than or equal to zero")),
    ("post_init_sleep", math.nan, ValueError("Floating point number must be greater than or equal to zero")),
    ("post_init_sleep", None, ValueError("float() argument must be a string or a real number, not 'NoneType'")),
    ("active", "true", True),
    ("active", " TRUE ", True),
    ("active", "False", False),
    ("active", "no", ValueError('"no" must be a boolean ("True" or "False")')),
    ("active", "1", ValueError('"1" must be a boolean ("True" or "False")')),
    ("active", 1, ValueError('"1" is not a boolean value.')),
    ("active", None, ValueError('"None" is not a boolean value.')),
    ("print_config", 3, ValueError('"3" is not a boolean value.')),
    ("topic_prefix", "", ""),
    ("topic_prefix", None, None),
    ("topic_prefix", 3, ValueError(f'"3" {NOT_TEXT}')),
    ("topic_prefix", b"x", ValueError(f'"b\'x\'" {NOT_TEXT}')),
    ("environment", "bogus", "bogus"),
    ("environment", None, None),
    ("endpoints", "x", "x"),
    ("endpoints", None, None),
    ("endpoints", {"a": "b"}, {"a": "b"}),
    ("relay_inbound", None, None),
    ("relay_inbound", 3, ValueError(f'"3" {NOT_TEXT}')),
    ("relay_inbound", {}, ValueError(f'"{{}}" {NOT_TEXT}')),
    ("certnames", None, None),
    ("certnames", [], ValueError("\"[]\" is not \"<class 'dict'>\"")),
    ("routing_policy", "x", ValueError("\"x\" is not \"<class 'dict'>\"")),
    ("irc", None, None),
    ("irc", {}, ValueError("\"{}\" is not \"<class 'list'>\"")),
    ("crypto_validate_backends", ("x",), ValueError("\"('x',)\" is not \"<class 'list'>\"")),
    ("logging", {}, {}),
    ("irc_method", "bogus", "bogus"),
    ("persistent_store", 3, 3),
    ("stomp_uri", 3, ValueError(f'"3" {NOT_TEXT}')),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "expected"), STRICT)
def test_conf_reads_like_the_peer(name: str, value: Any, expected: Any) -> None:
    read = settings.TABLE[name].kind.strict
    if isinstance(expected, ValueError):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole text is compared
            read(value)
        assert str(caught.value) == str(expected)
    else:
        found = read(value)
        assert (found, type(found)) == (expected, type(expected))


def test_relay_inbound_may_be_a_list() -> None:
    # New: the relay binds all of them.
    assert settings.TABLE["relay_inbound"].kind.strict(["tcp://a:1", "tcp://b:2"]) == ["tcp://a:1", "tcp://b:2"]


# What load_config makes of a value. The first half worked at 1.1.7, which looked at nothing here.
LOOSE: list[tuple[str, Any, Any]] = [
    ("timeout", 0.5, 0.5),
    ("timeout", "0.5", 0.5),
    ("timeout", "3", 3),
    ("timeout", 2.0, 2),
    ("stop_timeout", 1.5, 1.5),
    ("active", 1, True),
    ("active", 0, False),
    ("active", "true", True),
    ("zmq_tcp_keepalive", True, 1),
    ("io_threads", 2.0, 2),
    ("crypto_validate_backends", ("x509", "gpg"), ["x509", "gpg"]),
    ("relay_inbound", ("tcp://a:1",), ["tcp://a:1"]),
    ("relay_inbound", "tcp://a:1", "tcp://a:1"),
    ("endpoints", {"a": "x", "b": ("y", "z"), "c": ["v"]}, {"a": ["x"], "b": ["y", "z"], "c": ["v"]}),
    ("endpoints", {}, {}),
    ("certnames", None, None),
    ("pidfile", None, None),
    ("stomp_heartbeat", None, None),
    ("moksha.livesocket.websocket.port", None, None),
    ("moksha.livesocket.websocket.port", "9919", 9919),
    ("topic_prefix_re", None, None),
    ("topic_prefix_re", r"^org\.(a|b)", r"^org\.(a|b)"),
    ("timeout", "x", ValueError("could not convert string to float: 'x'")),
    ("timeout", math.inf, ValueError("inf is not a time that ends")),
    ("timeout", -1, ValueError("Floating point number must be greater than or equal to zero")),
    ("zmq_linger", 0.5, ValueError("0.5 is not a whole number")),
    ("zmq_linger", 2**31, ValueError("2147483648 is more than 2147483647")),
    ("max_message_size", 0, ValueError("0 is less than 1")),
    ("io_threads", 0, ValueError("0 is less than 1")),
    ("zmq_tcp_keepalive", 2, ValueError("2 is more than 1")),
    ("fedmsg.consumers.gateway.port", 65536, ValueError("65536 is more than 65535")),
    ("active", 2, ValueError('"2" is not a boolean value.')),
    ("topic_prefix", None, ValueError("it has to have a value")),
    ("environment", 3, ValueError(f'"3" {NOT_TEXT}')),
    ("irc_method", "bogus", ValueError("it is none of: notice, msg")),
    ("irc", ["x"], ValueError("'x' in the list is not a dict")),
    ("srv_endpoints", "example.org", ValueError("\"example.org\" is not \"<class 'list'>\"")),
    ("srv_endpoints", [3], ValueError("3 in the list is not text")),
    ("relay_inbound", [3], ValueError("3 in the list is not text")),
    ("topic_prefix_re", "(", ValueError("it is not a regular expression: missing ), unterminated subpattern "
                                        "at position 0")),
    ("topic_prefix_re", 3, ValueError(f'"3" {NOT_TEXT}')),
    ("routing_policy", {"a": ["b"], "c": ("d",), "e": []}, {"a": ["b"], "c": ("d",), "e": []}),
    ("routing_policy", None, None),
    ("routing_policy", {"a": "b"}, ValueError("'a': 'b' is not a topic with a list of names")),
    ("routing_policy", {"a": [3]}, ValueError("'a': [3] is not a topic with a list of names")),
    ("routing_policy", {3: ["b"]}, ValueError("3: ['b'] is not a topic with a list of names")),
    ("routing_policy", "a", ValueError("\"a\" is not \"<class 'dict'>\"")),
    ("endpoints", [], ValueError("The 'endpoints' config value must be a dict.")),
    ("endpoints", None, ValueError("it has to have a value")),
    ("endpoints", {"a": 3}, ValueError("'a': 3 is not a name with an address or a list of addresses")),
    ("endpoints", {3: "a"}, ValueError("3: 'a' is not a name with an address or a list of addresses")),
    ("endpoints", {"a": ["x", None]}, ValueError("None under 'a' is not an address")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "expected"), LOOSE)
def test_load_config_takes_what_works_and_refuses_what_can_not(name: str, value: Any, expected: Any) -> None:
    accept = settings.TABLE[name].accept
    if isinstance(expected, ValueError):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole text is compared
            accept(value)
        assert str(caught.value) == str(expected)
    else:
        found = accept(value)
        assert (found, type(found)) == (expected, type(expected))


def test_the_list_that_was_given_is_not_the_one_that_is_kept() -> None:
    mine = ["tcp://a:1"]
    kept = settings.TABLE["endpoints"].accept({"a": mine})
    kept["a"].append("more")
    assert mine == ["tcp://a:1"]


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("timeout", "write a number of seconds, such as 2"),
        ("zmq_linger", "write a whole number of milliseconds, such as 1000"),
        ("active", "write True or False"),
        ("irc_method", "write 'notice' or 'msg'"),
        ("environment", "write text in quotes, such as 'dev'"),
        ("endpoints", "write a dict of names and lists of addresses"),
    ],
)
def test_the_fix(name: str, fix: str) -> None:
    assert settings.TABLE[name].fix == fix


SEVERAL = "has several addresses in one; write a list: ['tcp://host:1234', 'tcp://host:1235']"


@pytest.mark.parametrize(
    ("name", "value", "faults"),
    [
        ("endpoints", {"a": ["tcp://h:1", "ipc:///x", "inproc://y", "tcp://[::1]:9", "tcp://*:*"]}, []),
        ("endpoints", {"a": ["h:1"]}, ["a: 'h:1' does not begin with a transport; write 'tcp://h:1'"]),
        ("endpoints", {"a": ["http://h:1"]}, ["a: 'http://h:1' does not begin with a transport; write 'tcp://h:1'"]),
        ("endpoints", {"a": ["tcp://h"]}, ["a: 'tcp://h' does not end in a port; write 'tcp://host:1234'"]),
        ("endpoints", {"a": ["tcp://h:65536"]}, ["a: 'tcp://h:65536' does not end in a port; write 'tcp://host:1234'"]),
        ("relay_inbound", ["tcp://h:1", "x"], ["'x' does not begin with a transport; write 'tcp://x'"]),
        ("relay_inbound", None, []),
        ("moksha.monitoring.socket", "/run/x", ["'/run/x' does not begin with a transport; write 'tcp:///run/x'"]),
        ("timeout", 3, []),
        ("endpoints", {"a": ["tcp://[::1]:*", "tcp://h:!", "ipc://" + "x" * 107]}, []),
        (
            "endpoints",
            {"a": ["tcp://h:1,tcp://h:2"]},
            [f"a: 'tcp://h:1,tcp://h:2' {SEVERAL}"],
        ),
        (
            "relay_inbound",
            "ipc://" + "x" * 108,
            [f"'ipc://{'x' * 108}' is too long: the path of a socket has at most 107 bytes; use a shorter one"],
        ),
        ("moksha.monitoring.socket.mode", "0770", []),
        ("moksha.monitoring.socket.mode", None, []),
        ("moksha.monitoring.socket.mode", "999", ["'999' is no octal file mode; write one such as '0770'"]),
        ("moksha.monitoring.socket.mode", "1777", ["'1777' is no octal file mode; write one such as '0770'"]),
        ("state_directory", "/nowhere/at/all", []),
        ("state_directory", "/dev/null/x", ["'/dev/null/x' can't be a folder: /dev/null is none; name another one"]),
    ],
)
def test_what_a_closer_look_finds(name: str, value: Any, faults: list[str]) -> None:
    assert settings.TABLE[name].kind.faults(value) == faults


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(list(settings.TABLE)), value=anything)
def test_whatever_is_configured_is_taken_or_refused_with_a_reason(name: str, value: Any) -> None:
    row = settings.TABLE[name]
    for read in (row.accept, row.kind.strict):
        # Anything but a ValueError would end the program with a traceback.
        with contextlib.suppress(ValueError):
            read(value)
    assert all(isinstance(fault, str) for fault in row.kind.faults(value))


@given(name=st.sampled_from(list(settings.TABLE)), value=anything)
def test_what_is_taken_is_taken_again_unchanged(name: str, value: Any) -> None:
    row = settings.TABLE[name]
    try:
        once = row.accept(value)
    except ValueError:
        return
    assert repr(row.accept(once)) == repr(once)
