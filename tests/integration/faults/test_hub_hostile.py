# SPDX-License-Identifier: LGPL-2.1-or-later
"""Malformed and forged messages thrown at a hub: none ends it, none is taken, good ones come through."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import fedmsg.crypto
from fedmsg.testing import Process, free_address, wait_until
from tests.certificates import Bench, Holder, authority
from tests.hubs import HubProcess, install
from tests.integration.faults import hostile
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import memory, threads
from tests.integration.faults.test_hostile_messages import SLACK, Enemy
from tests.open_files import descriptors

# Each says what it is handed, as text of one line.
PLUGIN = """
import json, os
from fedmsg.consumers import FedmsgConsumer

def say(name, msg):
    os.write(1, (json.dumps([name, msg]) + "\\n").encode())

class Taking(FedmsgConsumer):
    topic = "*"
    config_key = "taking.enabled"
    validate_signatures = False
    def consume(self, message):
        say("Taking", message["body"]["msg"])

class Text(FedmsgConsumer):
    topic = "*"
    config_key = "taking.enabled"
    jsonify = False
    validate_signatures = False
    def consume(self, message):
        say("Text", json.loads(message.body)["msg"])

class Own(FedmsgConsumer):
    topic = "*"
    config_key = "taking.enabled"
    validate_signatures = False
    def _consume(self, message):
        say("Own", message["body"]["msg"])

class Checking(FedmsgConsumer):
    topic = "*"
    config_key = "checking.enabled"
    validate_signatures = True
    def consume(self, message):
        say("Checking", message["body"]["msg"])
"""
TAKING = ("Taking", "Text", "Own")
POINTS = {"moksha.consumer": [f"{name.lower()} = takers:{name}" for name in (*TAKING, "Checking")]}


def said(hub: Process, name: str) -> list[Any]:
    """Give the messages that a consumer was handed."""
    return [json.loads(line)[1] for line in list(hub.out) if line.startswith(f'["{name}", ')]


def forged(bench: Bench) -> list[list[bytes]]:
    """Give messages that look signed, and are not by whom they say."""
    good = fedmsg.crypto.sign(hostile.envelope(msg={"n": "forged"}), **bench.config)
    other = bench.folder / "other"
    other.mkdir()
    by_stranger = {
        **bench.config,
        "ssldir": str(other),
        "certname": Holder("shell.test", authority("Eve")).write(other),
    }
    changes: list[dict[str, Any]] = [
        {"msg": {"n": "changed"}},
        {"i": 2},
        {"timestamp": 1},
        {"msg_id": "2023-2"},
        {"username": "root"},
        {"seq_id": 5},
        {"crypto": "gpg"},
        {"crypto": "x509-sha256"},
        {"crypto": "none"},
        {"signature": ""},
        {"signature": "AAAA"},
        {"signature": "\x00"},
        {"signature": good["signature"][::-1]},
        {"certificate": ""},
        {"certificate": "AAAA"},
        {"certificate": good["signature"]},
    ]
    bodies: list[dict[str, Any]] = [{**good, **change} for change in changes]
    bodies += [{key: value for key, value in good.items() if key != gone} for gone in ("signature", "certificate")]
    bodies += [hostile.envelope(), fedmsg.crypto.sign(hostile.envelope(), **by_stranger)]
    return [hostile.message(json.dumps(body).encode()) for body in bodies]


@pytest.mark.soak
def test_nothing_malformed_is_taken(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    total = 1_000_000 if full_size else 6_000
    install(tmp_path, "takers", {"takers.py": PLUGIN}, POINTS)
    address = free_address()
    config = {"endpoints": {"enemy": [address]}, "taking.enabled": True}
    with Enemy(address) as enemy, HubProcess(tmp_path, config) as hub:
        hub.wait_ready()
        enemy.wait_for_subscribers(1)
        pid = hub.popen.pid
        taken = 0

        def throw(messages: list[list[bytes]], good: int = 1) -> None:
            nonlocal taken
            word = enemy.send(messages)
            wait_until(lambda: all({"n": word} in said(hub, name)[-1:] for name in TAKING), timeout=60)
            assert [len(said(hub, name)) for name in TAKING] == [good] * 3
            taken += good
            del hub.out[:]

        # It says on standard output how it begins, which is no message.
        del hub.out[:]
        for one in hostile.big() + hostile.too_big():
            throw([one.frames])
        odd = hostile.odd_but_good()
        throw(odd, len(odd) + 1)
        endless = itertools.cycle([one.frames for one in hostile.small()])
        throw([next(endless) for _ in range(3000)])
        before, open_before = memory(pid), (threads(pid), descriptors(pid))
        while enemy.sent < total:
            throw([next(endless) for _ in range(1000)])
        after = memory(pid)
        wait_until(lambda: threads(pid) <= open_before[0] and descriptors(pid) <= open_before[1])
        assert hub.stop() == 0
    assert after - before < SLACK
    figures(
        "hostile messages at a hub", sent=enemy.sent, arrived=0, lost=0, exits=0, memory_before=before,
        memory_after=after, remarks=f"{taken} good ones came through to each of {len(TAKING)}",
    )  # fmt: skip


@pytest.mark.soak
def test_nothing_forged_is_taken(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    total = 200_000 if full_size else 2_000
    (tmp_path / "pki").mkdir()
    bench = Bench(tmp_path / "pki")
    install(tmp_path / "home", "takers", {"takers.py": PLUGIN}, POINTS)
    address = free_address()
    config = {**bench.config, "endpoints": {"enemy": [address]}, "checking.enabled": True, "max_seen_ids": 1000}
    endless = itertools.cycle([*forged(bench), *(one.frames for one in hostile.small())])
    with Enemy(address) as enemy, HubProcess(tmp_path / "home", config) as hub:
        hub.wait_ready()
        enemy.wait_for_subscribers(1)
        pid = hub.popen.pid
        rounds = itertools.count(1)

        def throw(count: int) -> None:
            number = next(rounds)
            good = fedmsg.crypto.sign(hostile.envelope(msg={"good": number}, msg_id=f"2024-{number}"), **bench.config)
            frames = hostile.message(json.dumps(good).encode())
            # The good one comes three times, and is taken once.
            enemy.send([*(next(endless) for _ in range(count)), frames, frames, frames])
            wait_until(lambda: {"good": number} in said(hub, "Checking"), timeout=60)

        throw(500)
        before, open_before = memory(pid), (threads(pid), descriptors(pid))
        while enemy.sent < total:
            throw(500)
        after = memory(pid)
        wait_until(lambda: threads(pid) <= open_before[0] and descriptors(pid) <= open_before[1])
        taken = said(hub, "Checking")
        assert hub.stop() == 0
    assert taken == [{"good": number} for number in range(1, next(rounds))]
    assert after - before < SLACK
    figures(
        "forged messages at a hub", sent=enemy.sent, arrived=0, lost=0, exits=0, memory_before=before,
        memory_after=after, remarks=f"{len(taken)} signed ones came through once",
    )  # fmt: skip
