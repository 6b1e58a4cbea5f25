# SPDX-License-Identifier: LGPL-2.1-or-later
"""ZeroMQ's CURVE: connections that are encrypted, and open only to those whose key is known.

A program has a key pair of its own (``curve_key``). A client knows the public key of its server
(``curve_servers``); a server that is to know its clients has a folder with their public keys.
The files are those of pyzmq: ``NAME.key`` and ``NAME.key_secret``.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import zmq

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import ServiceThread
from fedmsg.exceptions import RefusedAtStart
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["Guard", "GuardSettings", "as_client", "guard_settings", "identity", "prepare"]

log = logging.getLogger("fedmsg.transport")

_OTHERS_MODE = 0o007
_RELOAD_INTERVAL = 1.0
# A rejected client is disconnected, and tries again, when its handshake has taken so long.
_HANDSHAKE_TIMEOUT_MS = 3000
_KEY_FILE_MAX_BYTES = 64 * 1024
_KEY_LINE = r'^\s*{}-key\s*=\s*"([^"]*)"\s*$'
_ZAP_REQUEST_FRAMES = 7
_FOLDER_SETTINGS = {b"publish": "curve_publishers", b"subscribe": "curve_subscribers"}


def _key(text: str, kind: str) -> bytes | None:
    """Return a key of a key file, or None when there is none of its kind.

    Raises:
        ValueError: What is there is not a key.
    """
    from zmq.utils import z85  # together with what it imports, a millisecond that only CURVE needs

    found = re.search(_KEY_LINE.format(kind), text, re.MULTILINE)
    if found is None:
        return None
    try:
        key = bytes(z85.decode(found[1].encode("ascii")))
    except Exception as error:  # it raises KeyError, struct.error and ValueError
        raise ValueError(f"its {kind} key is not Z85") from error
    if len(key) != 32:
        raise ValueError(f"its {kind} key has {len(found[1])} characters instead of 40")
    return key


def _read_key_file(path: str) -> tuple[bytes, bytes | None, int]:
    """Return the public key, the secret key and the mode of a key file.

    Raises:
        OSError: It can't be read.
        ValueError: It is not a key file.
    """
    # Not to wait for the writer of a named pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("it is not a regular file")
        text = os.read(descriptor, _KEY_FILE_MAX_BYTES).decode("utf-8")
    finally:
        os.close(descriptor)
    public = _key(text, "public")
    if public is None:
        raise ValueError("it has no public key")
    return public, _key(text, "secret"), mode


def _load(path: str, setting: str, *, secret: bool) -> tuple[bytes, bytes]:
    """Return the keys in a key file.

    Raises:
        RefusedAtStart: They can't be read.
    """
    if not zmq.has("curve"):
        raise RefusedAtStart(f"{setting} is set, and this libzmq was built without CURVE")
    try:
        public, private, mode = _read_key_file(path)
    except OSError as error:
        raise RefusedAtStart(f"{setting}: {error.strerror or error}: {path}") from error
    except ValueError as error:
        raise RefusedAtStart(
            f"{setting}: {path} is no CURVE key file: {error}; fedmsg-certs curve makes one"
        ) from error
    if secret and mode & _OTHERS_MODE:
        log.warning("other users can read the key %s: chmod 0600 it, and consider a new key", path)
    if secret and not private:
        raise RefusedAtStart(f"{setting}: {path} has no secret key in it: name the file that ends in .key_secret")
    return public, private or b""


def _own_keys(config: Mapping[str, Any], because: str) -> tuple[bytes, bytes]:
    path = config.get("curve_key")
    if not path:
        raise RefusedAtStart(f"{because} is set, and curve_key is not: name the file with our own key pair")
    return _load(path, "curve_key", secret=True)


def identity(config: Mapping[str, Any], name: str) -> tuple[object, ...]:
    """Return what makes two connections to the same address different ones."""
    return config.get("curve_key"), (config.get("curve_servers") or {}).get(name)


def as_client(socket: Socket, config: Mapping[str, Any], name: str) -> None:
    """Make a socket connect only to the server whose key is configured, if one is.

    Raises:
        RefusedAtStart: A key can't be read.
    """
    path = (config.get("curve_servers") or {}).get(name)
    if not path:
        if socket.getsockopt(zmq.MECHANISM) == zmq.CURVE:
            # It has connected to a server with a key; this resets it.
            socket.setsockopt(zmq.CURVE_SERVER, 0)
        return
    setting = f"curve_servers[{name!r}]"
    server, _ = _load(path, setting, secret=False)
    public, private = _own_keys(config, setting)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_TIMEOUT_MS)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, private)


def prepare(config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Check that the keys for connecting to these servers can be read.

    Raises:
        RefusedAtStart: One can't.
    """
    servers = config.get("curve_servers") or {}
    for name in names:
        if servers.get(name):
            setting = f"curve_servers[{name!r}]"
            _load(servers[name], setting, secret=False)
            _own_keys(config, setting)


