# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.stream.own_addresses: which of the addresses that clients connect to a relay binds."""

from __future__ import annotations

import pytest

from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.stream.own_addresses import is_own, own_addresses

FOREIGN = "tcp://192.0.2.1:2004"  # RFC 5737: nobody has it


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:2004",
        "tcp://127.0.0.99:2004",
        "tcp://0.0.0.0:2004",
        "tcp://*:2004",
        "tcp://localhost:2004",
        "tcp://lo:2004",
        "ipc:///run/bus",
        "inproc://bus",
    ],
)
def test_an_address_of_this_machine(address: str) -> None:
    assert is_own(address)


@pytest.mark.parametrize(
    "address", [FOREIGN, "tcp://[2001:db8::1]:2004", "tcp://nowhere.invalid:2004", "tcp://255.255.255.254:1"]
)
def test_an_address_of_another_machine(address: str) -> None:
    assert not is_own(address)


def test_those_of_this_machine_are_bound_in_their_order() -> None:
    config = {"relay_confirmed": [FOREIGN, "tcp://127.0.0.1:2", "tcp://127.0.0.1:1"]}
    assert own_addresses(config, "relay_confirmed") == ["tcp://127.0.0.1:2", "tcp://127.0.0.1:1"]
    assert own_addresses({}, "relay_stream") == ["tcp://127.0.0.1:4002"]


def test_none_of_this_machine_names_the_flag() -> None:
    with pytest.raises(AddressInUse, match="--confirmed"):
        own_addresses({"relay_confirmed": FOREIGN}, "relay_confirmed")


@pytest.mark.parametrize("value", [[], "", "nonsense", ["tcp://127.0.0.1:1", "tcp://127.0.0.1"]])
def test_what_is_no_address(value: object) -> None:
    with pytest.raises(ConfigError, match="relay_stream"):
        own_addresses({"relay_stream": value}, "relay_stream")
