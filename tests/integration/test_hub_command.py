# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-hub`` as a process, with plugins that are really installed: what runs, what it says, how it ends."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmsg.commands.hub
from fedmsg.testing import Process, run, wait_until
from tests.hubs import PREFIX, Feed, HubProcess, install

# Written as for fedmsg 1.x.
PLUGIN = """
import json, os, sys, threading, time
from datetime import timedelta

from fedmsg.consumers import FedmsgConsumer
from moksha.hub.api import PollingProducer, Producer

def say(*what):
    # At once: several threads speak.
    os.write(1, (json.dumps(what) + "\\n").encode())

class First(FedmsgConsumer):
    topic = "org.fedoraproject.dev.shop"
    config_key = "first.enabled"
    def consume(self, message):
        say("First", message["body"]["msg"])

class Second(FedmsgConsumer):
    topic = "*"
    config_key = "second.enabled"
    jsonify = False
    def consume(self, message):
        say("Second", json.loads(message.body)["msg"])

class Stuck(FedmsgConsumer):
    topic = "*"
    config_key = "stuck.enabled"
    def consume(self, message):
        say("Stuck", message["body"]["msg"])
        threading.Event().wait()

class Slow(FedmsgConsumer):
    topic = "*"
    config_key = "slow.enabled"
    def consume(self, message):
        threading.Event().wait(0.1)
        say("Slow", message["body"]["msg"])

class Broken(FedmsgConsumer):
    topic = "*"
    config_key = "broken.enabled"
    def __init__(self, hub):
        super().__init__(hub)
        self.file = open(self.hub.config["broken.file"])

class Failing(FedmsgConsumer):
    topic = "*"
    config_key = "failing.enabled"
    def consume(self, message):
        if not os.path.exists("mended"):
            raise ValueError("can't")
        say("Failing", message["body"]["msg"])

class Quoting(FedmsgConsumer):
    topic = "*"
    config_key = "quoting.enabled"
    def consume(self, message):
        raise ValueError(message["body"]["msg"])

class Exiting(FedmsgConsumer):
    topic = "*"
    config_key = "exiting.enabled"
    def consume(self, message):
        say("Exiting", message["body"]["msg"])
        sys.exit(3)

class Tick(PollingProducer):
    frequency = timedelta(seconds=0.05)
    def poll(self):
        say("Tick", self.hub.num_producers)

class Never(PollingProducer):
    def __init__(self, hub):
        raise ValueError("not this one")

class Stream(Producer):
    def __init__(self, hub):
        super().__init__(hub)
        say("Stream", type(hub).__name__)
    def stop(self):
        say("Stream", "stopped")

both = [First, Second]
makers = (Tick, Stream)
"""

CONSUMERS = {
    "moksha.consumer": [
        "several = plugin:both",
        *(f"{name.lower()} = plugin:{name}" for name in ("Stuck", "Slow", "Broken", "Failing", "Exiting", "Quoting")),
    ]
}
PRODUCERS = {"moksha.producer": ["tick = plugin:Tick"], "moksha.stream": ["stream = plugin:Stream"]}

Start = Callable[..., Process]


@pytest.fixture
def feed() -> Iterator[Feed]:
    with Feed() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return install(tmp_path / "site", "plugin", {"plugin.py": PLUGIN}, CONSUMERS)


@pytest.fixture
def start(feed: Feed, folder: Path) -> Iterator[Start]:
    """Start a hub in which some consumers are enabled; it is ended with the test."""
    running: list[HubProcess] = []

    def begin(
        *enabled: str, arguments: tuple[str, ...] = (), environ: dict[str, str] | None = None, **settings: Any
    ) -> HubProcess:
        config = {**feed.config, **{f"{name.lower()}.enabled": True for name in enabled}, **settings}
        running.append(HubProcess(folder, config, *arguments, environ=environ))
        return running[-1]

    yield begin
    for process in running:
        process.close()


def said(process: Process, name: str) -> list[Any]:
    """Give what a consumer or producer has said."""
    lines = [json.loads(line) for line in list(process.out) if line.startswith("[") and not line.startswith("[2")]
    return [what for who, what in lines if who == name]


def told(process: Process) -> str:
    """Give all that a process has printed."""
    return "\n".join([*process.out, *process.err])


