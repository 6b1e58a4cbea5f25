# SPDX-License-Identifier: LGPL-2.1-or-later
"""ZeroMQ addresses: their form, what to bind for a configured one, which have a name to resolve."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping

from fedmsg.exceptions import ConfigError

__all__ = ["as_list", "bindable", "by_address", "canonical", "check", "checked", "host_to_resolve", "is_ipv6", "listed"]

_FORM = re.compile(r"tcp://(\[[^\]\s]+\]|[^:\[\]\s/]+):(\d+|\*)|(?:ipc|inproc)://[^\s]+")
_BIGGEST_PORT = 65535
_IPV4 = re.compile(r"^[\d.]+$")


def as_list(addresses: object) -> list[str]:
    """Return one address or several as a list of text."""
    if not addresses:
        return []
    if isinstance(addresses, str):
        return [addresses]
    if isinstance(addresses, list | tuple | set):
        return [str(address) for address in addresses]
    raise ConfigError(f"{addresses!r} is not an address or a list of addresses")


def check(address: str, key: str) -> str:
    """Return the address when it has the form of one; ``key`` is where it was configured, for the error.

    Raises:
        ConfigError: It has not.
    """
    form = _FORM.fullmatch(address)
    if form and (form[2] in {None, "*"} or int(form[2]) <= _BIGGEST_PORT):
        return address
    raise ConfigError(f"{key}: {address!r} is no address; write tcp://HOST:PORT, tcp://[IPV6]:PORT or ipc://PATH")


def checked(addresses: object, key: str) -> list[str]:
    """Return one address or several as a list, when all have the form of one.

    Raises:
        ConfigError: One has not.
    """
    return [check(address, key) for address in as_list(addresses)]


def listed(endpoints: Mapping[str, object] | None) -> list[tuple[str, str]]:
    """Return the names and addresses in ``endpoints``, one by one.

    Raises:
        ConfigError: Something in it is no address.
    """
    return [
        (name, check(address, f"endpoints[{name!r}]"))
        for name, several in (endpoints or {}).items()
        for address in as_list(several)
    ]


def by_address(endpoints: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the name of each address, the first where it has several.

    Raises:
        ConfigError: Something is no address.
    """
    return {check(address, f"endpoints[{name!r}]"): name for name, address in reversed([*endpoints])}


def bindable(address: str) -> str:
    """Return what a publisher binds for a configured address: every interface, for ``tcp``."""
    if not address.startswith("tcp://"):
        return address
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return f"tcp://[::]:{port}" if host.startswith("[") else f"tcp://*:{port}"


def is_ipv6(address: str) -> bool:
    """Return whether the address is an IPv6 literal, the one case that needs ``ZMQ_IPV6``.

    With that option on, libzmq takes a name such as ``localhost`` for its IPv6 address
    first, where an IPv4-only publisher doesn't listen; so it stays off for names.
    """
    return address.startswith("tcp://[")


def host_to_resolve(address: str) -> str | None:
    """Return the host name in an address; None where nothing has to be resolved."""
    if not address.startswith("tcp://") or is_ipv6(address):
        return None
    host = address.removeprefix("tcp://").rpartition(":")[0]
    return None if host == "*" or _IPV4.match(host) else host


def canonical(address: str) -> str:
    """Return an address as ZeroMQ writes it in its events: an IPv6 number in its shortest form."""
    if not is_ipv6(address):
        return address
    number, _, port = address.removeprefix("tcp://[").rpartition("]:")
    try:
        return f"tcp://[{socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, number))}]:{port}"
    except OSError:
        return address  # with a scope, say