class GuardSettings(NamedTuple):
    """What a guard goes by.

    Attributes:
        folders: The folders with the public keys of clients, for the sides ``publish`` and ``subscribe``.
        secret: Our own secret key.
    """

    folders: dict[bytes, str]
    secret: bytes


def guard_settings(config: Mapping[str, Any]) -> GuardSettings | None:
    """Return what the guard of a relay goes by; None where both of its sides are open to all.

    A side is open without a folder of the public keys: ``curve_publishers``, ``curve_subscribers``.

    Raises:
        RefusedAtStart: A folder or our own key can't be read.
    """
    folders, secret = {}, b""
    for domain, setting in _FOLDER_SETTINGS.items():
        if config.get(setting):
            folder = folders[domain] = os.fspath(config[setting])
            if not os.path.isdir(folder):
                raise RefusedAtStart(f"{setting}: {folder} is not a folder")
            secret = _own_keys(config, setting)[1]
    return GuardSettings(folders, secret) if folders else None


class Guard(ServiceThread):
    """Decides who may connect to the two sides of a relay: libzmq asks it by ZAP (RFC 27).

    It fails closed: a guarded socket rejects every client while there is no answer.

    Attributes:
        rejections: How many connections and key files were rejected.
    """

    def __init__(self, guarded: GuardSettings) -> None:
        super().__init__("fedmsg-curve")
        self.rejections = RateLimitedLog(log)
        self._folders, self._secret = guarded
        # By domain: until when they are valid, and the keys.
        self._known: dict[bytes, tuple[float, frozenset[bytes]]] = {}

    def open(self, context: Context, inbound: Socket, outbound: Socket) -> None:
        """Guard both sockets, which are not bound yet."""
        for socket, domain in ((inbound, b"publish"), (outbound, b"subscribe")):
            if domain in self._folders:
                # Without this libzmq admits every client while no guard answers.
                socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
                socket.setsockopt(zmq.ZAP_DOMAIN, domain)
                socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_TIMEOUT_MS)
                socket.setsockopt(zmq.CURVE_SERVER, 1)
                socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
                self._allowed(domain)
        self._context = context
        self.start()

    def run(self) -> None:
        """Answer libzmq's questions until the guard is closed."""
        with self._context.socket(zmq.REP) as handler:
            handler.setsockopt(zmq.LINGER, 0)
            handler.bind("inproc://zeromq.zap.01")
            poller = zmq.Poller()
            poller.register(handler, zmq.POLLIN)
            poller.register(self.waker.fileno(), zmq.POLLIN)
            self.ready()
            while not self.stopping:
                if handler in dict(poller.poll()):
                    handler.send_multipart(self._answer(handler.recv_multipart()))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """Return the answer to a question: version, id, domain, address, identity, mechanism, key."""
        head = [*request, b"", b""][:2]
        try:
            status = self._status(request)
        except Exception as error:  # noqa: BLE001 - an error must admit no client
            self.rejections.report("error", f"rejected a connection, because its key can't be checked: {error!r}")
            status = [b"500", b"internal error"]
        return [*head, *status, b"", b""]

    def _status(self, request: list[bytes]) -> list[bytes]:
        domain, address, mechanism = request[2], request[3], request[5]
        key = request[6:] if len(request) == _ZAP_REQUEST_FRAMES else []
        if mechanism == b"CURVE" and key and key[0] in self._allowed(domain):
            return [b"200", b"OK"]
        side, folder = domain.decode(), self._folders[domain]
        self.rejections.report(
            side, f"rejected a connection from {address.decode()} to {side}: its key is not in {folder}"
        )
        # Not 400: after that libzmq never tries again, and the key may be admitted later.
        return [b"300", b"unknown key"]

    def _allowed(self, domain: bytes) -> frozenset[bytes]:
        """Return the keys in a folder, which is read once a second at most."""
        now = time.monotonic()
        until, keys = self._known.get(domain, (0.0, frozenset()))
        if now >= until:
            keys = frozenset(self._public_keys(self._folders[domain]))
            self._known[domain] = now + _RELOAD_INTERVAL, keys
        return keys

    def _public_keys(self, folder: str) -> Iterator[bytes]:
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".key"))
        except OSError as error:
            text = f"all connections are rejected: the folder {folder} can't be read: {error.strerror}"
            self.rejections.report("folder", text, folder)
            return
        for name in names:
            path = os.path.join(folder, name)
            try:
                yield _read_key_file(path)[0]
            except Exception as error:  # noqa: BLE001 - a broken file affects no other
                self.rejections.report("key file", f"the CURVE key {path} is ignored: {error}", path)
