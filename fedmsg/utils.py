# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small things that several parts need: socket options, who calls, classes by name, queries."""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedmsg.exceptions import UsageError

if TYPE_CHECKING:
    from types import FrameType

    import zmq

__all__ = [
    "cowsay_output",
    "dict_query",
    "guess_calling_module",
    "load_class",
    "set_high_water_mark",
    "set_tcp_keepalive",
    "set_tcp_reconnect",
]


def set_high_water_mark(socket: zmq.Socket[Any], config: Mapping[str, Any]) -> None:
    """Set how many messages a socket, not yet bound or connected, may hold for each connection and direction.

    ``high_water_mark`` 0 means without limit, and is set: left alone, ZeroMQ would drop what goes beyond 1,000.
    """
    _set(socket, config, {"high_water_mark": ("SNDHWM", "RCVHWM")})


def set_tcp_keepalive(socket: zmq.Socket[Any], config: Mapping[str, Any]) -> None:
    """Set when an idle connection of a socket, not yet bound or connected, is probed.

    Of ``zmq_tcp_keepalive``, ``zmq_tcp_keepalive_cnt``, ``zmq_tcp_keepalive_idle`` and ``zmq_tcp_keepalive_intvl``
    those that are configured are set.
    """
    suffixes = ("", "_cnt", "_idle", "_intvl")
    _set(socket, config, {f"zmq_tcp_keepalive{end}": (f"TCP_KEEPALIVE{end.upper()}",) for end in suffixes})


def set_tcp_reconnect(socket: zmq.Socket[Any], config: Mapping[str, Any]) -> None:
    """Set how long a socket, not yet connected, waits before a lost connection is tried again.

    Of ``zmq_reconnect_ivl`` and ``zmq_reconnect_ivl_max``, in milliseconds, those that are configured are set.
    """
    _set(socket, config, {f"zmq_reconnect_ivl{end}": (f"RECONNECT_IVL{end.upper()}",) for end in ("", "_max")})


def _set(socket: zmq.Socket[Any], config: Mapping[str, Any], options: Mapping[str, tuple[str, ...]]) -> None:
    """Set the socket options whose keys are configured."""
    # Loaded for certain, as there is a socket; programs without one do not need it.
    import zmq

    for key, names in options.items():
        value = config.get(key)
        if value is not None:
            for name in names:
                socket.setsockopt(zmq.SocketOption[name], value)


def guess_calling_module(default: str | None = None) -> str | None:
    """Return the top-level name of the first module up the call stack that is not part of fedmsg, or the default."""
    # Frame by frame, and no further than needed: a web application is 100 frames deep,
    # and the inspect module reads the source of each.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        try:
            top = _tops[frame.f_globals["__name__"]]
        except (KeyError, TypeError):
            top = _top_level(frame.f_globals.get("__name__"))
        if top:
            return top
        frame = frame.f_back
    return default


# The top-level part of each module name that was met; empty for fedmsg's own. Every publish
# without a modname asks for some.
_tops: dict[str, str] = {}


def _top_level(name: object) -> str:
    # Code run by exec may be in a module without a name, or with anything for one.
    if not isinstance(name, str):
        return ""
    top = name.partition(".")[0]
    if top == "fedmsg":
        top = ""
    if len(_tops) >= 1000:  # names made up by a program that runs others must not fill memory
        _tops.clear()
    _tops[name] = top
    return top


def load_class(location: str) -> Any:
    """Import and return the class, or whatever else, that a configuration names as ``package.module:Class``.

    Raises:
        ImportError: There is no such module, or it has no such class.
        UsageError: The location does not have this form.
    """
    module_name, colon, name = location.strip().partition(":")
    if not colon or not module_name or module_name.startswith(".") or ":" in name:
        raise UsageError(f"{location!r} does not name a class: write package.module:Class")
    module = importlib.import_module(module_name)
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ImportError(f"{name!r} not found in {module_name!r}") from error


def dict_query(dic: Mapping[str, Any], query: str) -> OrderedDict[str, Any]:
    """Look up dotted paths, separated by commas as in ``"msg.user,msg.update.title"``, in nested dicts.

    The result has each path with its value, or None, in the order of the query.

    Raises:
        UsageError: The query is not text.
    """
    if not isinstance(query, str):
        raise UsageError(f"query must be a string, not {type(query)}")
    result: OrderedDict[str, Any] = OrderedDict()
    for path in query.split(","):
        value: Any = dic
        for key in path.strip().split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        result[path.strip()] = value
    return result


def cowsay_output(message: str) -> tuple[bytes, bytes]:
    """Return the picture of a cow that says a message, and the errors of ``cowsay``.

    When there is no such program the picture is empty and the second part is the reason.
    """
    # On the command line of cowsay a message that begins with -f would choose the file that draws the cow, which
    # is a program: so it gets the message on its standard input. The import costs 5 ms.
    import subprocess

    try:
        run = subprocess.run(
            ["cowsay"], input=str(message).encode(errors="backslashreplace"), capture_output=True, check=False
        )
    except OSError as error:
        return b"", f"cowsay: {error.strerror}\n".encode()
    return run.stdout, run.stderr
