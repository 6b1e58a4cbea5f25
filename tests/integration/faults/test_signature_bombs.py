# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signatures and certificates made to be dear to check, among good messages to a real tail and hub."""

from __future__ import annotations

import base64
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto, encoding
from fedmsg.testing import Process, wait_until
from tests.certificates import Bench, encoded, many_names, with_version
from tests.gnupg import Home
from tests.hubs import Feed, HubProcess, envelope
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import memory

PRINTER = """
import os
from fedmsg.consumers import FedmsgConsumer

class Printer(FedmsgConsumer):
    topic = "*"
    config_key = "test.enabled"

    def consume(self, message):
        os.write(1, f"handled {message['body']['msg']}\\n".encode())
"""
# Growth that is no leak: the allocator keeps room for messages of 4 MiB. Each round has 8 MiB of them.
SLACK_KIB = 64 * 1024
ROUNDS, ROUNDS_AT_FULL_SIZE, WARM_UP = 10, 300, 5


def bombs(bench: Bench, signed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return messages that must be rejected, each of which costs as much as its kind can."""
    room = "\n" * (4 * 1024 * 1024)
    gpg = {key: value for key, value in signed.items() if key != "certificate"} | {"crypto": "gpg"}

    def packets(raw: bytes) -> dict[str, Any]:
        return {**gpg, "signature": base64.b64encode(raw).decode()}

    return [
        {**signed, "certificate": signed["certificate"] + room},
        {**signed, "signature": signed["signature"] + room},
        {**signed, "certificate": encoded(many_names(20_000))},
        {**signed, "certificate": encoded(many_names(1_200))},
        {**signed, "certificate": encoded(with_version(bench.leaf.pem, 9))},
        {**signed, "msg": "forged"},
        packets(b"\xc2\x01\x00" * 13_000),
        packets(b"\xc2\x01\x00" * 2_000),
        # One packet: that GnuPG has to look at, in a process of its own.
        packets(b"\xc2\xc1\x00" + b"\x04" * 256),
    ]


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as made:
        yield made


@pytest.mark.soak
def test_signature_bombs_delay_good_messages_little(
    tmp_path: Path, home: Home, figures: Figures, full_size: bool
) -> None:
    (tmp_path / "keys").mkdir()
    bench = Bench(tmp_path / "keys")
    accepted = {"crypto_validate_backends": ["x509", "gpg"], "gpg_home": str(home.folder)}
    rounds = ROUNDS_AT_FULL_SIZE if full_size else ROUNDS
    (tmp_path / "printing.py").write_text(PRINTER)
    with Feed(**{**bench.config, **accepted}, validate_signatures=True) as feed:
        signed = crypto.sign(envelope("shop", "bomb"), **bench.config)
        thrown = [(one["topic"].encode(), encoding.dumps(one).encode()) for one in bombs(bench, signed)]
        with HubProcess(tmp_path, feed.config, "--with-consumers", "printing:Printer") as hub:
            environ = {"FEDMSG_CONFIG": str(tmp_path / "hub-config.py")}
            command = ["fedmsg-tail", "--json"]
            with (
                Process([*command, "--validate"], env=environ) as tail,
                # What is in messages alone: all of them are two gigabytes at full size.
                Process(["fedmsg-tail", "--query=msg", "--no-validate"], env=environ) as plain,
            ):
                feed.wait(count=3)
                delays: dict[str, list[float]] = {"hub": [], "tail": []}
                before: list[int] = []
                for number in range(WARM_UP + rounds):
                    if number == WARM_UP:
                        before = [memory(one.popen.pid) for one in (hub, tail)]
                    for frames in thrown:
                        feed.raw(*frames)
                    good = crypto.sign(envelope("shop", f"good {number}"), **bench.config)
                    sent = time.perf_counter()
                    feed.publish(good)
                    arrived: dict[str, float] = {}

                    def note(number: int = number, sent: float = sent, arrived: dict[str, float] = arrived) -> bool:
                        for name, one in (("hub", hub), ("tail", tail)):
                            if name not in arrived and any(f"good {number}" in line for line in one.out[-2:]):
                                arrived[name] = time.perf_counter() - sent
                        return len(arrived) == 2

                    wait_until(note, timeout=60)
                    for name, delay in arrived.items():
                        delays[name].append(delay)
                after = [memory(one.popen.pid) for one in (hub, tail)]
                wait_until(lambda: sum("good " in line for line in plain.out) == WARM_UP + rounds, timeout=60)
                assert [hub.stop(), tail.stop(), plain.stop()] == [0, 0, 0]
            # What is not valid reaches neither, and reaches who does not check.
            expected = [f"good {number}" for number in range(WARM_UP + rounds)]
            assert [line for line in hub.out if "handled" in line] == [f"handled {one}" for one in expected]
            assert [json.loads(line)["msg"] for line in tail.out] == expected
            assert len(plain.out) == (len(thrown) + 1) * (WARM_UP + rounds)
    growth = [after[index] - before[index] for index in range(2)]
    assert max(growth) < SLACK_KIB
    for index, name in enumerate(("hub", "tail")):
        figures(
            f"signature bombs at a {name}", sent=len(thrown) * (WARM_UP + rounds), arrived=0, lost=0, exits=0,
            memory_before=before[index], memory_after=after[index],
            remarks=f"a good message behind {len(thrown)} of them: {1000 * statistics.median(delays[name]):.0f} ms, "
            f"at most {1000 * max(delays[name]):.0f} ms",
        )  # fmt: skip