# ---------------------------------------------------------------- what runs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_installed_and_enabled_runs(feed: Feed, start: Start, number: int) -> None:
    hub = start("First", "Second").wait_ready()
    feed.wait()
    feed.send("shop", 1)
    feed.send("news", 2)
    wait_until(lambda: said(hub, "First") == [1] and said(hub, "Second") == [1, 2])
    assert hub.stop(number) == 0
    for line in (
        "  enabled by config  - plugin:First",
        "  enabled by config  - plugin:Second",
        "* disabled by config - plugin:Stuck",
        "* disabled by config - fedmsg.consumers.dummy:DummyConsumer",
        "running, 2 consumers and ",
    ):
        assert any(line in one for one in hub.out), line
    assert hub.err == []
    assert "STOPPING=1" in hub.notifications()
    assert hub.out[-1].endswith("stopped")


@pytest.mark.parametrize("arguments", [(), ("--with-consumers", "plugin:First")])
@pytest.mark.parametrize(
    "points", [PRODUCERS, {"moksha.producer": ["all = plugin:makers"]}, {"moksha.stream": ["all = plugin:makers"]}],
    ids=["classes", "a collection", "streams"],
)  # fmt: skip
def test_producers_run_beside_them(
    folder: Path, start: Start, points: dict[str, list[str]], arguments: tuple[str, ...]
) -> None:
    install(folder, "ticking", {}, points)
    hub = start("First", arguments=arguments).wait_ready()
    wait_until(lambda: len(said(hub, "Tick")) >= 3)
    assert said(hub, "Stream") == ["Hub"]
    assert hub.stop() == 0
    assert said(hub, "Stream")[-1] == "stopped"


def test_named_consumers_run_and_no_others(feed: Feed, start: Start) -> None:
    named = ("--with-consumers", "plugin:First, fedmsg.consumers.dummy:DummyConsumer,")
    hub = start("First", "Second", arguments=named, **{"fedmsg.consumers.dummy.enabled": True}).wait_ready()
    feed.wait()
    feed.send("shop", 1)
    wait_until(lambda: said(hub, "First") == [1])
    assert hub.stop() == 0
    assert said(hub, "Second") == []
    assert any("running, 2 consumers" in line for line in hub.out)


def test_hub_enables_a_named_consumer_whose_key_no_file_has(feed: Feed, start: Start) -> None:
    named = ("--with-consumers", "plugin:First,fedmsg.consumers.dummy:DummyConsumer")
    hub = start(arguments=named).wait_ready()
    feed.wait()
    feed.send("shop", 1)
    wait_until(lambda: said(hub, "First") == [1])
    assert hub.stop() == 0
    assert any("running, 2 consumers" in line for line in hub.out)


def test_hub_reports_the_key_that_switches_a_named_consumer_off(feed: Feed, start: Start) -> None:
    named = ("--with-consumers", "plugin:First,plugin:Second")
    hub = start(arguments=named, **{"first.enabled": False}).wait_ready()
    hub.wait_for("plugin:First is not run: first.enabled is False; set it to True")
    feed.wait()
    feed.send("shop", 1)
    wait_until(lambda: said(hub, "Second") == [1])
    assert hub.stop() == 0
    assert said(hub, "First") == []


def test_hub_that_may_run_no_named_consumer_ends_with_status_7(start: Start) -> None:
    hub = start(arguments=("--with-consumers", "plugin:First"), **{"first.enabled": False})
    assert hub.wait() == 7
    (line,) = hub.err
    assert "all of them are switched off; set to True: first.enabled" in line


@pytest.mark.parametrize("name", ["packer:Packer", "packer.py:Packer"])
def test_hub_imports_named_consumers_from_the_current_folder(
    feed: Feed, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "packer.py").write_text(
        "from fedmsg.consumers import FedmsgConsumer\n"
        "class Packer(FedmsgConsumer):\n"
        "    topic = ''\n"
        "    config_key = 'packer.enabled'\n"
        "    def consume(self, message):\n"
        "        print('packed', message['body']['msg'], flush=True)\n"
    )
    (here / "config.py").write_text(f"config = {feed.config!r}\n")
    monkeypatch.setenv("FEDMSG_CONFIG", str(here / "config.py"))
    with Process(["fedmsg-hub", "--with-consumers", name], cwd=here) as hub:
        hub.wait_ready()
        feed.wait()
        feed.send("shop", 1)
        hub.wait_for("packed 1")
        assert hub.stop() == 0


