# SPDX-License-Identifier: LGPL-2.1-or-later
"""CURVE at the port of a replay server: only clients whose keys are known can ask, and only the right server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zmq.auth

from fedmsg.exceptions import TransportError
from fedmsg.replay import get_replay
from tests.unit.replay.stores import ListStore, envelope, serving


def keys(folder: Path) -> dict[str, Any]:
    """Make key pairs; returns the settings of a server that knows one client."""
    for name in ("server", "client", "stranger"):
        _, secret = zmq.auth.create_certificates(folder, name)
        Path(secret).chmod(0o600)
    known = folder / "known"
    known.mkdir()
    (known / "client.key").write_bytes((folder / "client.key").read_bytes())
    return {"curve_key": str(folder / "server.key_secret"), "curve_subscribers": str(known)}


def asking(folder: Path, address: str, client: str | None, server: str = "server") -> list[dict[str, Any]]:
    settings: dict[str, Any] = {"replay_endpoints": {"shop": address}, "timeout": 5 if client == "client" else 0.5}
    if client is not None:
        settings["curve_key"] = str(folder / f"{client}.key_secret")
        settings["curve_servers"] = {"replay_endpoints.shop": str(folder / f"{server}.key")}
    return list(get_replay("shop", {"seq_id": 1}, settings))


def test_replay_server_with_curve_answers_known_clients_alone(tmp_path: Path) -> None:
    store = ListStore(envelope(1, seq_id=1))
    with serving(store, **keys(tmp_path)) as server:
        address = server.config["replay_endpoints"]["shop"]
        assert asking(tmp_path, address, "client") == [envelope(1, seq_id=1)]
        for client, key in ((None, "server"), ("stranger", "server"), ("stranger", "client")):
            with pytest.raises(TransportError, match="did not answer"):
                asking(tmp_path, address, client, key)
        assert asking(tmp_path, address, "client") == [envelope(1, seq_id=1)]


def test_replay_server_without_curve_is_open(tmp_path: Path) -> None:
    keys(tmp_path)
    with serving(ListStore(envelope(1, seq_id=1))) as server:
        address = server.config["replay_endpoints"]["shop"]
        assert asking(tmp_path, address, None) == [envelope(1, seq_id=1)]
        with pytest.raises(TransportError, match="did not answer"):
            asking(tmp_path, address, "stranger")


def test_two_guarded_replay_servers_in_one_process(tmp_path: Path) -> None:
    settings = keys(tmp_path)
    with serving(ListStore(envelope(1, seq_id=1)), **settings) as one:
        with serving(ListStore(envelope(1, seq_id=1)), **settings) as two:
            for server in (one, two):
                assert len(asking(tmp_path, server.config["replay_endpoints"]["shop"], "client")) == 1
        assert len(asking(tmp_path, one.config["replay_endpoints"]["shop"], "client")) == 1
