# SPDX-License-Identifier: LGPL-2.1-or-later
"""Applications that just end: what they published arrives, and they do not hang."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from fedmsg.testing import Bus, Process, envelopes

PUBLISH = "fedmsg.publish(topic='t', modname='app', msg={'n': %s}, active=True, name='relay_inbound')"

PROGRAMS = {
    "without a word": f"import fedmsg\n{PUBLISH % 1}",
    "in a thread": f"""
import fedmsg, threading
def work():
    {PUBLISH % 1}
threading.Thread(target=work).start()
""",
    "in a daemon thread": f"""
import fedmsg, threading
def work():
    {PUBLISH % 1}
    done.set()
    forever.wait()
done, forever = threading.Event(), threading.Event()
threading.Thread(target=work, daemon=True).start()
done.wait()
""",
    "by an exception": f"import fedmsg\n{PUBLISH % 1}\nraise SystemExit(0)",
    "with a context of its own": """
import fedmsg.config, fedmsg.core, warnings
warnings.simplefilter('ignore', DeprecationWarning)  # load_config's, which points to conf
with fedmsg.core.FedMsgContext(**{**fedmsg.config.load_config(), 'active': True}) as context:
    context.publish(topic='t', modname='app', msg={'n': 1})
""",
    "in children of multiprocessing": f"""
import fedmsg, multiprocessing, warnings
warnings.simplefilter('ignore', DeprecationWarning)  # Python's, about threads and fork
multiprocessing.set_start_method('fork')
fedmsg.init(active=True, name='relay_inbound')
def work():
    {PUBLISH % 1}
child = multiprocessing.Process(target=work)
child.start()
child.join()
assert child.exitcode == 0
""",
    "while a tail is open": f"""
import fedmsg, threading
messages = fedmsg.tail_messages(active=True, name='relay_inbound')
threading.Thread(target=next, args=(messages,), daemon=True).start()
{PUBLISH % 1}
""",
}


LEFT_OPEN = {
    "a tail": f"""
import fedmsg, threading
messages = fedmsg.tail_messages(active=True, name='relay_inbound')
reader = threading.Thread(target=next, args=(messages,), daemon=True)
reader.start()
while reader.is_alive():
    {PUBLISH % 1}
    reader.join(0.01)
""",
    "a stream": """
import fedmsg
messages = fedmsg.subscribe()
assert messages.read(0.1) is None
""",
}


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    with Bus() as made:
        made.start_relay()
        yield made


@pytest.fixture
def tail(bus: Bus) -> Iterator[Process]:
    with bus.tail("--json", "--topic", "org.fedoraproject.dev") as process:
        yield process


@pytest.mark.parametrize("how", PROGRAMS)
def test_what_was_published_arrives(how: str, bus: Bus, tail: Process) -> None:
    with Process([sys.executable, "-W", "error", "-c", PROGRAMS[how]], env=bus.environ) as program:
        assert (program.wait(), program.err) == (0, [])
    tail.wait_for('"n":1')
    assert [envelope["msg"] for envelope in envelopes(tail.out)] == [{"n": 1}]


def test_a_burst_at_the_end_arrives_whole(bus: Bus, tail: Process) -> None:
    burst = f"import fedmsg\nfor n in range(20_000): {PUBLISH % 'n'}"
    with Process([sys.executable, "-c", burst], env=bus.environ) as program:
        assert program.wait() == 0
    tail.wait_for('"n":19999')
    assert [envelope["msg"]["n"] for envelope in envelopes(tail.out)] == list(range(20_000))


@pytest.mark.parametrize("what", LEFT_OPEN)
def test_what_is_left_open_ends_with_the_program(what: str, bus: Bus) -> None:
    # Its thread is not waited for: threads no longer run when the interpreter ends.
    with Process([sys.executable, "-c", LEFT_OPEN[what]], env=bus.environ) as program:
        assert (program.wait(), program.err) == (0, [])