@pytest.mark.parametrize("name", ["nowhere:First", "plugin:Nobody", "plugin", ":", "plugin:"])
def test_a_named_one_that_can_not_be_imported_is_status_2_and_one_line(start: Start, name: str) -> None:
    hub = start(arguments=("--with-consumers", name))
    assert hub.wait() == 2
    (line,) = hub.err
    assert "--with-consumers" in line
    assert repr(name) in line


# ---------------------------------------------------------------- what does not start


def test_one_whose_constructor_raises_is_left_out(feed: Feed, start: Start) -> None:
    hub = start("First", "Broken", **{"broken.file": "/nowhere"}).wait_ready()
    feed.wait("shop")
    feed.send("shop", 1)
    wait_until(lambda: said(hub, "First") == [1])
    assert hub.stop() == 0
    assert "plugin:Broken can't be started" in told(hub)
    assert "No such file or directory: '/nowhere'" in told(hub)


def test_if_none_starts_it_ends_with_7_and_one_line(start: Start) -> None:
    hub = start("Broken", **{"broken.file": "/nowhere"})
    assert hub.wait() == 7
    (line,) = hub.err
    assert "none of the consumers and producers can be started: plugin:Broken: FileNotFoundError" in line


def test_a_producer_that_does_not_start_is_no_better(folder: Path, start: Start) -> None:
    install(folder, "never", {}, {"moksha.producer": ["never = plugin:Never"]})
    hub = start()
    assert hub.wait() == 7
    (line,) = hub.err
    assert "none of the consumers and producers can be started: plugin:Never: ValueError: not this one" in line


def test_a_disabled_one_may_fail_unnoticed(start: Start) -> None:
    hub = start().wait_ready()
    hub.wait_for("no consumer and no producer is enabled: this hub has nothing to do")
    assert hub.stop() == 0
    assert "Traceback" not in told(hub)
    assert "can't be started" not in told(hub)


def test_a_plugin_that_can_not_be_imported_is_not_loaded(feed: Feed, folder: Path, start: Start) -> None:
    bad = {"exits.py": "import sys; sys.exit(1)", "raises.py": "1/0", "gone.py": ""}
    install(folder, "bad", bad, {"moksha.consumer": [f"{name[:-3]} = {name[:-3]}:Some" for name in bad]})
    hub = start("First").wait_ready()
    feed.wait("shop")
    feed.send("shop", 1)
    wait_until(lambda: said(hub, "First") == [1])
    assert hub.stop() == 0
    for name in ("exits", "raises", "gone"):
        assert told(hub).count(f"The plugin {name} = {name}:Some of moksha.consumer is not loaded") == 1
    assert "Traceback" not in told(hub)


def test_if_there_is_no_other_it_ends_with_7_and_one_line(folder: Path, start: Start) -> None:
    points = {"moksha.consumer": ["wrong = wrong:Some", "odd = wrong:odd", "odder = wrong:odder"]}
    install(
        folder,
        "wrong",
        {"wrong.py": "odd, odder = [{}, []], 5\ndef __getattr__(name): raise OSError('no disk')"},
        points,
    )
    hub = start()
    assert hub.wait() == 7
    (line,) = hub.err
    assert "none of the consumers and producers can be started: wrong:Some: OSError: no disk; ?:{}: TypeError" in line
    assert "?:5: TypeError: 'int' object is not callable" in line


def test_without_an_authority_it_ends_with_7_and_one_line(start: Start, tmp_path: Path) -> None:
    hub = start("First", validate_signatures=True, ca_cert_location=str(tmp_path / "none"))
    assert hub.wait() == 7
    assert len(hub.err) == 1
    assert "none" in hub.err[0]


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ({"endpoints": {"feed": ["no address"]}}, 5, "no address"),
        ({"zmq_subscribe_endpoints": "no address"}, 5, "no address"),
        ({"consumer_queue_limit": 0}, 5, "consumer_queue_limit"),
        ({"consumer_queue_policy": "perhaps"}, 5, "consumer_queue_policy"),
        ({"moksha.workers_per_consumer": 0}, 5, "moksha.workers_per_consumer"),
        ({"stop_timeout": "soon"}, 5, "stop_timeout"),
    ],
)
def test_a_bad_setting_is_one_line(start: Start, settings: dict[str, Any], status: int, words: str) -> None:
    hub = start("First", **settings)
    assert hub.wait() == status
    (line,) = hub.err
    assert words in line


