# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a broker can have against a program, each as one line that says what to do."""

from __future__ import annotations

import re
import ssl
from typing import Any

from fedmsg._util.text import one_line
from fedmsg.exceptions import TransportError
from fedmsg.transport.amqp.urls import Server

__all__ = ["BLOCKED", "BrokerRefusal", "Refused", "of_channel", "of_connection", "silent", "unanswered"]

#: Why a connection that stands takes no messages.
BLOCKED = (
    "it takes no messages, because its alarm for memory or disk space is set: run 'rabbitmq-diagnostics alarms' there, "
    "and let consumers empty the queues or free disk space"
)
_QUORUM = (
    "the queue has lost its quorum, more than half of its nodes: start the nodes that are down; "
    "'rabbitmqctl cluster_status' names them"
)
_MAY_BE_DOWN = (
    "a queue may have lost its quorum, more than half of its nodes, or be slow: see 'rabbitmqctl cluster_status', "
    "and start the nodes that are down"
)
_TEXT_MAX = 300
# Reply codes of AMQP 0.9.1.
_ACCESS_REFUSED, _NOT_FOUND, _LOCKED, _PRECONDITION = 403, 404, 405, 406
_NOT_ALLOWED = 530
_DOWN = re.compile(r"\bdown\b|inaccessible|quorum|no leader|noproc|timed? ?out")
_RESOURCE = re.compile(r"access to (\w+) '([^']*)'")


class BrokerRefusal(TransportError):
    """The broker does not do what is asked of it.

    Args:
        text: What, and the cure, in one line.
        is_permanent: Whether it stays so until the configuration is changed, here or there.
    """

    def __init__(self, text: str, *, is_permanent: bool = False) -> None:
        super().__init__(one_line(text))
        self.is_permanent = is_permanent


class Refused(Exception):
    """The broker has closed a channel.

    Args:
        code: Its reply code.
        text: Its words.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


def of_channel(refused: Refused, server: Server, what: str) -> BrokerRefusal:
    """Return why something could not be done on a channel.

    Args:
        refused: What the broker has answered.
        server: The node.
        what: What was to be done, such as "the exchange 'amq.topic'".
    """
    text, at = refused.text, server.label
    if (permanent := _permanent(refused, server, what)) is not None:
        return BrokerRefusal(permanent, is_permanent=True)
    if _DOWN.search(text):
        return BrokerRefusal(f"{what} at {at}: {_QUORUM} ({_short(text)})")
    if refused.code == _LOCKED:
        return BrokerRefusal(f"{what} at {at} belongs to another connection; it is tried again")
    return BrokerRefusal(f"{what} at {at}: {_short(text)} (code {refused.code})")


def _permanent(refused: Refused, server: Server, what: str) -> str | None:
    """Return what does not change by itself, and the cure; None for everything else."""
    code, text, at = refused.code, refused.text, server.label
    if code == _ACCESS_REFUSED:
        found = _RESOURCE.search(text)
        name = f"{found[1]} {found[2]!r}" if found else what
        return (
            f"{server.user!r} has no permission for the {name} at {at}: "
            f"run 'rabbitmqctl set_permissions -p {server.vhost} {server.user} CONFIGURE WRITE READ' there"
        )
    if code == _PRECONDITION and "arg 'type'" in text:
        return f"{what} at {at} is not of the type topic: set broker_exchange to one that is"
    if code == _PRECONDITION and "inequivalent arg" in text:
        return f"{what} is there at {at}, with other properties ({_short(text)}): remove it, or take another name"
    if code == _NOT_FOUND and not _DOWN.search(text):
        return f"{what} is not there at {at}, and {server.user!r} may not make it: make it there, or allow that"
    return None


def of_connection(error: BaseException, server: Server) -> BrokerRefusal:
    """Return why there is no connection, or why it has ended."""
    at = server.label
    for one in _chain(error):
        text, kind = str(one), type(one).__name__
        if isinstance(one, ssl.SSLError):
            return BrokerRefusal(f"no encrypted connection with {at}: {_short(text)}; see broker_ca, broker_cert")
        if kind == "ProbableAuthenticationError" or "Login was refused" in text:
            return BrokerRefusal(
                f"{at} refuses the login of {server.user!r}: correct user and password in broker_url, or try "
                f"'rabbitmqctl authenticate_user {server.user}' there",
                is_permanent=True,
            )
        if kind == "ProbableAccessDeniedError" or getattr(one, "reply_code", 0) == _NOT_ALLOWED:
            return BrokerRefusal(
                f"{at} has no vhost {server.vhost!r}, or {server.user!r} may not use it: correct broker_url, or run "
                f"'rabbitmqctl add_vhost {server.vhost}' and set_permissions there",
                is_permanent=True,
            )
    return BrokerRefusal(f"no connection with {at}: {_short(_reason(error))}")


def unanswered(server: Server, what: str, seconds: float) -> BrokerRefusal:
    """Return that a node does not do what it is asked for, and does not refuse it either."""
    return BrokerRefusal(f"{what} at {server.label}: no answer for {seconds:g} s; {_MAY_BE_DOWN}")


def silent(address: str, seconds: float | None = None) -> str:
    """Return that messages are not confirmed."""
    since = "has not confirmed it" if seconds is None else f"confirms nothing for {seconds:g} s"
    return f"{address} {since}; {_MAY_BE_DOWN}"


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those that it is made of, the innermost last."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting and len(found) < 20:
        one = waiting.pop(0)
        found.append(one)
        more: list[Any] = [getattr(one, "exception", None), one.__cause__]
        more += list(getattr(one, "exceptions", ())) + list(one.args)
        waiting += [each for each in more if isinstance(each, BaseException) and each is not one]
    return found


def _reason(error: BaseException) -> str:
    chain = _chain(error)
    system = next((one for one in chain if isinstance(one, OSError) and one.strerror), None)
    if system is not None:
        return str(system.strerror)
    texts = [str(one) for one in reversed(chain) if str(one)]
    return texts[0] if texts else type(error).__name__


def _short(text: str) -> str:
    return text[:_TEXT_MAX]
