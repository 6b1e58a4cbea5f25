# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing through the relay, for commands that publish and end: what is lost is not kept quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fedmsg
from fedmsg import utils
from fedmsg.commands._options import flag
from fedmsg.config import settings
from fedmsg.exceptions import (
    FedmsgError,
    MessageError,
    NotConfirmed,
    PossiblyLost,
    RejectedByRelay,
    UsageError,
    WorkLeft,
)
from fedmsg.transport import choice
from fedmsg.transport.zmq import addresses

__all__ = ["CONFIRM", "Publish", "publishing"]

#: The flag that asks for confirms.
CONFIRM = flag(
    "--confirm",
    dest="publish_confirm",
    action="store_true",
    default=False,
    help="Wait until a relay with a store has confirmed that it is on disk.",
)

#: Takes what to send and where it came from, such as ``"line 7"``, for an error.
Publish = Callable[[Any, str], None]


@contextmanager
def publishing(
    config: Mapping[str, Any], *, topic: str, modname: str, hook: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[Publish]:
    """Open a context that publishes through the relay, and yield what publishes a message with it.

    At the end, wait until everything has been sent. With ``publish_confirm`` messages are sent ahead of their
    confirms, and at the end all are confirmed.

    Raises:
        NotListening: There is no relay.
        NotConfirmed: A message was not confirmed in time.
        RejectedByRelay: The relay has rejected one.
        PossiblyLost: The connection to it broke.
        UsageError: A message is not fit to be sent.
        WorkLeft: A signal came in the middle of a message.
        KeyboardInterrupt: A signal came at another time, and nothing was lost.
    """
    if settings.get(config, "publish_confirm") or choice.of(config).confirms:
        with _confirmed(config, topic=topic, modname=modname, hook=hook) as publish:
            yield publish
        return
    failure: BaseException | None = None
    hooked: dict[str, Any] = {} if hook is None else {"pre_fire_hook": hook}
    with fedmsg.core.FedMsgContext(**{**config, "active": True, "name": "relay_inbound"}) as context:

        def publish(msg: Any, where: str) -> None:
            try:
                context.publish(topic=topic, msg=msg, modname=modname, **hooked)
            except MessageError as error:
                raise UsageError(f"{where} can't be sent: {error}") from error
            except KeyboardInterrupt:
                raise WorkLeft(f"stopped before {where} was sent") from None

        try:
            yield publish
        except (FedmsgError, KeyboardInterrupt) as error:
            failure = error
    if context.lost:
        lost = PossiblyLost(context.lost, ", ".join(addresses.as_list(settings.get(config, "relay_inbound"))))
        if isinstance(failure, FedmsgError):
            # What was lost before outweighs what could not be sent after it.
            lost.args = (f"{lost}; then {failure}",)
        raise lost from failure
    if failure is not None:
        raise failure


@contextmanager
def _confirmed(
    config: Mapping[str, Any], *, topic: str, modname: str, hook: Callable[[dict[str, Any]], object] | None
) -> Iterator[Publish]:
    """Do the same with confirms: several messages are under way, and errors are those of the first one without."""
    # The bus is loaded here, not with the command.
    push = utils.load_class("fedmsg._confirmed:push")
    open_window = utils.load_class("fedmsg._confirmed:open_window")
    sent = confirmed = 0
    with fedmsg.core.FedMsgContext(**{**config, "active": True, "name": "relay_inbound"}) as context:
        session = context._session
        with open_window(session) as window:

            def count(positions: Iterator[int]) -> None:
                nonlocal confirmed
                for _ in positions:
                    confirmed += 1

            def publish(msg: Any, where: str) -> None:
                nonlocal sent
                try:
                    count(push(session, window, topic, msg, modname=modname, hook=hook))
                except RejectedByRelay:
                    raise
                except MessageError as error:
                    raise UsageError(f"{where} can't be sent: {error}") from error
                sent += 1

            try:
                try:
                    yield publish
                except UsageError as error:
                    # What was read before it is to be confirmed all the same.
                    count(window.finish())
                    error.args = (f"{error}; {confirmed} messages were confirmed before it",)
                    raise
                count(window.finish())
            except (NotConfirmed, RejectedByRelay) as error:
                error.args = (f"message {confirmed + 1}: {error}; {confirmed} were confirmed before it",)
                raise
            except KeyboardInterrupt:
                if confirmed == sent:
                    raise
                text = f"stopped; {confirmed} messages were confirmed, {sent - confirmed} were sent without a confirm"
                raise WorkLeft(text) from None
