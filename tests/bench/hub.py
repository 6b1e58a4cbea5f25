# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast a hub hands messages to a consumer, checked or not, and how soon after its start."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from fedmsg import crypto, encoding
from tests.bench.harness import Bench, BenchError, Program, expect, progress
from tests.bench.programs import payload
from tests.bench.table import Goal, Row
from tests.certificates import Holder, authority

COUNT, CHECKED, DIFFERENT = 100_000, 20_000, 2_000
# Of 1.1.7 fewer will do, above all where it checks.
PEER_COUNT, PEER_CHECKED = 20_000, 800

_CONSUMER = "tests.bench.programs.counting:Counter"


class Hub:
    """A fedmsg-hub with a consumer that counts, and a publisher that it listens to.

    Args:
        bench: The surroundings.
        who: Whose hub.
        settings: More settings.
        count: How many messages it handles in each turn.
        different: How many different ones there are.
        greeting: A file with a message that finds out whether the consumer hears; a plain one when not given.
        speed: Whether orjson may be used.

    Attributes:
        process: The hub.
        seconds: How long it took from its start to the first message handled.
    """

    def __init__(
        self,
        bench: Bench,
        who: str,
        settings: dict[str, Any],
        *,
        count: int = 1,
        different: int = 1_000_000_000,
        greeting: Path | None = None,
        speed: bool = True,
    ) -> None:
        self.who = who
        self._count = count
        self.feeder: Program = bench.program("feeder")
        (address,) = self.feeder.do("bind", sockets=1)
        if greeting is not None:
            self.feeder.do("read_greeting", path=str(greeting))
        self._report = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = bench.folder / f"report-{time.monotonic_ns()}"
        self._report.bind(str(path))
        bench.closing(self._report.close)
        own = {"bench.counter": True, "bench.report": str(path), "bench.count": count, "bench.different": different}
        own["bench.speed"] = speed
        argv, env = self._command(bench, {**settings, **own, "endpoints": {"bench": [address]}}, path)
        start = time.perf_counter()
        self.process: subprocess.Popen[bytes] = bench.start(argv, env)
        self._await_greeting(0.001, 30.0)
        self.seconds = time.perf_counter() - start

    def _command(self, bench: Bench, config: dict[str, Any], path: Path) -> tuple[list[str], dict[str, str]]:
        env = {**bench.environ, "PYTHONPATH": str(bench.folder / "path")}
        if self.who == "limit":
            program = "tests.bench.programs.counting"
            return [bench.python("limit"), "-m", program, *config["endpoints"]["bench"], str(path)], env
        file = path.with_suffix(".py")
        file.write_text(f"config = { ({**bench.settings, **config})!r}\n")
        arguments = ["--config-filename", str(file), "--with-consumers", _CONSUMER]
        return bench.command(self.who, "fedmsg-hub", *arguments), env

    def _await_greeting(self, every: float, patience: float) -> None:
        self._report.settimeout(every)
        end = time.perf_counter() + patience
        while True:
            self.feeder.do("greet")
            try:
                assert json.loads(self._report.recv(4096)) == {"greeted": True}
                return
            except TimeoutError:
                expect("" if self.process.poll() is None else f"ended with {self.process.returncode}", self.who)
                expect("" if time.perf_counter() < end else "handles no message", self.who)

    def settle(self) -> None:
        """Wait until no greeting comes any more."""
        self._report.settimeout(0.2)
        try:
            while True:
                self._report.recv(4096)
        except TimeoutError:
            pass

    def turn(self) -> float:
        """Have the messages handled that the feeder has prepared; messages per second."""
        self.settle()
        start = self.feeder.do("blast")
        self._report.settimeout(120.0)
        try:
            done = json.loads(self._report.recv(65536))
        except TimeoutError as error:
            raise BenchError(f"the hub of {self.who} has not handled {self._count} messages") from error
        expect(done["problem"], self.who)
        return float(self._count / (done["last"] - start))

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.feeder.close()


class _Limit:
    """Receiving and json.loads in one thread."""

    def __init__(self, bench: Bench, count: int) -> None:
        self._count = count
        self._feeder = bench.program("feeder")
        endpoints = self._feeder.do("bind", sockets=1)
        self._tailer = bench.program("tailer", "limit")
        self._tailer.do("open_limit", endpoints=endpoints)
        self._feeder.do("subscribed")
        self._feeder.do("prepare", first=0, count=count)

    def turn(self) -> float:
        """Read what the feeder has prepared; messages per second."""
        self._tailer.begin("read", first=0, count=self._count)
        start = self._feeder.do("blast")
        done = self._tailer.result()
        expect(done["problem"], "limit")
        return float(self._count / (done["last"] - start))


