# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server and those who ask it, over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from fedmsg import encoding
from fedmsg.exceptions import AddressInUse, ConfigError, MissingReplayEndpoint, QueryError, TransportError
from fedmsg.replay import ReplayContext, check_for_replay, get_replay
from fedmsg.replay.client import Client
from fedmsg.testing import free_address
from tests.unit.replay.stores import ListStore, envelope, opened, serving


@pytest.fixture
def server(sqlite_url: str) -> Iterator[ReplayContext]:
    """Give a server of fifty messages."""
    with opened(sqlite_url) as store:
        store.add_many(envelope(number) for number in range(1, 51))
        with serving(store) as server:
            yield server


@pytest.fixture
def plain() -> Iterator[zmq.Socket[bytes]]:
    """Give a plain REQ socket, as other programs have it."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        yield socket


def ask(socket: zmq.Socket[bytes], question: bytes) -> list[bytes]:
    socket.send(question)
    assert socket.poll(10_000), "no answer"
    return socket.recv_multipart()


def numbers(messages: Any) -> list[int]:
    return [message["seq_id"] for message in messages]


def test_a_req_gets_a_frame_for_each_message(server: ReplayContext, plain: zmq.Socket[bytes]) -> None:
    plain.connect(server.config["replay_endpoints"]["shop"])
    frames = ask(plain, b'{"seq_id_range": [2, 4]}')
    assert frames == [encoding.dumps(envelope(number, seq_id=number)).encode() for number in (2, 3, 4)]
    assert len(ask(plain, b"{}")) == 50
    assert server.counts["answered"] == 2


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (b'{"seq_id": 51}', b"error: 'There was no match for the given query'"),
        (b'{"no": 51}', b"error: 'Unsupported field: \"key\"'"),
        (b'{"time": 51}', b"error: 'Ill-format \"time\" field'"),
        (b"", b"error: 'The query is not JSON'"),
        (b"\xff\xfe", b"error: 'The query is not JSON'"),
        (b"nonsense", b"error: 'The query is not JSON'"),
        (b"[" * 100_000, b"error: 'The query is not JSON'"),
        (b"[1]", b"error: 'The query is not a JSON object'"),
        (b"null", b"error: 'The query is not a JSON object'"),
        (b'{"seq_id": ' + b"9" * 5000 + b"}", b"error: 'The query is not JSON'"),
    ],
)
def test_what_can_not_be_answered_gets_an_error(
    server: ReplayContext, plain: zmq.Socket[bytes], question: bytes, answer: bytes
) -> None:
    plain.connect(server.config["replay_endpoints"]["shop"])
    assert ask(plain, question) == [answer]
    assert len(ask(plain, b'{"seq_id": 1}')) == 1


def test_a_question_of_several_frames(server: ReplayContext, plain: zmq.Socket[bytes]) -> None:
    plain.connect(server.config["replay_endpoints"]["shop"])
    plain.send_multipart([b"{}", b"{}"])
    assert plain.recv_multipart() == [b"error: 'A question has one frame'"]


def test_limits(sqlite_url: str, plain: zmq.Socket[bytes]) -> None:
    with opened(sqlite_url) as store:
        store.add_many(envelope(number) for number in range(1, 12))
        with serving(store, replay_max=10) as server:
            plain.connect(server.config["replay_endpoints"]["shop"])
            assert ask(plain, b"{}") == [b"error: 'More than 10 messages: ask for less'"]
            assert len(ask(plain, b'{"seq_id_range": [2, 11]}')) == 10
            assert numbers(get_replay("shop", {"seq_id_range": [1, 5000]}, server.config)) == list(range(1, 12))


def test_a_limit_in_bytes(sqlite_url: str) -> None:
    with opened(sqlite_url) as store:
        store.add_many(envelope(number, msg={"text": "x" * 1000}) for number in range(1, 1200))
        with serving(store, replay_max_bytes=100_000) as server:
            with pytest.raises(QueryError, match="More than 100000 bytes: ask for less"):
                next(get_replay("shop", {"seq_id_range": [1, 300]}, server.config))
            assert numbers(get_replay("shop", {"seq_id_range": [1, 1199]}, server.config)) == list(range(1, 1200))
        with serving(store, replay_max_bytes=1) as server:
            assert numbers(get_replay("shop", {"seq_id": 7}, server.config)) == [7]


def test_a_store_of_somebody_else() -> None:
    with serving(ListStore(envelope(1, seq_id=1), envelope(2, seq_id=2))) as server:
        assert numbers(get_replay("shop", {"seq_id_range": [0, 9]}, server.config)) == [1, 2]
        with pytest.raises(QueryError, match="There was no match"):
            next(get_replay("shop", {"seq_id": 3}, server.config))


def test_a_store_that_breaks_gets_an_error_and_the_next_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    store = ListStore(envelope(1, seq_id=1))
    with serving(store) as server:
        with pytest.raises(QueryError, match="The store of messages cannot be read"):
            next(get_replay("shop", {"msg_id": "x"}, server.config))
        assert numbers(get_replay("shop", {"seq_id": 1}, server.config)) == [1]
    assert "a query could not be answered: 'seq_id'" in caplog.text


# ------------------------------------------------------------------ opening and closing


def test_without_a_store() -> None:
    for store in (None, object()):
        with pytest.raises(ValueError, match=r"^No valid persistent_store config value found"):
            ReplayContext(name="shop", replay_endpoints={"shop": free_address()}, persistent_store=store)


def test_without_an_address() -> None:
    several: list[dict[str, Any]] = [{}, {"replay_endpoints": {}}, {"replay_endpoints": {"other": free_address()}}]
    for settings in several:
        with pytest.raises(KeyError):
            ReplayContext(name="shop", persistent_store=ListStore(), **settings)
    with pytest.raises(ConfigError, match=r"replay_endpoints\['shop'\]"):
        ReplayContext(name="shop", persistent_store=ListStore(), replay_endpoints={"shop": "nonsense"})


def test_a_taken_address(server: ReplayContext) -> None:
    with pytest.raises(OSError, match=r"^The replay endpoint cannot be bound\.") as caught:
        ReplayContext(**server.config)
    assert isinstance(caught.value, AddressInUse)


def test_what_it_keeps(server: ReplayContext) -> None:
    assert server.config["name"] == "shop"
    assert isinstance(server.publisher, zmq.Socket)
    assert isinstance(server.context, zmq.Context)
    assert "." not in server.hostname


def test_one_turn_by_hand(plain: zmq.Socket[bytes]) -> None:
    address = free_address()
    config = {
        "name": "shop",
        "persistent_store": ListStore(envelope(1, seq_id=1)),
        "replay_endpoints": {"shop": address},
    }
    with ReplayContext(**config) as server:
        plain.connect(address)
        thread = threading.Thread(target=server._req_rep_cycle)
        thread.start()
        assert len(ask(plain, b'{"seq_id": 1}')) == 1
        thread.join()
        server._req_rep_cycle()
        server.close()
        server.close()


def test_a_forgotten_one_complains() -> None:
    config = {"name": "shop", "persistent_store": ListStore(), "replay_endpoints": {"shop": free_address()}}
    server = ReplayContext(**config)
    with pytest.warns(ResourceWarning, match="unclosed ReplayContext"):
        del server
    client = Client("shop", config)
    with pytest.warns(ResourceWarning, match="unclosed Client"):
        del client


def test_a_url_is_opened_and_closed(sqlite_url: str) -> None:
    with serving(sqlite_url) as server:
        server.store.add(envelope(1))
        assert numbers(get_replay("shop", {"seq_id": 1}, server.config)) == [1]


# ------------------------------------------------------------------ asking


def test_nothing_is_sent_before_it_is_wanted() -> None:
    get_replay("nobody", {}, {})
    with pytest.raises(MissingReplayEndpoint, match=r"^No appropriate replay endpoint found for nobody$") as caught:
        next(get_replay("nobody", {}, {}))
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ValueError)


def test_a_silent_server() -> None:
    with pytest.raises(TransportError, match=r"did not answer within 0\.1 s"):
        next(get_replay("shop", {}, {"replay_endpoints": {"shop": free_address()}, "timeout": 0.1}))


def test_an_answer_that_is_no_json() -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        config = {"replay_endpoints": {"shop": f"tcp://127.0.0.1:{port}"}}
        for answer in (b"\x00nonsense", b"[]"):
            found = get_replay("shop", {}, config, context=context)
            thread = threading.Thread(target=lambda answer=answer: (socket.recv(), socket.send(answer)))
            thread.start()
            with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is what was received
                next(found)
            assert str(caught.value) == answer.decode()
            thread.join()


def test_many_single_numbers_are_asked_for_in_parts(server: ReplayContext) -> None:
    wanted = list(range(5000, 0, -1))
    with pytest.raises(QueryError, match="There was no match"):
        list(get_replay("shop", {"seq_ids": wanted[:2000]}, server.config))
    assert numbers(get_replay("shop", {"seq_ids": wanted[-2000:]}, server.config)) == list(range(1, 51))


def test_a_range_without_anything(server: ReplayContext) -> None:
    with pytest.raises(QueryError, match="There was no match"):
        list(get_replay("shop", {"seq_id_range": [100, 10**12]}, server.config))
    assert server.counts["rejected"] < 20


def test_check_for_replay_fills_a_gap(server: ReplayContext) -> None:
    kept = {"shop": 3}
    message = envelope(9, seq_id=9)
    assert numbers(check_for_replay("shop", kept, message, server.config)) == [4, 5, 6, 7, 8, 9]
    assert kept == {"shop": 9}
    wrapped = {"topic": message["topic"], "body": envelope(12, seq_id=12)}
    found = check_for_replay("shop", kept, wrapped, server.config)
    assert [one["body"]["seq_id"] for one in found] == [10, 11, 12]
    assert {one["topic"] for one in found} == {message["topic"]}


def test_check_for_replay_from_many_threads(server: ReplayContext) -> None:
    found: dict[int, list[int]] = {}

    def check(thread: int) -> None:
        kept = {"shop": thread}
        found[thread] = numbers(check_for_replay("shop", kept, envelope(50, seq_id=50), server.config))

    threads = [threading.Thread(target=check, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: list(range(number + 1, 51)) for number in range(1, 9)}


def test_stored_messages_are_json(server: ReplayContext, plain: zmq.Socket[bytes]) -> None:
    plain.connect(server.config["replay_endpoints"]["shop"])
    (frame,) = ask(plain, b'{"seq_id": 1}')
    assert json.loads(frame) == envelope(1, seq_id=1)
