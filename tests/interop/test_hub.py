# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same consumers in our hub and in that of fedmsg 1.1.7, side by side on one bus: both see the same."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Process, free_port
from tests.hubs import until
from tests.interop.lane import Lane, open_lane
from tests.interop.sides import NAMES, Side

PREFIX = "org.fedoraproject"


@contextmanager
def hubs(
    sides: dict[str, Side], lane: Lane, folders: list[Path], settings: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Process]]:
    """Run a hub of each side, with plugins on its path.

    Args:
        sides: The sides.
        lane: The bus.
        folders: Where the plugins are.
        settings: More settings for each side.
    """
    with ExitStack() as stack:
        running = {}
        for name, side in sides.items():
            home = lane.folder.parent / f"hub-{name}"
            (home / "fedmsg.d").mkdir(parents=True)
            bus = (lane.folder / "fedmsg.d" / "bus.py").read_text()
            (home / "fedmsg.d" / "bus.py").write_text(f"{bus}config.update({settings[name]!r})\n")
            process = side.start(home, "hub.py", json.dumps([str(folder) for folder in folders]))
            running[name] = stack.enter_context(process)
        yield running


# ---------------------------------------------------------------- consumers from PyPI


class Memcached:
    """A server that keeps the counters of one hub."""

    def __init__(self) -> None:
        self.port = free_port()
        user = ["-u", "nobody"]
        self._process = Process(["memcached", "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", *user])

    def counted(self) -> int:
        """Give what has been counted, or 0."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"get busmon_count_0\r\n")
            with connection.makefile("rb") as answer:
                if answer.readline().startswith(b"END"):
                    return 0
                return int(answer.readline())

    def __enter__(self) -> Memcached:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()


@pytest.fixture(scope="module")
def consumers(peer: Path) -> list[Path]:
    """Give the folders into which set-up put the consumers, and what they import."""
    folders = [peer.parent / "consumers", peer.parent / "plugins"]
    if not (folders[0] / "fedmsg_genacls.py").exists():
        pytest.fail(f"no consumers in {folders[0]}: run the tests by `make test`, which puts them there", pytrace=False)
    return folders


MEMBER = f"{PREFIX}.prod.fas.group.member"
SENT: list[tuple[str, Any]] = [
    (f"{MEMBER}.sponsor", {"group": "provenpackager"}),
    (f"{MEMBER}.sponsor", {"group": "cla_fpca"}),
    (f"{MEMBER}.sponsored", {"group": "provenpackager"}),
    (f"{PREFIX}.prod.fas.user.update", {"fields": ["ssh_key"]}),
    (f"{PREFIX}.prod.fas.user.update", {"fields": ["name"]}),
    (f"{PREFIX}.prod.pkgdb.acl.update", {"acl": "commit"}),
    (f"{PREFIX}.stg.pkgdb.owner.update", {}),
    (f"{PREFIX}.stg.fas.group.member.remove", {"group": "releng-team"}),
    (f"{PREFIX}.prod.bodhi.update", {"title": "é"}),
    # No group: two of them fail.
    (f"{PREFIX}.dev.fas.group.member.remove", {"user": "nobody"}),
    *((f"{PREFIX}.dev.test.{number}", number) for number in range(100)),
    (f"{PREFIX}.prod.pkgdb.package.new", {}),
]
# By how many of them each is taken up.
TAKEN = {
    f"{MEMBER}.sponsor": 3 + 1,
    # A subscription is a beginning.
    f"{MEMBER}.sponsored": 1,
    f"{PREFIX}.prod.fas.user.update": 1,
    f"{PREFIX}.prod.pkgdb.acl.update": 1,
    f"{PREFIX}.stg.pkgdb.owner.update": 1,
    f"{PREFIX}.stg.fas.group.member.remove": 2,
    f"{PREFIX}.prod.pkgdb.package.new": 1,
}


def taken_up(process: Process) -> Counter[str]:
    """Count the topics of messages that consumers have said they work on."""
    return Counter(match[1] for line in list(process.out) if (match := re.search(r"Got a message u?'([^']+)'", line)))


def publish(lane: Lane, topic: str, msg: Any) -> None:
    """Publish a message with its full topic."""
    lane.greeter.publish(topic.removeprefix(f"{PREFIX}."), msg, PREFIX)


def greet(lane: Lane, running: dict[str, Process], counters: dict[str, Memcached]) -> dict[str, int]:
    """Publish until all consumers of both hubs have heard something, and no greeting is under way.

    Returns:
        How many messages each hub has counted until then.
    """
    for process in running.values():
        process.wait_for("Got a message", meanwhile=lambda: publish(lane, f"{PREFIX}.prod.fas.role.update", {}))
    publish(lane, f"{MEMBER}.remove", {"group": "fedora-arm"})
    until(lambda: all(taken_up(process)[f"{MEMBER}.remove"] == 3 for process in running.values()))
    until(lambda: all(steady(counter.counted) for counter in counters.values()))
    for process in running.values():
        del process.out[:]
    return {name: counter.counted() for name, counter in counters.items()}


def steady(counted: Any) -> bool:
    """Whether a number is there and stays as it is."""
    before = counted()
    return bool(before) and all(counted() == before for _ in range(20))


def test_consumers_from_pypi_see_the_same(sides: dict[str, Side], tmp_path: Path, consumers: list[Path]) -> None:
    (tmp_path / "gitolite").write_text("")
    enabled = {
        "fasclient.consumer.enabled": True,
        "fasclient.consumer.delay": 3600,
        "genacls.consumer.enabled": True,
        "genacls.consumer.delay": 3600,
        "gitoliteprefix.consumer.enabled": True,
        "gitoliteprefix.consumer.delay": 3600,
        "gitoliteprefix.consumer.filename": str(tmp_path / "gitolite"),
        **{f"gitoliteprefix.consumer.{key}": "unused" for key in ("fasurl", "username", "password")},
        "busmon.consumers.memcached.enabled": True,
        "busmon.memcached.duration": 3_600_000,
        "busmon.memcached.n": 1,
    }
    with ExitStack() as stack:
        lane = stack.enter_context(open_lane(sides["ours"], tmp_path / "bus"))
        counters = {name: stack.enter_context(Memcached()) for name in NAMES}
        settings = {
            name: {**enabled, "busmon.memcached.servers": f"127.0.0.1:{counter.port}"}
            for name, counter in counters.items()
        }
        running = stack.enter_context(hubs(sides, lane, consumers, settings))
        before = greet(lane, running, counters)
        for topic, msg in SENT:
            publish(lane, topic, msg)
        until(lambda: all(taken_up(process).total() >= sum(TAKEN.values()) for process in running.values()))
        until(lambda: all(counters[name].counted() >= before[name] + len(SENT) for name in NAMES))
        status = running["ours"].stop()
        counted = {name: counter.counted() - before[name] for name, counter in counters.items()}
    assert status == 0, running["ours"].report()
    assert counted == dict.fromkeys(NAMES, len(SENT))
    assert {name: taken_up(process) for name, process in running.items()} == {name: Counter(TAKEN) for name in NAMES}
    # One message without what they need does not end them, on either side.
    failures = {
        name: "\n".join(process.out + process.err).count("KeyError: 'group'") for name, process in running.items()
    }
    assert failures == dict.fromkeys(NAMES, 1)
