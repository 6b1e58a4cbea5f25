# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbered messages and replay, of ours with fedmsg 1.1.7 and the other way round, where 1.1.7 works at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto
from fedmsg.core import FedMsgContext
from fedmsg.replay import check_for_replay, get_replay
from fedmsg.testing import Process, free_address
from tests.certificates import Bench
from tests.interop.sides import NAMES, Side
from tests.unit.replay.stores import envelope, opened

NAME = "shop.here"
# fedmsg 1.1.7 needs all of them.
PLAIN = {"io_threads": 1, "high_water_mark": 0, "zmq_linger": 0, "timeout": 10}
BOTH_WAYS = pytest.mark.parametrize(
    ("answers", "asks"), [NAMES, NAMES[::-1], NAMES[:1] * 2], ids=["peer asks", "ours asks", "ours alone"]
)


def config(address: str) -> dict[str, Any]:
    return {**PLAIN, "name": NAME, "replay_endpoints": {NAME: address}}


def told(folder: Path, **content: Any) -> str:
    """Write what a program is to do into a file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"told-{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(content))
    return str(path)


@contextmanager
def serving(side: Side, folder: Path, messages: list[dict[str, Any]]) -> Iterator[str]:
    """Answer questions for messages by a server of one side; gives its address."""
    address = free_address()
    path = told(folder, url=f"sqlite:///{folder / 'store.db'}", messages=messages, config=config(address))
    process: Process = side.start(folder, "replay_serve.py", path, stdin=True)
    with process:
        process.wait_for("SERVING")
        yield address


def ask(side: Side, folder: Path, address: str, *tasks: dict[str, Any]) -> list[Any]:
    """Have one side ask."""
    lines = side.ask(folder, "replay_ask.py", told(folder, name=NAME, config=config(address), tasks=tasks))
    answers = [json.loads(line.partition("ANSWER ")[2]) for line in lines if "ANSWER " in line]
    assert len(answers) == len(tasks), lines
    return answers


def stored(*numbers: int) -> list[dict[str, Any]]:
    return [envelope(number, seq_id=number) for number in numbers]


@BOTH_WAYS
def test_questions_and_answers(answers: str, asks: str, sides: dict[str, Side], tmp_path: Path) -> None:
    messages = [envelope(number) for number in range(1, 8)]
    questions: list[tuple[dict[str, Any], Any]] = [
        ({"seq_id": 3}, stored(3)),
        ({"seq_ids": [5, 2]}, stored(2, 5)),
        ({"msg_id": envelope(4)["msg_id"]}, stored(4)),
        ({"msg_ids": [envelope(4)["msg_id"], envelope(1)["msg_id"]]}, stored(1, 4)),
        ({"time": [1_700_000_002, 1_700_000_004]}, stored(2, 3, 4)),
        ({"seq_id": 1, "msg_id": envelope(4)["msg_id"]}, stored(1, 4)),
        ({}, stored(*range(1, 8))),
        ({"seq_id": 99}, "error: 'There was no match for the given query'"),
        ({"nonsense": 99}, "error: 'Unsupported field: \"key\"'"),
        ({"time": 99}, "error: 'Ill-format \"time\" field'"),
        ({"seq_id_range": 99}, "error: 'Ill-format \"sed_id_range\" field'"),
    ]
    with serving(sides[answers], tmp_path / "server", messages) as address:
        (tmp_path / "client").mkdir()
        got = ask(sides[asks], tmp_path / "client", address, *({"query": query} for query, _ in questions))
    assert got == [answer for _, answer in questions]


@pytest.mark.parametrize("asks", NAMES)
def test_our_server_answers_ranges(asks: str, sides: dict[str, Side], tmp_path: Path) -> None:
    with serving(sides["ours"], tmp_path / "server", [envelope(number) for number in range(1, 8)]) as address:
        (tmp_path / "client").mkdir()
        got = ask(
            sides[asks], tmp_path / "client", address,
            {"query": {"seq_id_range": [3, 5]}}, {"after": 2, "message": envelope(7, seq_id=7)},
        )  # fmt: skip
    assert got[0] == stored(3, 4, 5)
    assert [message["seq_id"] for message in got[1]][-1] == 7
    if asks == "ours":
        assert got[1] == stored(3, 4, 5, 6, 7)


def test_we_fill_gaps_from_a_server_of_1x_which_refuses_ranges(sides: dict[str, Side], tmp_path: Path) -> None:
    with serving(sides["peer"], tmp_path / "server", [envelope(number) for number in range(1, 8)]) as address:
        with pytest.raises(ValueError, match="Something went wrong"):
            list(get_replay(NAME, {"seq_id_range": [3, 5]}, config(address)))
        kept = {NAME: 2}
        assert check_for_replay(NAME, kept, envelope(7, seq_id=7), config(address)) == stored(3, 4, 5, 6, 7)
    assert kept == {NAME: 7}


def test_we_take_over_what_1x_has_stored(sides: dict[str, Side], tmp_path: Path) -> None:
    folder, url = tmp_path / "store", f"sqlite:///{tmp_path / 'store.db'}"
    old = [envelope(number) for number in range(1, 4)]
    sides["peer"].ask(folder, "replay_serve.py", told(folder, url=url, messages=old, config=None))
    with opened(url) as store:
        store.add(envelope(4))
        assert store.get({}) == stored(1, 2, 3, 4)
    # And it can go back.
    sides["peer"].ask(folder, "replay_serve.py", told(folder, url=url, messages=[envelope(5)], config=None))
    with opened(url) as store:
        store.add(envelope(6))
        assert store.get({}) == stored(1, 2, 3, 4, 5, 6)


def test_signed_and_numbered_messages_are_valid_at_1x(sides: dict[str, Side], tmp_path: Path, sqlite_url: str) -> None:
    bench = Bench(tmp_path)
    bench.config["crypto_validate_backends"] = ["x509"]
    settings = {**bench.config, "sign_messages": True, "certnames": {NAME: bench.config["certname"]}}
    with FedMsgContext(
        name=NAME, endpoints={NAME: [free_address()]}, persistent_store=sqlite_url, post_init_sleep=0, **settings
    ) as context:
        contents: list[Any] = [{"n": 1}, {"title": "ü \u2028 \U0001f600", "n": [0.1, 1e22, 10**30, None, {}]}, "text"]
        for msg in contents:
            context.publish("order", msg, modname="shop")
    with opened(sqlite_url) as store:
        messages = store.get({})
    assert [message["seq_id"] for message in messages] == [1, 2, 3]
    assert all(crypto.validate(message, **bench.config) for message in messages)
    tasks = [("validate", message, bench.config) for message in messages]
    tasks += [("validate", {**message, "seq_id": 9}, bench.config) for message in messages]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks))
    (tmp_path / "run").mkdir()
    lines = sides["peer"].ask(tmp_path / "run", "signatures.py", str(path))
    answers = [json.loads(line.partition("ANSWER ")[2]) for line in lines if "ANSWER " in line]
    assert answers == [True] * 3 + [False] * 3


@pytest.mark.parametrize("first", NAMES)
def test_both_sides_write_into_one_store_in_turn(first: str, sides: dict[str, Side], tmp_path: Path) -> None:
    folder, url = tmp_path / "store", f"sqlite:///{tmp_path / 'store.db'}"
    path = told(folder, url=url, messages=[], config=None, by_line=True)
    second = NAMES[1 - NAMES.index(first)]
    with ExitStack() as stack:
        writers = []
        for number, name in enumerate((first, second), 1):
            writer = stack.enter_context(sides[name].start(folder, "replay_serve.py", path, stdin=True))
            writers.append(writer)
            # The table is that of the first.
            _store(writer, number)
        for number in range(3, 13):
            _store(writers[number % 2], number)
    with opened(url) as store:
        assert [message["seq_id"] for message in store.get({})] == [*range(1, 13)]
        assert store.add(envelope(13))["seq_id"] == 13


def _store(writer: Process, number: int) -> None:
    """Have a program store a message, under a number that follows the last one."""
    assert writer.popen.stdin is not None
    writer.popen.stdin.write(json.dumps(envelope(number)).encode() + b"\n")
    writer.popen.stdin.flush()
    writer.wait_for(f'"seq_id": {number}')
