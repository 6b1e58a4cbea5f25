# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signs and checks messages as an application does, or by the bare parts, and times it.

``fedmsg`` is ours or the peer's, whichever this Python has; ``limit`` is the library
``cryptography`` with keys that are read once.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from tests.bench.programs import payload
from tests.bench.programs.link import serve

_PADDING = padding.PKCS1v15()
_SHA1 = hashes.SHA1()
_CREDENTIALS = ("signature", "certificate")

_publish: list[Callable[[], object]] = []
_messages: list[dict[str, Any]] = []
_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()


def open_fedmsg(address: str, config: dict[str, Any]) -> None:
    """Publish through fedmsg, signed, bound at an address."""
    import fedmsg

    message = payload.message(300)
    fedmsg.init(name="bench", endpoints={"bench": [address]}, post_init_sleep=0, sign_messages=True, **config)
    _publish.append(lambda: fedmsg.publish(topic="update", msg=message, modname="bench"))


def open_limit(address: str, config: dict[str, Any]) -> None:
    """Publish the same by plain means: uuid4, json, one signature, json, send."""
    socket = _context.socket(zmq.PUB)
    socket.set_hwm(200_000)
    socket.bind(address)
    folder, name = Path(config["ssldir"]), config["certnames"]["bench"]
    key: Any = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
    certificate = base64.encodebytes((folder / f"{name}.crt").read_bytes()).decode()
    message, numbers = payload.message(300), itertools.count(1)

    def publish() -> None:
        envelope = {
            "crypto": "x509",
            "i": next(numbers),
            "msg": message,
            "msg_id": f"{time.localtime().tm_year}-{uuid.uuid4()}",
            "timestamp": int(time.time()),
            "topic": payload.TOPIC,
            "username": "bench",
        }
        signature = key.sign(_canonical(envelope), _PADDING, _SHA1)
        envelope["signature"] = base64.encodebytes(signature).decode()
        envelope["certificate"] = certificate
        socket.send_multipart([payload.TOPIC.encode(), _canonical(envelope)])

    _publish.append(publish)


def publish(count: int) -> float:
    """Publish so many messages; gives how many there were in a second."""
    call = _publish[0]
    start = time.perf_counter()
    for _ in range(count):
        call()
    return count / (time.perf_counter() - start)


def sign(count: int, config: dict[str, Any]) -> float:
    """Make so many bare RSA signatures; gives how many in a second."""
    folder, name = Path(config["ssldir"]), config["certnames"]["bench"]
    key: Any = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
    data = payload.body(0)
    start = time.perf_counter()
    for _ in range(count):
        key.sign(data, _PADDING, _SHA1)
    return count / (time.perf_counter() - start)


def load(path: str) -> None:
    """Read signed messages, one in each line."""
    _messages[:] = [json.loads(line) for line in Path(path).read_text().splitlines()]


def validate(count: int, config: dict[str, Any]) -> float:
    """Check so many messages, all of which are valid, with fedmsg; gives how many in a second."""
    import fedmsg.crypto

    check, messages = fedmsg.crypto.validate, itertools.islice(itertools.cycle(_messages), count)
    start = time.perf_counter()
    valid = sum(bool(check(message, **config)) for message in messages)
    seconds = time.perf_counter() - start
    assert valid == count, f"{count - valid} of {count} are not valid"
    return count / seconds


def verify(count: int) -> float:
    """Do the bare RSA verifications, with everything else done before; gives how many in a second."""
    ready = []
    for message in _messages:
        loaded = x509.load_pem_x509_certificate(base64.b64decode(message["certificate"]))
        signed = {key: value for key, value in message.items() if key not in _CREDENTIALS}
        key: Any = loaded.public_key()
        ready.append((key.verify, base64.b64decode(message["signature"]), _canonical(signed)))
    start = time.perf_counter()
    for check, signature, data in itertools.islice(itertools.cycle(ready), count):
        check(signature, data, _PADDING, _SHA1)
    return count / (time.perf_counter() - start)


def _canonical(envelope: dict[str, Any]) -> bytes:
    return json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()


serve(
    {
        "open_fedmsg": open_fedmsg,
        "open_limit": open_limit,
        "publish": publish,
        "sign": sign,
        "load": load,
        "validate": validate,
        "verify": verify,
    }
)
