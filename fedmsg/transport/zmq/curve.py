# SPDX-License-Identifier: LGPL-2.1-or-later
"""ZeroMQ's CURVE: connections that are encrypted, and open only to those whose key is known.

A program has a key pair of its own (``curve_key``). Who connects knows the public key of the
server (``curve_servers``); a server that is to know its clients has a folder with their
public keys. The files are those of pyzmq: ``NAME.key`` and ``NAME.key_secret``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import zmq

from fedmsg.exceptions import RefusedAtStart
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["Gate", "as_client", "identity", "prepare"]

log = logging.getLogger("fedmsg.transport")

_OTHERS = 0o007
_LOOK_EVERY = 1.0
# A refused client is let go, and tries again, when its handshake has taken so long; in ms.
_HANDSHAKE = 3000
# RejectionLog that are told of in a minute; a stranger who tries again and again must not fill the disk.
_TOLD = 10


def _load(path: str, key: str, *, secret: bool) -> tuple[bytes, bytes]:
    """Read a key file.

    Args:
        path: The file.
        key: Where it is configured.
        secret: Whether the secret key has to be in it.
    """
    # Costs 5 ms, and only who uses CURVE pays.
    from zmq.auth.certs import load_certificate

    if not zmq.has("curve"):
        raise RefusedAtStart(f"{key} is set, and this libzmq was built without CURVE")
    try:
        public, private = load_certificate(path)
        if secret and os.stat(path).st_mode & _OTHERS:
            log.warning("others can read the key %s: chmod 0600 it, and think of replacing it", path)
    except OSError as error:
        raise RefusedAtStart(f"{key}: {error.strerror or error}: {path}") from error
    except ValueError as error:
        raise RefusedAtStart(f"{key}: {path} is no CURVE key file; fedmsg-certs curve makes one") from error
    if secret and not private:
        raise RefusedAtStart(f"{key}: {path} has no secret key in it: name the file that ends in .key_secret")
    return public, private or b""


def _own(config: Mapping[str, Any], because: str) -> tuple[bytes, bytes]:
    path = config.get("curve_key")
    if not path:
        raise RefusedAtStart(f"{because} is set, and curve_key is not: name the file with our own key pair")
    return _load(path, "curve_key", secret=True)


def identity(config: Mapping[str, Any], name: str) -> tuple[object, ...]:
    """Give what makes two connections to the same address different ones."""
    return config.get("curve_key"), (config.get("curve_servers") or {}).get(name)


def as_client(socket: Socket, config: Mapping[str, Any], name: str) -> None:
    """Make a socket one that connects only to the server whose key is configured, if one is.

    Args:
        socket: The socket, before it connects.
        config: The configuration, for ``curve_servers`` and ``curve_key``.
        name: The name of the server: a key of ``endpoints``, or ``relay_inbound``.

    Raises:
        RefusedAtStart: A key can't be read.
    """
    path = (config.get("curve_servers") or {}).get(name)
    if not path:
        if socket.getsockopt(zmq.MECHANISM) == zmq.CURVE:
            # It has connected to one that has a key; this sets it back.
            socket.setsockopt(zmq.CURVE_SERVER, 0)
        return
    key = f"curve_servers[{name!r}]"
    server, _ = _load(path, key, secret=False)
    public, private = _own(config, key)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, private)


def prepare(config: Mapping[str, Any], names: Iterable[str]) -> None:
    """See that the keys for connecting to these servers can be read.

    Raises:
        RefusedAtStart: One can't.
    """
    servers = config.get("curve_servers") or {}
    for name in names:
        if servers.get(name):
            key = f"curve_servers[{name!r}]"
            _load(servers[name], key, secret=False)
            _own(config, key)


class Gate:
    """Who may connect to the two sides of a relay.

    Args:
        config: The configuration: ``curve_publishers`` is the folder with the keys of those who
            may publish, ``curve_subscribers`` of those who may subscribe. A side without a folder
            stays open to everybody.

    Raises:
        RefusedAtStart: A folder or our own key can't be read.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._folders = {
            domain: os.fspath(config[key])
            for domain, key in ((b"publish", "curve_publishers"), (b"subscribe", "curve_subscribers"))
            if config.get(key)
        }
        self._known: dict[bytes, tuple[float, frozenset[bytes]]] = {}
        self._told: list[float] = []
        self._keys = (b"", b"")
        for domain, folder in self._folders.items():
            because = f"curve_{domain.decode()}rs" if domain == b"subscribe" else "curve_publishers"
            if not os.path.isdir(folder):
                raise RefusedAtStart(f"{because}: {folder} is not a folder")
            self._keys = _own(config, because)

    def open(self, context: Context, inbound: Socket, outbound: Socket) -> None:
        """Set a guard before both sockets, which are not bound yet.

        The guard is a thread that ends with the context.
        """
        if not self._folders:
            return
        door = context.socket(zmq.REP)
        door.setsockopt(zmq.LINGER, 0)
        door.bind("inproc://zeromq.zap.01")
        threading.Thread(target=self._guard, args=(door,), name="fedmsg-curve", daemon=True).start()
        for socket, domain in ((inbound, b"publish"), (outbound, b"subscribe")):
            if domain in self._folders:
                socket.setsockopt(zmq.ZAP_DOMAIN, domain)
                socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE)
                socket.setsockopt(zmq.CURVE_SERVER, 1)
                socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys[1])

    def _guard(self, door: Socket) -> None:
        try:
            while True:
                # What libzmq asks (RFC 27): version, request, domain, address, identity, mechanism, key.
                version, request, domain, address, _, mechanism, *rest = door.recv_multipart()
                allowed = mechanism == b"CURVE" and len(rest) == 1 and rest[0] in self._allowed(domain)
                if not allowed:
                    self._tell(domain, address)
                # Not 400: after that libzmq never tries again, and the key may be admitted later.
                status = (b"200", b"OK") if allowed else (b"300", b"unknown key")
                door.send_multipart([version, request, *status, b"", b""])
        except zmq.ContextTerminated:
            door.close(0)

    def _allowed(self, domain: bytes) -> frozenset[bytes]:
        """Give the keys in a folder, which is looked at once a second at most."""
        now = time.monotonic()
        until, keys = self._known.get(domain, (0.0, frozenset()))
        if now >= until:
            keys = frozenset(_public_keys(self._folders[domain]))
            self._known[domain] = now + _LOOK_EVERY, keys
        return keys

    def _tell(self, domain: bytes, address: bytes) -> None:
        now = time.monotonic()
        self._told = [when for when in self._told if when > now - 60]
        if len(self._told) < _TOLD:
            self._told.append(now)
            folder = self._folders[domain]
            log.warning(
                "refused a connection from %s to %s: its key is not in %s", address.decode(), domain.decode(), folder
            )


def _public_keys(folder: str) -> Iterable[bytes]:
    from zmq.auth.certs import load_certificate
    from zmq.utils import z85

    try:
        paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".key")]
    except OSError as error:
        log.error("nobody can connect: %s: %s", folder, error.strerror)
        return
    for path in paths:
        try:
            yield z85.decode(load_certificate(path)[0])
        except (OSError, ValueError) as error:
            log.warning("the CURVE key %s is left out: %s", path, error)
