# SPDX-License-Identifier: LGPL-2.1-or-later
"""CURVE at the stream port: only readers whose keys are known, under the names that ``curve_servers`` has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zmq.auth

from fedmsg.exceptions import RefusedAtStart, TransportError
from fedmsg.stream import asking
from fedmsg.stream.subscription import Subscription
from fedmsg.testing import wait_until
from tests.integration.streams import body, positions, serving, take
from tests.stream_memory import MemoryLog


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a folder with the keys of a relay, a reader and a stranger; the reader's are admitted."""
    (tmp_path / "readers").mkdir()
    for name in ("relay", "reader", "stranger"):
        _, secret = zmq.auth.create_certificates(tmp_path, name)
        Path(secret).chmod(0o600)
    (tmp_path / "readers" / "reader.key").write_bytes((tmp_path / "reader.key").read_bytes())
    return tmp_path


def of_server(keys: Path) -> dict[str, Any]:
    return {"curve_key": str(keys / "relay.key_secret"), "curve_subscribers": str(keys / "readers")}


def of_client(keys: Path, name: str, server: str, key: str = "relay") -> dict[str, Any]:
    return {"curve_key": str(keys / f"{name}.key_secret"), "curve_servers": {server: str(keys / f"{key}.key")}}


@pytest.mark.parametrize("server", ["relay_stream", "relay_outbound"])
def test_reader_that_is_known(server: str, keys: Path) -> None:
    log = MemoryLog()
    log.add(body(1))
    config = of_client(keys, "reader", server)
    with serving(log, of_server(keys)) as served, Subscription(config, served.addresses, after=0) as reader:
        assert positions(take(reader, 1)) == [1]
        assert asking.info(config, served.addresses[0])["newest"] == 1


@pytest.mark.parametrize(
    "wrong",
    [("stranger", "relay_stream"), ("reader", "relay_stream", "stranger"), ("reader", "relay_inbound")],
    ids=str,
)
def test_reader_that_is_not_known(wrong: tuple[str, ...], keys: Path) -> None:
    log = MemoryLog()
    log.add(body(1))
    with serving(log, of_server(keys)) as served:
        with pytest.raises(TransportError):
            asking.info(of_client(keys, *wrong), served.addresses[0], 0.5)
        with Subscription(of_client(keys, *wrong), served.addresses, after=0) as reader:
            reader.wait(0.5)
            assert reader.poll(1) == []
            if wrong[0] == "stranger":
                # Admitted later, it comes in.
                (keys / "readers" / "stranger.key").write_bytes((keys / "stranger.key").read_bytes())
                wait_until(lambda: reader.poll(1) != [])


def test_keys_that_can_not_be_read_are_reported_at_the_start(keys: Path) -> None:
    with pytest.raises(RefusedAtStart):
        Subscription(of_client(keys, "nobody", "relay_stream"), "tcp://127.0.0.1:9")
    with pytest.raises(RefusedAtStart), serving(MemoryLog(), {**of_server(keys), "curve_subscribers": "/nowhere"}):
        pass
