# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening and closing everything, again and again, leaves nothing behind; a closed context says so."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import fedmsg
from fedmsg.core import FedMsgContext
from fedmsg.exceptions import ConfigError
from fedmsg.testing import Bus, free_address, wait_until
from fedmsg.transport.zmq.forwarder import Forwarder
from tests import open_files
from tests.integration.faults import ground
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import Witness

# An address that nobody listens at costs a resolver thread and endless attempts to connect.
NOWHERE = "tcp://no-such-host.invalid:9940"

_bound_before: set[str] = set()


def through_a_relay(bus: Bus) -> None:
    """Open a publisher that connects, use it, close it twice."""
    with bus.context() as context:
        context.publish("round", modname="test")
    context.destroy()


def without_a_relay(bus: Bus) -> None:
    """Open a publisher that finds nobody."""
    bus.context(relay_inbound=[free_address(), NOWHERE]).destroy()


def bound(_: Bus) -> None:
    """Open a publisher that binds, and have somebody listen to it."""
    # A process waits for a first subscriber once per address.
    while (address := free_address()) in _bound_before:
        pass
    _bound_before.add(address)
    settings = {"name": "me.here", "endpoints": {"me.here": [address]}, "post_init_sleep": 20}
    with FedMsgContext(**settings) as context, Witness(address) as witness:
        context.publish("round", modname="test")
        witness.wait_for(1, "round")


def listening(bus: Bus) -> None:
    """Open a generator, take a message from it, and close it."""
    endpoints = {**bus.config["endpoints"], "nowhere": [NOWHERE], "nobody": [free_address()]}
    with FedMsgContext(mute=True, endpoints=endpoints) as context, bus.context() as publisher:
        messages = context.tail_messages()
        came = threading.Event()

        def take_one() -> None:
            next(iter(messages))
            came.set()

        thread = threading.Thread(target=take_one)
        thread.start()
        wait_until(came.is_set, meanwhile=lambda: publisher.publish("round", modname="test"))
        thread.join()
        messages.close()  # type: ignore[attr-defined] # a generator, told as an iterator


def module_functions(bus: Bus) -> None:
    """Use the functions of the package, in a thread that ends without closing."""

    def use() -> None:
        fedmsg.init(**{**bus.config, "active": True})
        fedmsg.publish("round", modname="test")

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()


def forwarding(_: Bus) -> None:
    """Run a forwarder and stop it."""
    with Forwarder({}, ["tcp://127.0.0.1:*"], ["tcp://127.0.0.1:*"], limit=1000) as forwarder:
        assert forwarder.statistics().messages_in == 0


@pytest.mark.parametrize(
    "once",
    [through_a_relay, without_a_relay, bound, listening, module_functions, forwarding],
    ids=lambda once: once.__name__,
)
@pytest.mark.soak
def test_nothing_is_left_behind(once: Callable[[Bus], None], figures: Figures, full_size: bool) -> None:
    rounds = 1000 if full_size else 25
    with Bus() as bus:
        bus.start_relay()
        for _ in range(3):
            once(bus)
        gc.collect()
        before = open_files.descriptors(), ground.threads(), ground.memory(ground.OWN)
        for _ in range(rounds):
            once(bus)
        gc.collect()
        wait_until(
            lambda: open_files.descriptors() <= before[0] and ground.threads() <= before[1],
            what=lambda: f"no more descriptors and threads than {before[:2]}; there are {open_files.open_now()}",
        )
        after = ground.memory(ground.OWN)
        assert bus.stop_relay() == 0
    figures(
        f"opened and closed {rounds} times: {once.__name__.replace('_', ' ')}", exits=0,
        memory_before=before[2], memory_after=after, remarks="no more descriptors or threads",
    )  # fmt: skip


@pytest.mark.parametrize("settings", [{"active": True}, {"name": "me.here"}], ids=["active", "bound"])
def test_publishing_after_the_end(settings: dict[str, Any]) -> None:
    address = free_address()
    with Witness(address) as witness:
        everything = {
            "relay_inbound": [free_address()],
            "endpoints": {"me.here": [address]},
            "post_init_sleep": 20,
            **settings,
        }
        context = FedMsgContext(**everything)
        context.destroy()
        context.destroy()
        with pytest.raises(ConfigError, match="this context is closed"):
            context.publish("late", modname="test")
        # The module opens another one.
        if "active" not in settings:
            fedmsg.init(**everything)
            fedmsg.destroy()
            fedmsg.publish("again", {"n": 1}, modname="test", **everything)
            witness.wait_for(1, "again")
            fedmsg.destroy()
