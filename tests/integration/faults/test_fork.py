# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process forks in the middle of publishing: parent and children all go on, each by its own sockets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Bus, free_address, run
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import Witness

PROGRAM = Path(__file__).with_name("forking.py")
WAYS = pytest.mark.parametrize("how", ["fork", "multiprocessing"])


def fork(how: str, settings: dict[str, Any], children: int, count: int, env: dict[str, str]) -> tuple[list[int], str]:
    """Run the program.

    Returns:
        The exit statuses of its children, and what it wrote to standard error.
    """
    arguments = [how, json.dumps(settings), str(children), str(count)]
    ended = run([sys.executable, "-W", "ignore::DeprecationWarning", str(PROGRAM), *arguments], env=env, timeout=1000)
    assert ended.returncode == 0, ended.stderr
    statuses: list[int] = json.loads(ended.stdout)["children"]
    return statuses, ended.stderr


def expected(children: int, count: int) -> list[str]:
    """Give what all processes together publish."""
    senders = ["before", "parent", "after", *(f"child{number}" for number in range(children))]
    return sorted(f"{who}-{number}" for who in senders for number in range(count))


@WAYS
@pytest.mark.soak
def test_children_publish_through_the_relay(how: str, figures: Figures, full_size: bool) -> None:
    children, count = (100, 1000) if full_size else (6, 50)
    wanted = expected(children, count)
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        bus.start_relay()
        witness.greet(bus)
        statuses, _ = fork(how, {"active": True, "timeout": 20}, children, count, bus.environ)
        witness.wait_for(len(wanted), "forked")
        assert bus.stop_relay() == 0
    bodies = witness.bodies("forked")
    assert statuses == [0] * children
    assert sorted(body["msg"]["n"] for body in bodies) == wanted
    assert len({body["msg_id"] for body in bodies}) == len(wanted)
    figures(f"{children} children of {how}, through a relay", sent=len(wanted), arrived=len(bodies), lost=0, exits=0)


@WAYS
@pytest.mark.soak
def test_children_bind_the_next_free_address(how: str, figures: Figures, full_size: bool) -> None:
    children, count = (20, 1000) if full_size else (4, 50)
    addresses = [free_address() for _ in range(children + 1)]
    settings = {"name": "test.here", "endpoints": {"test.here": addresses}, "post_init_sleep": 20}
    wanted = expected(children, count)
    with Bus() as bus, Witness(*addresses) as witness:
        statuses, _ = fork(how, settings, children, count, bus.environ)
        witness.wait_for(len(wanted), "forked")
    bodies = witness.bodies("forked")
    assert statuses == [0] * children
    assert sorted(body["msg"]["n"] for body in bodies) == wanted
    assert len({body["msg_id"] for body in bodies}) == len(wanted)
    figures(f"{children} children of {how}, bound", sent=len(wanted), arrived=len(bodies), lost=0, exits=0)


@WAYS
def test_a_child_without_a_free_address_is_told_so(how: str) -> None:
    address = free_address()
    settings = {"name": "test.here", "endpoints": {"test.here": [address]}, "post_init_sleep": 20}
    with Bus() as bus, Witness(address) as witness:
        statuses, err = fork(how, settings, 2, 50, bus.environ)
        witness.wait_for(150, "forked")
    assert statuses == [1, 1]
    assert err.count(f"AddressInUse: Couldn't find an available endpoint for name 'test.here': {address}") == 2
    assert err.count("add an address for each process to that list, or publish through a relay with active=True") == 2
    # The parent was not disturbed.
    assert sorted(witness.numbers("forked")) == expected(0, 50)