def test_a_taken_address_is_status_6_and_one_line(feed: Feed, start: Start) -> None:
    hub = start("First", zmq_subscribe_endpoints=feed.address, zmq_subscribe_method="bind")
    assert hub.wait() == 6
    (line,) = hub.err
    assert feed.address in line


# ---------------------------------------------------------------- how it ends


def test_a_stuck_consumer_is_named_and_the_status_is_8(feed: Feed, start: Start) -> None:
    hub = start("Stuck", "First", stop_timeout=1).wait_ready()
    feed.wait()
    first = feed.send("shop", 1)
    feed.send("shop", 2)
    wait_until(lambda: said(hub, "Stuck") == [1] and said(hub, "First") == [1, 2])
    assert hub.stop() == 8
    (line,) = [line for line in hub.err if "stopped with work left" in line]
    assert "messages not handled: 2 by Stuck" in line
    assert f"on the message {first['msg_id']}" in line
    assert "set state_directory" in line


@pytest.mark.parametrize("way", ["setting", "systemd"])
def test_with_a_state_directory_the_rest_is_kept_and_the_status_is_0(
    feed: Feed, start: Start, tmp_path: Path, way: str
) -> None:
    state = str(tmp_path / "state")
    how: dict[str, Any] = {"state_directory": state} if way == "setting" else {"environ": {"STATE_DIRECTORY": state}}
    hub = start("Slow", stop_timeout=1, **how).wait_ready()
    feed.wait()
    for number in range(30):
        feed.send("shop", number)
    wait_until(lambda: said(hub, "Slow"))
    assert hub.stop() == 0
    handled = said(hub, "Slow")
    assert 0 < len(handled) < 30
    assert f"messages kept for the next start: {30 - len(handled)} by Slow" in told(hub)
    feed.wait_until_gone()
    again = start("Slow", stop_timeout=20, **how).wait_ready()
    wait_until(lambda: len(said(again, "Slow")) + len(handled) == 30)
    assert again.stop() == 0
    assert handled + said(again, "Slow") == list(range(30))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_time_however_busy_it_is(feed: Feed, start: Start, number: int) -> None:
    hub = start("Slow").wait_ready()
    feed.wait()
    for count in range(5000):
        feed.send("shop", count)
    wait_until(lambda: said(hub, "Slow"))
    began = time.monotonic()
    assert hub.stop(number) == 8
    # stop_timeout is 5 s; the rest of the time goes by on a machine that has more to do.
    assert time.monotonic() - began < 15
    (line,) = hub.err
    handled = len(said(hub, "Slow"))
    left = int(re.findall(r"messages not handled: (\d+) by Slow", line)[0])
    # What it had received, all of it is counted.
    assert 0 < left <= 5000 - handled


def test_an_exit_in_consume_ends_nothing(feed: Feed, start: Start) -> None:
    hub = start("Exiting").wait_ready()
    feed.wait()
    feed.send("shop", 1)
    feed.send("shop", 2)
    wait_until(lambda: said(hub, "Exiting") == [1, 2])
    assert hub.stop() == 0


def test_a_hang_up_is_answered_and_survived(feed: Feed, start: Start) -> None:
    hub = start("First").wait_ready()
    feed.wait("shop")
    hub.popen.send_signal(signal.SIGHUP)
    hub.wait_for("SIGHUP: a running process reloads nothing")
    feed.send("shop", 1)
    wait_until(lambda: said(hub, "First") == [1])
    assert hub.stop() == 0


def test_the_watchdog_is_reassured(start: Start) -> None:
    hub = start("First", environ={"WATCHDOG_USEC": "100000"}).wait_ready()
    heard: list[str] = []

    def reassured() -> bool:
        heard.extend(hub.notifications())
        return heard.count("WATCHDOG=1") >= 3

    wait_until(reassured)
    assert hub.stop() == 0


# ---------------------------------------------------------------- what programs touch


# Calls it as the tests of others do.
LIMITS = """
import fedmsg.commands.hub as hub

def setrlimit(which, limits):
    print(which == hub.resource.RLIMIT_NOFILE, limits, flush=True)
    raise {error}

hub.resource.setrlimit = setrlimit
command = hub.HubCommand()
command.set_rlimit_nofiles()
command.set_rlimit_nofiles(limit=99)
"""


