# SPDX-License-Identifier: LGPL-2.1-or-later
"""Addresses: their form, what is bound for them, which need a name server."""

from __future__ import annotations

import pytest

from fedmsg.exceptions import ConfigError
from fedmsg.transport.zmq import addresses


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, []), ("", []), ([], []), ("a", ["a"]), (["a", "b"], ["a", "b"]), (("a",), ["a"])],
)
def test_one_or_several(given: object, expected: list[str]) -> None:
    assert addresses.as_list(given) == expected


@pytest.mark.parametrize("bad", [5, {"a": 1}, 1.5])
def test_what_is_no_list_of_addresses(bad: object) -> None:
    with pytest.raises(ConfigError, match="not an address"):
        addresses.as_list(bad)


@pytest.mark.parametrize(
    "good",
    ["tcp://127.0.0.1:1", "tcp://*:2003", "tcp://[::1]:2003", "tcp://host.example.org:*", "ipc:///run/x", "inproc://x"],
)
def test_form(good: str) -> None:
    assert addresses.check(good, "key") == good


@pytest.mark.parametrize(
    "bad",
    [
        *("127.0.0.1:2003", "tcp://127.0.0.1", "tcp://::1:2003", "tcp://:1", "udp://a:1", "ipc://", "x"),
        *("tcp://127.0.0.1:65536", "tcp://127.0.0.1:2003\n", "tcp://a b:1", "tcp://tcp://a:1"),
    ],
)
def test_an_address_that_is_none_is_named_with_its_key(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"relay_inbound: .*tcp://HOST:PORT"):
        addresses.check(bad, "relay_inbound")


@pytest.mark.parametrize(
    ("address", "bound"),
    [
        ("tcp://127.0.0.1:3000", "tcp://*:3000"),
        ("tcp://host:3000", "tcp://*:3000"),
        ("tcp://[::1]:3000", "tcp://[::]:3000"),
        ("ipc:///run/x", "ipc:///run/x"),
    ],
)
def test_a_publisher_binds_every_interface(address: str, bound: str) -> None:
    assert addresses.bindable(address) == bound


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("tcp://127.0.0.1:1", None),
        ("tcp://[::1]:1", None),
        ("tcp://*:1", None),
        ("ipc:///x", None),
        ("tcp://localhost:1", "localhost"),
    ],
)
def test_only_names_are_looked_up(address: str, host: str | None) -> None:
    assert addresses.host_to_resolve(address) == host


def test_only_literals_are_ipv6() -> None:
    assert addresses.is_ipv6("tcp://[::1]:1")
    assert not addresses.is_ipv6("tcp://localhost:1")
