# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of the addresses that clients connect to are those of this machine: a relay binds these."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Mapping
from typing import Any

from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.transport.zmq import addresses

__all__ = ["is_own", "own_addresses"]


def own_addresses(config: Mapping[str, Any], key: str) -> list[str]:
    """Return the configured addresses that are this machine's.

    Args:
        config: The configuration.
        key: ``relay_confirmed`` or ``relay_stream``.

    Raises:
        ConfigError: There is none at all, or one that has not the form of an address.
        AddressInUse: There are only those of other machines.
    """
    configured = addresses.checked(settings.get(config, key), key)
    if not configured:
        raise ConfigError(f"{key} is not set: set it to an address such as tcp://127.0.0.1:2004")
    own = [one for one in configured if is_own(one)]
    if not own:
        flag = key.replace("relay_", "--")
        raise AddressInUse(
            f"{key} has no address of this machine: {', '.join(configured)}; add one, or name it with {flag}"
        )
    return own


def is_own(address: str) -> bool:
    """Return whether an address can be bound on this machine."""
    host = address.removeprefix("tcp://").rpartition(":")[0]
    if not address.startswith("tcp://") or host == "*":
        return True
    if host.startswith("["):
        return _has(socket.AF_INET6, host.strip("[]"))
    if addresses.host_to_resolve(address) is None:
        return _has(socket.AF_INET, host)
    return _is_own_name(host)


def _is_own_name(name: str) -> bool:
    # That of an interface may stand for its address.
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(name) > 0
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(_has(family, str(place[0])) for family, _, _, _, place in found)


def _has(family: int, number: str) -> bool:
    """Return whether an interface of this machine has this IP address."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((number, 0))
    except OSError as error:
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL, socket.EAI_NONAME}
    return True
