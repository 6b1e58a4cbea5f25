# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-relay`` and ``fedmsg-signing-relay``: take messages from publishers and pass them on to all."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

from fedmsg import utils
from fedmsg._util.signals import StopSignals
from fedmsg.commands import Declaration, _relay_checks
from fedmsg.commands._forwarding import ForwardingCommand
from fedmsg.commands._options import flag
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError
from fedmsg.monitoring.metrics import Sample
from fedmsg.transport.zmq.forwarder import Check, Forwarder

__all__ = ["RelayCommand", "SigningRelayCommand", "relay", "signing_relay"]


# The flags of what a relay keeps; their values stand in place of those of the configuration.
_STREAM_FLAGS: list[Declaration] = [
    flag("--store", dest="relay_store", metavar="URL", help="Keep what is passed on, as a stream, in this database."),
    flag(
        "--confirmed",
        dest="relay_confirmed",
        metavar="ADDRESS",
        help="Where to take messages that are confirmed once they are stored.",
    ),
    flag("--stream", dest="relay_stream", metavar="ADDRESS", help="Where to serve the stream to those who read it."),
]


class _Shipped:
    """A class that is imported on first use: what a hub is made of takes 2 MiB, which our relays do not need."""

    def __init__(self, location: str) -> None:
        self._location = location

    def __get__(self, _instance: object, _owner: type) -> Any:
        return utils.load_class(self._location)


class RelayCommand(ForwardingCommand):
    """Pass on what is published at relay_inbound to all that subscribe at endpoints["relay_outbound"].

    Messages are forwarded unread and unchanged. With a store each of them is first stored, in the
    stream, which subscribers can read from any position; publishers may wait until that is done. The
    command runs in the foreground until it is stopped; then it passes on what it has received, and ends.
    """

    # A subclass may name a consumer of its own; then that gets the messages, and passes on what it likes.
    relay_consumer: Any = _Shipped("fedmsg.consumers.relay:RelayConsumer")

    name = "fedmsg-relay"
    consumer = "fedmsg.consumers.relay:RelayConsumer"
    extra_args: ClassVar[list[Declaration]] = [
        flag(
            "--validate",
            dest="relay_validate",
            action="store_true",
            help="Reject and count what is malformed or not validly signed; costs most of the speed.",
        ),
        *_STREAM_FLAGS,
    ]
    _store: Any = None

    def run(self) -> None:
        """Relay until SIGTERM or SIGINT.

        Raises:
            AddressInUse: Another process has the addresses.
            ConfigError: There is no address to take messages at, or none to pass them on at.
            RefusedAtStart: Messages are to be checked or signed, and can't be.
            WorkLeft: Time was up before everything was passed on.
        """
        if self._is_shipped():
            super().run()
            return
        if self.config.get("relay_store"):
            raise ConfigError("relay_store is set, and a relay with a consumer of its own stores nothing: remove one")
        run_consumer = utils.load_class("fedmsg.consumers.relay:run_consumer")
        run_consumer(self.config, self.relay_consumer, *self._addresses(), validate=self.config.get("relay_validate"))

    def _is_shipped(self) -> bool:
        """Return whether the consumer is one whose work a forwarder does."""
        named = inspect.getattr_static(type(self), "relay_consumer")
        return isinstance(named, _Shipped) or getattr(named, "__module__", None) == "fedmsg.consumers.relay"

    def _addresses(self) -> tuple[list[str], list[str]]:
        return (
            self.configured("relay_inbound", self.config.get("relay_inbound")),
            self.configured("endpoints['relay_outbound']", self.config.get("endpoints", {}).get("relay_outbound")),
        )

    def forwarder(self) -> Forwarder:
        """Make a forwarder that binds both sides."""
        inbound, outbound = self._addresses()
        return Forwarder(
            self.config,
            inbound,
            outbound if self._store is None else self._store.own_outbound(outbound),
            limit=settings.get(self.config, "fedmsg.consumers.relay.high_water_mark"),
            check=self.check(),
            keeper=None if self._store is None else self._store.keeper(self.check()),
        )

    @contextlib.contextmanager
    def prepared(self, stop: StopSignals) -> Iterator[bool]:
        """Open the store, if there is one; wait while another relay has it."""
        if not self.config.get("relay_store"):
            if self.config.get("relay_upstream"):
                raise ConfigError("relay_upstream is set, and only a relay with a store can hand on: set relay_store")
            yield True
            return
        # A relay without a store does not load what one consists of.
        with utils.load_class("fedmsg.commands._storing:Store")(self.config) as self._store:
            yield self._store.open(stop)

    def describe(self, forwarder: Forwarder) -> str:
        """Return between which addresses it stands."""
        text = f"relaying from {', '.join(forwarder.inbound)} to {forwarder.outbound}"
        return text if self._store is None else text + self._store.describe()

    def more(self) -> dict[str, Any]:
        """Return the figures of the stream."""
        return {} if self._store is None else {"stream": self._store.statistics()}

    def metrics(self) -> list[Sample]:
        """Return the metrics of the stream."""
        return [] if self._store is None else self._store.metrics()


class SigningRelayCommand(RelayCommand):
    """Pass on what is published at relay_inbound, signed with certnames["signing_relay"].

    For publishers that have no key of their own: what they send gets the signature of this
    relay, in place of one that it may have. Who may send to it is a matter of its address, of a
    firewall or of CURVE. What is malformed is rejected and counted.
    """

    relay_consumer: Any = _Shipped("fedmsg.consumers.relay:SigningRelayConsumer")

    name = "fedmsg-signing-relay"
    consumer = "fedmsg.consumers.relay:SigningRelayConsumer"
    extra_args: ClassVar[list[Declaration]] = [
        flag(
            "--validate",
            dest="relay_validate",
            action="store_true",
            help="Sign only what is validly signed by its publisher.",
        ),
        *_STREAM_FLAGS,
    ]

    def check(self) -> Check:
        """Return what signs each message."""
        return _relay_checks.signing(self.config, super().check())


def relay() -> None:
    """Run the command: the entry point of ``fedmsg-relay``."""
    RelayCommand().execute()


def signing_relay() -> None:
    """Run the command: the entry point of ``fedmsg-signing-relay``."""
    SigningRelayCommand().execute()
