# SPDX-License-Identifier: LGPL-2.1-or-later
"""Those who ask and do not read: what the server keeps for them, and for how long."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import zmq

from fedmsg.replay import ReplayContext, get_replay
from fedmsg.testing import free_address, wait_until
from tests.integration.faults.ground import frame, raw, shake_hands
from tests.unit.replay.stores import envelope, opened, serving

ALL = b"\x01\x00" + frame(b"{}")


def numbers(messages: Any) -> list[int]:
    return [message["seq_id"] for message in messages]


def test_one_who_does_not_read_is_not_looked_up_for_any_more(sqlite_url: str) -> None:
    with opened(sqlite_url) as store, serving(store, replay_max_bytes=10**7) as server:
        store.add_many(envelope(number, msg="x" * 100_000) for number in range(50))
        with raw(server.config["replay_endpoints"]["shop"], window=4096) as connection:
            shake_hands(connection, b"DEALER")
            # It does not take them either, once it is not listened to.
            connection.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                for _ in range(100):
                    connection.sendall(ALL * 10)
            wait_until(lambda: server.counts["dropped"] > 20)
            assert server.counts["answered"] < 20
            assert numbers(get_replay("shop", {"seq_ids": [1, 50]}, server.config)) == [1, 50]


def test_answers_get_smaller_as_room_gets_scarce(sqlite_url: str) -> None:
    # Of each answer the kernel takes 4 MB from us, and holds them.
    biggest = 7_000_000
    with opened(sqlite_url) as store, serving(store, replay_max_bytes=biggest) as server:
        store.add_many(envelope(number, msg="x" * 100_000) for number in range(1, 61))
        assert server._server.reply_limit() == biggest
        with contextlib.ExitStack() as connections:
            for count in range(1, 16):
                connection = connections.enter_context(raw(server.config["replay_endpoints"]["shop"], window=4096))
                shake_hands(connection, b"DEALER")
                connection.sendall(ALL)
                wait_until(functools.partial(_has_looked_at, server, count))
            assert 0 < server._server.reply_limit() < 6_000_000
            assert server.counts["rejected"] > 0
            # Who asks for as much as they do gets it in smaller parts.
            assert numbers(get_replay("shop", {"seq_id_range": [1, 1001]}, server.config)) == list(range(1, 61))
        wait_until(lambda: server._server.reply_limit() == biggest)


def _has_looked_at(server: ReplayContext, count: int) -> bool:
    return server.counts["answered"] + server.counts["rejected"] >= count


def test_one_that_has_gone_costs_nothing(sqlite_url: str) -> None:
    with opened(sqlite_url) as store, serving(store) as server:
        store.add(envelope(1))
        address = server.config["replay_endpoints"]["shop"]
        for _ in range(50):
            with raw(address) as connection:
                shake_hands(connection, b"REQ")
                connection.sendall(ALL)
        assert numbers(get_replay("shop", {"seq_id": 1}, {**server.config, "timeout": 20})) == [1]
        wait_until(lambda: not [entry for entry in server._server._pending if not entry[0].done])


def test_a_question_that_waits_for_its_server_is_answered_when_it_starts(sqlite_url: str) -> None:
    address = free_address()
    with opened(sqlite_url) as store, zmq.Context() as context, context.socket(zmq.REQ) as asker:
        store.add(envelope(1))
        asker.linger = 0
        asker.connect(address)
        asker.send(b'{"seq_id": 1}')
        with serving(store, address=address):
            assert asker.poll(10_000)
            assert len(asker.recv_multipart()) == 1
