# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which keys look like misspelt ones, and which belong to somebody else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg.config import settings
from fedmsg.config._words import did_you_mean

NAMES = list(settings.TABLE)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("enviroment", "environment"),
        ("endpoint", "endpoints"),
        ("Timeout", "timeout"),
        ("timeuot", "timeout"),
        ("topic-prefix", "topic_prefix"),
        ("relay_inbond", "relay_inbound"),
        ("relayinbound", "relay_inbound"),
        ("sign_message", "sign_messages"),
        ("validate_signature", "validate_signatures"),
        ("validate-signatures", "validate_signatures"),
        ("zmq_tcp_keepalive_interval", "zmq_tcp_keepalive_intvl"),
        ("certname", "certnames"),
        ("highwatermark", "high_water_mark"),
        ("IRC", "irc"),
        ("fedmsg.consumers.gateway.prot", "fedmsg.consumers.gateway.port"),
    ],
)
def test_a_misspelt_key(word: str, expected: str) -> None:
    assert did_you_mean(word, NAMES) == expected


@pytest.mark.parametrize(
    "word",
    """fedmsg.consumers.badges.enabled fedmsg.commands.collectd.enabled bodhi.consumer.enabled
    moksha.monitoring.socket.owner moksha.livesocket.tcp.port datanommer.models.enabled sqlalchemy.url
    name mute cert_prefix src ire irks stomp_port stomp_host zmq_linger_ms
    fmn.consumer.enabled bodhi.topic bugzilla mailman.hyperkitty hostname url database x_""".split(),
)
def test_a_key_of_somebody_else(word: str) -> None:
    assert did_you_mean(word, NAMES) is None


letters = st.sampled_from("abcdefghijklmnopqrstuvwxyz_.")


@given(data=st.data(), name=st.sampled_from([name for name in NAMES if len(name) > 5]), letter=letters)
def test_one_slip_in_any_known_key_is_seen(data: st.DataObject, name: str, letter: str) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    slip = data.draw(
        st.sampled_from([
            name[:at] + name[at + 1 :],
            name[:at] + letter + name[at:],
            name[:at] + letter + name[at + 1 :],
            name[:at] + name[at : at + 2][::-1] + name[at + 2 :],
        ])
    )  # fmt: skip
    if slip not in settings.TABLE:
        assert did_you_mean(slip, NAMES) is not None


@given(st.text(max_size=40))
def test_any_word_has_an_answer(word: str) -> None:
    assert did_you_mean(word, NAMES) in {*NAMES, None}


def test_many_keys_of_plugins_cost_little() -> None:
    # Not a benchmark: it fails when every pair of names is compared in full, which takes seconds.
    words = [f"fedmsg.consumers.plugin{number}.enabled" for number in range(300)]
    start = time.process_time()
    assert [word for word in words if did_you_mean(word, NAMES)] == []
    assert time.process_time() - start < 1