@pytest.mark.parametrize("error", ["ValueError('no')", "OSError('no')"])
def test_open_files_that_are_not_allowed_are_one_warning(error: str) -> None:
    ended = run([sys.executable, "-c", LIMITS.format(error=error)])
    assert (ended.returncode, ended.stderr) == (0, "")
    told = ended.stdout.splitlines()
    assert [line for line in told if "WARNING" not in line] == ["True (4096, 4096)", "True (99, 99)"]
    assert [line.split("] ")[-1] for line in told if "WARNING" in line] == [
        "4096 open files are not allowed: no",
        "99 open files are not allowed: no",
    ]


def test_its_flag_has_the_name_that_programs_set() -> None:
    flags = {names[0]: options.get("dest") for names, options in fedmsg.commands.hub.HubCommand.extra_args}
    assert flags["--with-consumers"] == "explicit_hub_consumers"
    assert flags["--websocket-server-port"] == "moksha.livesocket.websocket.port"


# ---------------------------------------------------------------- dead letters


def test_dead_letters_are_tried_again_when_told_to(feed: Feed, folder: Path, start: Start, tmp_path: Path) -> None:
    dead = str(tmp_path / "dead")
    hub = start("Failing", dead_letter_directory=dead).wait_ready()
    feed.wait()
    feed.send("shop", "lost and found")
    hub.wait_for("failed in consume()")
    assert hub.stop() == 0
    (path,) = [path for path in Path(dead).rglob("*") if path.is_file()]
    assert path.relative_to(dead) == Path("fedmsg-hub") / "plugin.Failing.jsonl"

    (folder / "mended").write_text("")
    hub = start("Failing", dead_letter_directory=dead).wait_ready()
    assert hub.stop() == 0
    assert said(hub, "Failing") == []
    hub = start("Failing", dead_letter_directory=dead, arguments=("--retry-dead-letters",)).wait_ready()
    wait_until(lambda: said(hub, "Failing") == ["lost and found"])
    assert hub.stop() == 0
    assert not [path for path in Path(dead).rglob("*") if path.is_file()]


def test_to_try_dead_letters_again_it_needs_to_know_where_they_are(start: Start) -> None:
    hub = start("Failing", arguments=("--retry-dead-letters",))
    assert hub.wait() == 5
    (line,) = hub.err
    assert "dead_letter_directory" in line


# ---------------------------------------------------------------- the names of moksha

# All that plugins are known to import.
NAMES = """
import json, os
from fedmsg.consumers import FedmsgConsumer
import moksha.hub
import moksha.hub.api
import moksha.hub.api.consumer
import moksha.hub.api.producer
import moksha.hub.hub
import moksha.hub.reactor
import moksha.common.lib.converters
from moksha.hub import CentralMokshaHub
from moksha.hub.api import Consumer, PollingProducer, Producer
from moksha.hub.monitoring import MonitoringProducer
from moksha.hub.reactor import reactor
from moksha.hub.zeromq.zeromq import ZMQMessage
from moksha.common.lib.converters import asbool
import fedmsg.hub

assert issubclass(FedmsgConsumer, Consumer) and Consumer is fedmsg.hub.Consumer
assert moksha.hub.api.consumer.Consumer is Consumer
assert moksha.hub.api.producer.PollingProducer is PollingProducer is fedmsg.hub.PollingProducer
assert issubclass(PollingProducer, Producer)
assert moksha.hub.reactor.reactor is reactor and moksha.hub.hub.CentralMokshaHub is CentralMokshaHub
assert issubclass(MonitoringProducer, Producer)
assert [asbool(word) for word in ("true", "off", "Yes", 1, "0")] == [True, False, True, True, False]
assert ZMQMessage("a", "b").__json__() == {"topic": "a", "body": "b"}

class Named(FedmsgConsumer):
    topic = "*"
    config_key = "named.enabled"
    def __init__(self, hub):
        super().__init__(hub)
        reactor.callLater(0.01, self.say, "later", n=1)
        reactor.callInThread(self.say, "thread", n=2)
        reactor.callFromThread(self.say, "from", n=3)
        gone = reactor.callLater(0.01, self.say, "never")
        gone.cancel()
    def say(self, word, n=0):
        os.write(1, (json.dumps(["Named", [word, n]]) + "\\n").encode())
    def consume(self, message):
        try:
            reactor.listenTCP(1)
        except AttributeError as error:
            self.say(str(error))
        for name in ("moksha.wsgi", "moksha.hub.amqp"):
            try:
                __import__(name)
            except ImportError as error:
                self.say(str(error))
"""
NAMED = {"moksha.consumer": ["named = named:Named"]}


