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

from fedmsg.testing import Process, free_port, wait_until
from tests import requirements
from tests.hubs import install
from tests.interop.lane import Lane, open_lane
from tests.interop.sides import NAMES, Side, write_config

PREFIX = "org.fedoraproject"


def start_hub(side: Side, lane: Lane, folders: list[Path], settings: dict[str, Any]) -> Process:
    """Start a hub of a side, with plugins on its path.

    Args:
        side: The side.
        lane: The bus.
        folders: Where the plugins are.
        settings: More settings.
    """
    home = lane.folder.parent / f"hub-{side.name}"
    (home / "fedmsg.d").mkdir(parents=True, exist_ok=True)
    (home / "fedmsg.d" / "bus.py").write_text(f"config = {lane.config | settings!r}\n")
    return side.start(home, "hub.py", json.dumps([str(folder) for folder in folders]))


@contextmanager
def hubs(
    sides: dict[str, Side], lane: Lane, folders: list[Path], settings: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Process]]:
    """Run a hub of each side; for the arguments see `start_hub`, the settings are by side."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(start_hub(side, lane, folders, settings[name])) for name, side in sides.items()
        }


# ---------------------------------------------------------------- consumers from PyPI


class Memcached:
    """A server that keeps the counters of one hub."""

    def __init__(self) -> None:
        self.port = free_port()
        user = ["-u", "nobody"]
        self._process = Process(
            [requirements.program("memcached", "memcached"), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", *user]
        )

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
    wait_until(lambda: all(taken_up(process)[f"{MEMBER}.remove"] == 3 for process in running.values()))
    wait_until(lambda: all(steady(counter.counted) for counter in counters.values()))
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
        wait_until(lambda: all(taken_up(process).total() >= sum(TAKEN.values()) for process in running.values()))
        wait_until(lambda: all(counters[name].counted() >= before[name] + len(SENT) for name in NAMES))
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


# ---------------------------------------------------------------- consumers as the documentation shows them

# A line for each thing that happens in a consumer: its name, what, and the message.
WRITTEN = """
import json, os
from fedmsg.consumers import FedmsgConsumer
import moksha.hub.reactor

def say(who, what, message):
    if not isinstance(message, dict):
        message = {"topic": message.topic, "body": json.loads(message.body), "text": type(message.body) is str}
    os.write(1, (json.dumps(["said", who, what, message], sort_keys=True) + "\\n").encode())

class Base(FedmsgConsumer):
    config_key = "written.enabled"
    def consume(self, message):
        say(type(self).__name__, "consume", message)

class One(Base):
    topic = "org.fedoraproject.dev.interop.shop"

class Text(Base):
    topic = "org.fedoraproject.dev.interop.shop"
    jsonify = False

class Several(Base):
    topic = ["org.fedoraproject.dev.interop.news*", "org.fedoraproject.dev.interop.shop.order"]

class Overlapping(Base):
    topic = ["org.fedoraproject.dev.interop.*", "org.fedoraproject.dev.interop.shop"]

class Every(Base):
    topic = "*"

class Off(Base):
    config_key = "written.off"
    topic = "*"

class Hooked(Base):
    topic = "org.fedoraproject.dev.interop.shop"
    def pre_consume(self, message):
        say("Hooked", "pre", message)
    def post_consume(self, message):
        say("Hooked", "post", message)

class Failing(Base):
    topic = "org.fedoraproject.dev.interop.shop"
    def pre_consume(self, message):
        raise ValueError("before")
    def consume(self, message):
        say("Failing", "consume", message)
        raise ValueError("in it")
    def post_consume(self, message):
        say("Failing", "post", message)

class Reacting(Base):
    topic = "org.fedoraproject.dev.interop.shop.order"
    def consume(self, message):
        moksha.hub.reactor.reactor.callFromThread(say, "Reacting", "called", message)

