# SPDX-License-Identifier: LGPL-2.1-or-later
"""What signing and checking cost, beside the bare mathematics."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fedmsg import crypto
from tests.bench.harness import Bench, Program, expect, progress
from tests.bench.programs import payload
from tests.bench.table import Goal, Row
from tests.certificates import Holder, authority

COUNT, CHECKED, CERTIFICATES, POLICY = 2_000, 20_000, 500, 10_000
# Of 1.1.7 fewer will do: it takes milliseconds, and with the big policy more.
PEER_SIGNED, PEER_CHECKED, PEER_POLICY = 20, 500, 60


class _Publisher:
    """One who publishes signed messages, with a subscriber that counts them."""

    def __init__(self, bench: Bench, who: str, config: dict[str, Any]) -> None:
        self._who = who
        self._program: Program = bench.program("signer", who)
        address = bench.address()
        self._program.do(f"open_{'limit' if who == 'limit' else 'fedmsg'}", address=address, config=config)
        self._sink = bench.program("sink")
        self._sink.do("connect", address=address)
        while not self._sink.do("greeted", patience=0.05):
            self._program.do("publish", count=1)

    def turn(self, count: int) -> float:
        """Publish so many; messages per second."""
        self._sink.begin("collect", count=count, patience=10.0)
        rate = float(self._program.do("publish", count=count))
        arrived = self._sink.result()["count"]
        expect("" if arrived == count else f"{arrived} of {count} messages arrived", self._who)
        return rate


class _Relay:
    """A signing relay, with a plain publisher before it and a plain subscriber behind."""

    def __init__(self, bench: Bench, config: dict[str, Any]) -> None:
        inbound, outbound = bench.address(), bench.address()
        path = bench.folder / "signing-relay.py"
        own = {"relay_inbound": [inbound], "endpoints": {"relay_outbound": [outbound]}}
        path.write_text(f"config = { ({**config, **own})!r}\n")
        bench.start(bench.command("ours", "fedmsg-signing-relay", "--config-filename", str(path)))
        self._feeder, self._sink = bench.program("feeder"), bench.program("sink")
        self._feeder.do("connect", address=inbound)
        self._sink.do("connect", address=outbound)
        while not self._sink.do("greeted", patience=0.05):
            self._feeder.do("greet")
        while self._sink.do("greeted", patience=0.2):
            pass

    def turn(self, count: int) -> float:
        """Have so many messages signed; messages per second."""
        self._sink.begin("collect", count=count, patience=10.0)
        start = time.perf_counter()
        self._feeder.do("send", first=0, count=count)
        done = self._sink.result()
        expect("" if done["count"] == count else f"{done['count']} of {count} messages arrived", "ours")
        return float(count / (done["last"] - start))


def _write(folder: Path) -> dict[str, Any]:
    """Make certificates and signed messages; give the configuration for them."""
    ca = authority()
    holders = [Holder(f"bench{number}.test", ca, key_number=number % 10) for number in range(CERTIFICATES)]
    (folder / "ca.crt").write_text(ca.pem)
    (folder / "crl.pem").write_text(ca.crl())
    lines = []
    for number, holder in enumerate(holders):
        name = holder.write(folder)
        envelope = json.loads(payload.body(number))
        lines.append(json.dumps(crypto.sign(envelope, ssldir=str(folder), certname=name)))
    (folder / "one.jsonl").write_text(lines[0] + "\n")
    (folder / "many.jsonl").write_text("\n".join(lines) + "\n")
    return {
        "ssldir": str(folder),
        "certnames": {"bench": "bench0.test", "signing_relay": "bench0.test"},
        "ca_cert_location": str(folder / "ca.crt"),
        "crl_location": str(folder / "crl.pem"),
        "crypto_backend": "x509",
        "crypto_validate_backends": ["x509"],
        # 1.1.7 tells of each message that has no row.
        "routing_policy": {payload.TOPIC: [holder.common_name for holder in holders]},
        "routing_nitpicky": False,
    }


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    folder = bench.folder / "keys"
    folder.mkdir()
    progress("signed: making keys")
    config = _write(folder)
    publishing = Row("publish, signed", "msg/s", Goal("at least", 0.9))
    one = Row("validate, one certificate", "msg/s", Goal("at least", 0.45))
    many = Row("  500 certificates", "msg/s", Goal("at least", 0.3))
    policy = Row("  10,000 policy rows, beside one", "msg/s", Goal("at least", 0.9))
    publishers = {who: _Publisher(bench, who, config) for who in ("ours", "peer", "limit")}
    checkers = {who: bench.program("signer", who) for who in ("ours", "peer", "limit")}
    relaying = Row("relay, signing", "msg/s")
    relay = _Relay(bench, config)
    rows = {f"org.example.topic{number}": ["somebody"] for number in range(POLICY - 1)}
    big = {**config, "routing_policy": {**rows, payload.TOPIC: ["bench0.test"]}}
    signed, checked = bench.size(COUNT), bench.size(CHECKED)
    for number in range(bench.rounds):
        progress(f"signed: round {number + 1}")
        publishing.ours.append(publishers["ours"].turn(signed))
        publishing.limit.append(publishers["limit"].turn(signed))
        publishing.peer.append(publishers["peer"].turn(PEER_SIGNED))
        relaying.ours.append(relay.turn(signed))
        relaying.limit.append(checkers["limit"].do("sign", count=signed, config=config))
        for row, name in ((one, "one.jsonl"), (many, "many.jsonl")):
            for checker in checkers.values():
                checker.do("load", path=str(folder / name))
            row.ours.append(checkers["ours"].do("validate", count=checked, config=config))
            row.limit.append(checkers["limit"].do("verify", count=checked))
            row.peer.append(checkers["peer"].do("validate", count=PEER_CHECKED, config=config))
        for checker in checkers.values():
            checker.do("load", path=str(folder / "one.jsonl"))
        policy.ours.append(checkers["ours"].do("validate", count=checked, config=big))
        policy.limit.append(checkers["ours"].do("validate", count=checked, config=config))
        policy.peer.append(checkers["peer"].do("validate", count=PEER_POLICY, config=big))
    return [publishing, relaying, one, many, policy]