@pytest.mark.parametrize("installed", [False, True], ids=["alone", "beside another moksha"])
def test_the_names_of_moksha_are_ours(feed: Feed, folder: Path, start: Start, installed: bool) -> None:
    if installed:
        # A moksha that must not be used, the way that it is installed.
        modules = dict.fromkeys(
            (
                "moksha/hub/__init__.py",
                "moksha/hub/api/__init__.py",
                "moksha/hub/reactor.py",
                "moksha/wsgi/__init__.py",
            ),
            "raise AssertionError('the other moksha')",
        )
        install(folder, "moksha.hub", modules)
    install(folder, "named", {"named.py": NAMES}, NAMED)
    hub = start("Named").wait_ready()
    feed.wait()
    feed.send("shop")
    wait_until(lambda: len(said(hub, "Named")) == 6)
    assert hub.stop() == 0
    calls = said(hub, "Named")
    assert sorted(what for what in calls if what[1]) == [["from", 3], ["later", 1], ["thread", 2]]
    beyond = sorted(word for word, n in calls if not n)
    assert len(beyond) == 3
    assert beyond[0].startswith("moksha.hub.amqp needs moksha and Twisted, and this hub runs without them")
    assert beyond[1].startswith("moksha.wsgi needs moksha and Twisted")
    assert beyond[2].startswith("reactor.listenTCP is Twisted's, and this hub runs without it")
    assert "the other moksha" not in told(hub)


def test_who_needs_twisted_gets_one_clear_line(feed: Feed, folder: Path, start: Start) -> None:
    twisted = {
        "twisted/__init__.py": "",
        "twisted/internet/__init__.py": "",
        "twisted/internet/reactor.py": "def callLater(*arguments): pass",
        "relies.py": "from twisted.internet import reactor\nfrom plugin import First as Relies",
        "wants.py": "from moksha.wsgi.middleware import make_moksha_middleware",
    }
    install(folder, "relies", twisted, {"moksha.consumer": ["relies = relies:Relies", "wants = wants:Some"]})
    hub = start("First").wait_ready()
    feed.wait("shop")
    feed.send("shop", 1)
    wait_until(lambda: said(hub, "First"))
    assert hub.stop() == 0
    assert told(hub).count("Twisted's reactor does not run here") == 1
    assert told(hub).count("The plugin wants = wants:Some of moksha.consumer is not loaded") == 1
    assert told(hub).count("moksha.wsgi needs moksha and Twisted, and this hub runs without them") == 1


def test_a_program_may_make_a_central_hub(feed: Feed, folder: Path, tmp_path: Path) -> None:
    program = f"""
import sys
import fedmsg.hub.moksha
from fedmsg.hub import Hub
Hub({{}}, [], [])
from moksha.hub import CentralMokshaHub
from plugin import First
hub = CentralMokshaHub({feed.config | {"first.enabled": True}!r}, consumers=[First], producers=[])
print("running", hub.num_consumers, hub.topics.keys(), flush=True)
sys.stdin.read()
hub.close()
hub.stop()
print("closed", flush=True)
"""
    (tmp_path / "program.py").write_text(program)
    with Process(
        [sys.executable, str(tmp_path / "program.py")], env={"PYTHONPATH": str(folder)}, stdin=True
    ) as process:
        process.wait_for(f"running 1 dict_keys(['{PREFIX}.shop'])")
        feed.wait("shop")
        feed.send("shop", 1)
        process.wait_for('["First", 1]')
        assert process.popen.stdin is not None
        process.popen.stdin.close()
        process.wait_for("closed")
        assert process.wait() == 0
        assert process.err == []


# ---------------------------------------------------------------- what it logs


def test_hub_logs_an_exception_of_a_consumer_safely(feed: Feed, folder: Path, start: Start) -> None:
    hub = start("Quoting").wait_ready()
    feed.wait()
    feed.send("shop", "\x1b[2Jgone\n2026-11-30 00:00:00,000 [fedmsg    CRITICAL] forged")
    hub.wait_for("Quoting failed in consume()")
    hub.wait_for("forged")
    assert hub.stop() == 0
    lines = [*hub.out, *hub.err]
    assert not [line for line in lines if "\x1b" in line]
    assert [line for line in lines if r"\x1b[2Jgone" in line]
    assert not [line for line in lines if line.startswith("2026-11-30 00:00:00")]