class Calling(Base):
    topic = "org.fedoraproject.dev.interop.news"
    def __init__(self, hub):
        super(Calling, self).__init__(hub)
        hub.subscribe("org.fedoraproject.dev.interop.once", self.once)
    def once(self, message):
        say("Calling", "once", message)
        self.hub.unsubscribe(self.once)
"""


# How many lines each has said in the end.
EXPECTED = {
    "One": 52, "Text": 52, "Several": 3, "Overlapping": 58, "Every": 58, "Off": 0, "Hooked": 3 * 52, "Failing": 2 * 52,
    "Reacting": 1, "Calling": 2 + 1,
}  # fmt: skip


def happened(process: Process, who: str) -> list[Any]:
    """Give what a consumer has said, in its order, without the greetings."""
    lines = [json.loads(line) for line in list(process.out) if line.startswith('["said"')]
    return [[what, message] for _, name, what, message in lines if name == who and "hello" not in str(message)]


def test_consumers_as_the_documentation_shows_them(sides: dict[str, Side], tmp_path: Path) -> None:
    names = re.findall(r"class (\w+)\(Base\)", WRITTEN)
    points = [f"{name.lower()} = written:{name}" for name in names]
    plugin = install(tmp_path / "plugin", "written", {"written.py": WRITTEN}, {"moksha.consumer": points})
    sent: list[tuple[str, Any]] = [
        *((f"shop.{number}", {"n": number, "é": [None, 1e22]}) for number in range(50)),
        ("shop.order", "text"),
        ("shopping", {}),
        ("news", 1),
        ("newspaper", [2]),
        ("other", None),
        ("once", 1),
        ("once", 2),
        ("last", 3),
    ]
    with ExitStack() as stack:
        lane = stack.enter_context(open_lane(sides["ours"], tmp_path / "bus", **{"written.enabled": True}))
        running = stack.enter_context(hubs(sides, lane, [plugin], {name: {} for name in NAMES}))
        for process in running.values():
            process.wait_for('"Every"', meanwhile=lambda: lane.greeter.publish("hello", "hello", "interop"))
        for topic, msg in sent:
            lane.greeter.publish(topic, msg, "interop")
        wait_until(lambda: all(complete(process) for process in running.values()))
        assert running["ours"].stop() == 0
    ours, its = ({name: happened(running[side], name) for name in names} for side in NAMES)
    for name in names:
        if name == "Overlapping":
            # Where two topics of a consumer match, it delivers twice.
            its[name] = without_doubles(its[name])
        elif name == "Calling":
            # The callback and the consumer are called in two threads.
            ours[name], its[name] = sorted(ours[name], key=str), sorted(its[name], key=str)
        assert ours[name] == its[name], name
    assert {name: len(ours[name]) for name in names} == EXPECTED


def complete(process: Process) -> bool:
    """Whether all has happened: each consumer has a thread of its own, and one of them gets more at 1.1.7."""
    there = all(len(happened(process, name)) >= count for name, count in EXPECTED.items())
    return there and happened(process, "Overlapping")[-1][1]["body"]["msg"] == 3


def without_doubles(values: list[Any]) -> list[Any]:
    """Give values without those that are the same as the one before."""
    return [value for value, before in zip(values, [None, *values[:-1]], strict=True) if value != before]


# ---------------------------------------------------------------- consumers on a stand-in


def test_consumers_on_a_stand_in_do_the_same(sides: dict[str, Side], tmp_path: Path) -> None:
    write_config(tmp_path, {})
    ours, peers = ([json.loads(line) for line in sides[name].ask(tmp_path, "standin.py")] for name in NAMES)
    differences = [(our, its) for our, its in zip(ours, peers, strict=True) if our != its]
    # It stumbles over a message without a topic; what that one says is wrapped on both sides.
    wrapped = {"body": {"msg": {"a": 1}, "topic": None}}
    assert differences == [
        (
            ["validate", ["RuntimeWarning", "Failed to authn message."], wrapped, []],
            ["validate", ["KeyError", "'topic'"], wrapped, []],
        )
    ]
    assert len(ours) > 60
