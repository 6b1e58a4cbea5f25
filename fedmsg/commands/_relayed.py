# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing through the relay, for commands that publish and end: what is lost is not kept quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fedmsg
from fedmsg.config import settings
from fedmsg.exceptions import FedmsgError, MessageError, PossiblyLost, UsageError, WorkLeft
from fedmsg.transport.zmq import addresses

__all__ = ["Publish", "publishing"]

#: Takes what to send and where it came from, such as ``"line 7"``, for an error.
Publish = Callable[[Any, str], None]


@contextmanager
def publishing(
    config: Mapping[str, Any], *, topic: str, modname: str, hook: Callable[[dict[str, Any]], object] | None = None
) -> Iterator[Publish]:
    """Open a context that publishes through the relay, and yield what publishes a message with it.

    At the end, wait until everything has been sent.

    Raises:
        NotListening: There is no relay.
        PossiblyLost: The connection to it broke.
        UsageError: A message is not fit to be sent.
        WorkLeft: A signal came in the middle of a message.
        KeyboardInterrupt: A signal came at another time, and nothing was lost.
    """
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
