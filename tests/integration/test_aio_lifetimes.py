# SPDX-License-Identifier: LGPL-2.1-or-later
"""Event loops that come and go, in threads and in children, and programs that just end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import fedmsg.aio
from fedmsg.aio import FedMsgContext
from fedmsg.exceptions import UsageError
from fedmsg.testing import Bus, Process, envelopes, free_address, wait_until
from fedmsg.transport.zmq import contexts
from tests.integration.faults.ground import Witness


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def settings(address: str) -> dict[str, Any]:
    return {"name": "me.here", "endpoints": {"me.here": address}, "post_init_sleep": 10}


# ------------------------------------------------------------------ loops and threads


def test_loops_in_several_threads(address: str, settings: dict[str, Any]) -> None:
    """Each has a context of its own, and they share the address."""
    threads, loops = 8, 5

    async def publish(thread: int, loop: int) -> None:
        await asyncio.gather(
            *(fedmsg.aio.publish("t", {"n": [thread, loop, n]}, modname="m", **settings) for n in range(20))
        )

    def run(thread: int) -> None:
        for loop in range(loops):
            asyncio.run(publish(thread, loop), debug=True)

    async def keep_open() -> None:
        async with FedMsgContext(**settings):
            await asyncio.gather(*(asyncio.to_thread(run, thread) for thread in range(threads)))

    with Witness(address) as witness:
        asyncio.run(keep_open())
        witness.wait_for(threads * loops * 20, "t")
    assert {len(frames) for frames in witness.frames} == {2}
    expected = [[thread, loop, n] for thread in range(threads) for loop in range(loops) for n in range(20)]
    assert sorted(witness.numbers("t")) == expected
    assert contexts._users == 0


def test_a_context_belongs_to_one_loop_at_a_time(settings: dict[str, Any]) -> None:
    settings["post_init_sleep"] = 0
    context = FedMsgContext(**settings)
    first = asyncio.new_event_loop()
    first.run_until_complete(context.publish(modname="m"))
    with pytest.raises(UsageError, match="another event loop"):
        asyncio.run(context.publish(modname="m"))
    first.close()
    # Whose loop is closed is taken over by the next.
    asyncio.run(context.publish(modname="m"))
    asyncio.run(context.destroy())
    assert context._i == 2
    assert contexts._users == 0


def test_a_context_ends_with_its_loop(address: str, settings: dict[str, Any]) -> None:
    with Witness(address) as witness:
        asyncio.run(fedmsg.aio.publish("t", {"n": 1}, modname="m", **settings))
        assert contexts._users == 0
        # Also where nobody shuts the loop down as asyncio.run does.
        loop = asyncio.new_event_loop()
        loop.run_until_complete(fedmsg.aio.publish("t", {"n": 2}, modname="m", **settings))
        loop.close()
        del loop
        gc.collect()
        assert contexts._users == 0
        witness.wait_for(2, "t")
    assert witness.numbers("t") == [1, 2]


def test_a_listener_ends_with_its_loop(settings: dict[str, Any]) -> None:
    settings["post_init_sleep"] = 0
    messages = []

    async def listen() -> None:
        messages.append(fedmsg.aio.tail_messages(**settings))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(anext(messages[0]))), 0.02)

    asyncio.run(listen())
    assert contexts._users == 0


# ------------------------------------------------------------------ programs

PUBLISH = "fedmsg.aio.publish(topic='t', modname='app', msg={'n': %s}, active=True, name='relay_inbound')"

PROGRAMS = {
    "without a word": f"import asyncio, fedmsg.aio\nasyncio.run({PUBLISH % 1})",
    "without shutting its loop down": f"""
import asyncio, fedmsg.aio
loop = asyncio.new_event_loop()
loop.run_until_complete({PUBLISH % 1})
loop.close()
""",
    "by an exception": f"""
import asyncio, fedmsg.aio
async def main():
    await {PUBLISH % 1}
    raise SystemExit(0)
asyncio.run(main())
""",
    "by an interrupt": f"""
import asyncio, fedmsg.aio, os, signal
async def main():
    await {PUBLISH % 1}
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.Event().wait()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
""",
    "in a thread": f"""
import asyncio, fedmsg.aio, threading
threading.Thread(target=asyncio.run, args=({PUBLISH % 1},)).start()
""",
    "in a daemon thread": f"""
import asyncio, fedmsg.aio, threading
async def work():
    await {PUBLISH % 1}
    done.set()
    await asyncio.Event().wait()
done = threading.Event()
threading.Thread(target=asyncio.run, args=(work(),), daemon=True).start()
done.wait()
""",
    "with a context of its own": """