def _signed(folder: Path) -> dict[str, Any]:
    """Make a certificate and signed messages; give the configuration to check them."""
    ca = authority()
    holder = Holder("bench.test", ca)
    (folder / "ca.crt").write_text(ca.pem)
    (folder / "crl.pem").write_text(ca.crl())
    name = holder.write(folder)
    bodies = [json.loads(payload.body(number)) for number in range(DIFFERENT)]
    signed = [crypto.sign(body, ssldir=str(folder), certname=name) for body in bodies]
    greeting = crypto.sign(json.loads(payload.GREETING[1]), ssldir=str(folder), certname=name)
    (folder / "greeting.json").write_text(json.dumps(greeting))
    (folder / "signed.jsonl").write_text("".join(encoding.dumps(one) + "\n" for one in signed))
    return {
        "validate_signatures": True,
        "ca_cert_location": str(folder / "ca.crt"),
        "crl_location": str(folder / "crl.pem"),
        "crypto_backend": "x509",
        "crypto_validate_backends": ["x509"],
        # 1.1.7 tells of each message that has no row.
        "routing_policy": {topic: ["bench.test"] for topic in (payload.TOPIC, payload.GREETING[0].decode())},
        "routing_nitpicky": False,
    }


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    return [*_plain(bench), _checked(bench), _start(bench)]


def _plain(bench: Bench) -> list[Row]:
    fast = Row("hub, into one consumer, with orjson", "msg/s", Goal("at least", 1.1))
    plain = Row("  without", "msg/s", Goal("at least", 0.9))
    count, for_peer = bench.size(COUNT), bench.size(PEER_COUNT)
    limit = _Limit(bench, count)
    ours = [(row, Hub(bench, "ours", {}, count=count, speed=row is fast)) for row in (fast, plain)]
    peer = Hub(bench, "peer", {}, count=for_peer)
    peer.feeder.do("prepare", first=0, count=for_peer)
    for _, hub in ours:
        hub.feeder.do("prepare", first=0, count=count)
    for number in range(bench.rounds):
        progress(f"hub: round {number + 1}")
        for row, hub in ours:
            # The limit has its turn next to each, for all to be measured under the same conditions.
            row.limit.append(limit.turn())
            row.ours.append(hub.turn())
        plain.peer.append(peer.turn())
    for hub in (*(hub for _, hub in ours), peer):
        hub.close()
    return [fast, plain]


def _checked(bench: Bench) -> Row:
    row = Row("hub, checking signatures", "msg/s", Goal("min", 12_000))
    progress("hub: signing messages")
    folder = bench.folder / "hub-keys"
    folder.mkdir()
    config = _signed(folder)
    counts = {"ours": bench.size(CHECKED), "peer": bench.size(PEER_CHECKED)}
    verifier = bench.program("signer")
    verifier.do("load", path=str(folder / "signed.jsonl"))
    hubs = {}
    for who, count in counts.items():
        hubs[who] = Hub(bench, who, config, count=count, different=DIFFERENT, greeting=folder / "greeting.json")
        hubs[who].feeder.do("prepare_file", path=str(folder / "signed.jsonl"), count=count)
    for number in range(bench.rounds):
        progress(f"hub, checking: round {number + 1}")
        row.limit.append(verifier.do("verify", count=counts["ours"]))
        row.ours.append(hubs["ours"].turn())
        row.peer.append(hubs["peer"].turn())
    for hub in hubs.values():
        hub.close()
    return row


def _start(bench: Bench) -> Row:
    row = Row("fedmsg-hub, start to first message", "s", Goal("max", 0.3))
    for number in range(bench.rounds):
        progress(f"hub's start: round {number + 1}")
        for who, figures, times in (("ours", row.ours, 3), ("peer", row.peer, 1), ("limit", row.limit, 3)):
            figures.append(min(_seconds(bench, who) for _ in range(times)))
    return row


def _seconds(bench: Bench, who: str) -> float:
    hub = Hub(bench, who, {})
    hub.close()
    return hub.seconds