import asyncio, fedmsg.aio, fedmsg.config
async def main():
    config = {**fedmsg.config.conf.copy(), 'active': True, 'topic_prefix': 'org.fedoraproject'}
    async with fedmsg.aio.FedMsgContext(**config) as context:
        await context.publish(topic='t', modname='app', msg={'n': 1})
asyncio.run(main())
""",
    "while a tail is open": f"""
import asyncio, fedmsg.aio
async def listen():
    async for _ in fedmsg.aio.tail_messages(active=True, name='relay_inbound'):
        pass
async def main():
    listening = asyncio.create_task(listen())
    await {PUBLISH % 1}
asyncio.run(main())
""",
    "on uvloop": f"import fedmsg.aio, uvloop\nuvloop.run({PUBLISH % 1})",
}


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    with Bus() as made:
        made.start_relay()
        yield made


@pytest.fixture
def tail(bus: Bus) -> Iterator[Process]:
    with bus.tail("--json", "--topic", "org.fedoraproject.dev") as running:
        yield running


@pytest.mark.parametrize("how", PROGRAMS)
def test_what_was_published_arrives(how: str, bus: Bus, tail: Process) -> None:
    with Process([sys.executable, "-W", "error", "-X", "dev", "-c", PROGRAMS[how]], env=bus.environ) as program:
        status = program.wait()
        # In development mode asyncio reports what took long, which on a busy machine anything may.
        assert (status, [line for line in program.err if not line.startswith("Executing <")]) == (0, [])
    tail.wait_for('"n":1')
    assert [envelope["msg"] for envelope in envelopes(tail.out)] == [{"n": 1}]


FORKING = """
import asyncio, os, sys, fedmsg.aio

async def child():
    # With the arguments that the parent's init had.
    await fedmsg.aio.publish(topic="t", modname="app", msg={"n": "child"})
    await own.publish(topic="t", modname="app", msg={"n": "child's own"})
    await own.destroy()

async def main():
    await fedmsg.aio.init(active=True, name="relay_inbound")
    await own.publish(topic="t", modname="app", msg={"n": "parent's own"})
    await fedmsg.aio.publish(topic="t", modname="app", msg={"n": "parent"})
    if os.fork() == 0:
        asyncio.set_event_loop(None)
        status = 1
        try:
            asyncio.new_event_loop().run_until_complete(child())
            status = 0
        finally:
            os._exit(status)
    assert os.wait()[1] == 0
    await fedmsg.aio.publish(topic="t", modname="app", msg={"n": "parent again"})
    await own.destroy()

own = fedmsg.aio.FedMsgContext(
    active=True, name="relay_inbound", relay_inbound=os.environ["RELAY"].split(), zmq_linger=2000
)
asyncio.run(main())
"""


def test_a_child_opens_sockets_of_its_own(bus: Bus, tail: Process) -> None:
    environ = {**bus.environ, "RELAY": " ".join(bus.config["relay_inbound"])}
    options = ["-W", "error", "-W", "ignore::DeprecationWarning"]  # Python's, about threads and fork
    with Process([sys.executable, *options, "-c", FORKING], env=environ) as program:
        assert (program.wait(), program.err) == (0, [])
    tail.wait_for("parent again")
    wait_until(lambda: len(tail.out) == 5)
    numbers = [envelope["msg"]["n"] for envelope in envelopes(tail.out)]
    assert sorted(numbers) == ["child", "child's own", "parent", "parent again", "parent's own"]
    ids = {envelope["msg_id"] for envelope in envelopes(tail.out)}
    assert len(ids) == 5


def test_a_burst_at_the_end_arrives_whole(bus: Bus, tail: Process) -> None:
    burst = f"""
import asyncio, fedmsg.aio
async def main():
    for n in range(20_000):
        await {PUBLISH % "n"}
asyncio.run(main())
"""
    with Process([sys.executable, "-c", burst], env=bus.environ) as program:
        assert program.wait() == 0
    tail.wait_for('"n":19999')
    assert [envelope["msg"]["n"] for envelope in envelopes(tail.out)] == list(range(20_000))


def test_the_submodule_is_loaded_at_the_first_touch() -> None:
    loaded = "'asyncio' in sys.modules"
    code = f"import sys, fedmsg; before = {loaded}; fedmsg.aio.publish; print(before, {loaded})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # What pyzmq loads is its own business.
    plain = subprocess.run(
        [sys.executable, "-c", "import sys, zmq; print('asyncio' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.split() == [plain.stdout.strip(), "True"]
