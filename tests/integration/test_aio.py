# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.aio does what the synchronous functions and their context do."""

from __future__ import annotations

import asyncio
import getpass
import inspect
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import zmq

import fedmsg
import fedmsg.aio
from fedmsg.aio import FedMsgContext
from fedmsg.exceptions import AddressInUse, ConfigError, MessageError, NotListening, RefusedAtStart, UsageError
from fedmsg.testing import free_address
from fedmsg.transport.zmq.forwarder import Forwarder
from tests.integration.faults.ground import Witness
from tests.integration.loops import begin, connected, hearing, wait_until

HOST = socket.gethostname().split(".", 1)[0]

pytestmark = pytest.mark.anyio


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def settings(address: str) -> dict[str, Any]:
    return {"name": "me.here", "endpoints": {"me.here": address}, "post_init_sleep": 10}


@pytest.fixture
def witness(address: str) -> Iterator[Witness]:
    with Witness(address) as running:
        yield running


@pytest.fixture
async def bound(settings: dict[str, Any], witness: Witness) -> AsyncIterator[FedMsgContext]:
    async with FedMsgContext(**settings) as context:
        yield context


@pytest.fixture
async def initialized(settings: dict[str, Any], witness: Witness) -> AsyncIterator[FedMsgContext]:
    yield await fedmsg.aio.init(**settings)
    await fedmsg.aio.destroy()


async def test_an_envelope(bound: FedMsgContext, witness: Witness) -> None:
    before = int(time.time())
    await bound.publish(topic="update", msg={"title": "nethack"}, modname="bodhi")
    await wait_until(lambda: witness.frames)
    ((topic, body),) = witness.frames
    envelope = json.loads(body)
    assert body.decode() == json.dumps(envelope, sort_keys=True, separators=(",", ":"))
    assert before <= envelope.pop("timestamp") <= time.time()
    year, _, rest = envelope.pop("msg_id").partition("-")
    assert (year, len(rest)) == (str(time.localtime().tm_year), 36)
    assert topic == b"org.fedoraproject.dev.bodhi.update"
    assert envelope == {
        "i": 1,
        "msg": {"title": "nethack"},
        "topic": "org.fedoraproject.dev.bodhi.update",
        "username": getpass.getuser(),
    }


@pytest.mark.parametrize(
    ("arguments", "topic", "msg"),
    [
        ({"modname": "m"}, "org.fedoraproject.dev.m.unspecified", {}),
        ({"modname": "m", "topic": "t", "msg": []}, "org.fedoraproject.dev.m.t", {}),
        ({"modname": "m", "topic": "ü", "msg": {"ü": "ü"}}, "org.fedoraproject.dev.m.ü", {"ü": "ü"}),
    ],
)
async def test_topic_and_msg(
    arguments: dict[str, Any], topic: str, msg: object, bound: FedMsgContext, witness: Witness
) -> None:
    for _ in range(2):
        await bound.publish(**arguments)
    await wait_until(lambda: len(witness.frames) == 2)
    for name, body in witness.frames:
        assert (name.decode(), json.loads(body)["msg"]) == (topic, msg)


CALLER = """
import asyncio, fedmsg.aio

async def deeper(n, publish):
    await (deeper(n - 1, publish) if n else publish(topic="t"))

async def all_ways(publish):
    await publish(topic="awaited")
    await deeper(50, publish)
    await asyncio.create_task(publish(topic="by a task"))
    await asyncio.gather(publish(topic="gathered"), publish(topic="gathered"))
    loop = asyncio.get_running_loop()
    await loop.create_task(asyncio.wait_for(publish(topic="in time"), 10))
"""


@pytest.mark.parametrize("whose", ["context", "module"])
async def test_the_modname_is_the_callers(whose: str, initialized: FedMsgContext, witness: Witness) -> None:
    caller: dict[str, Any] = {"__name__": "bodhi.views.update"}
    exec(CALLER, caller)
    await caller["all_ways"](initialized.publish if whose == "context" else fedmsg.aio.publish)
    await wait_until(lambda: len(witness.frames) == 6)
    assert {topic.split(b".")[3] for topic, _ in witness.frames} == {b"bodhi"}


@pytest.mark.parametrize("function", [fedmsg.aio.init, fedmsg.aio.publish, FedMsgContext.publish, fedmsg.aio.destroy])
def test_web_frameworks_take_them_for_coroutine_functions(function: Any) -> None:
    # As Starlette does to tell whether a background task needs a thread.
    assert asyncio.iscoroutinefunction(function)
    assert inspect.iscoroutinefunction(function) or not hasattr(inspect, "markcoroutinefunction")


async def test_nothing_happens_before_it_is_awaited(bound: FedMsgContext, witness: Witness) -> None:
    late = bound.publish(topic="late", modname="m")
    await bound.publish(topic="early", modname="m")
    await late
    await wait_until(lambda: len(witness.frames) == 2)
    assert [topic.split(b".")[-1] for topic, _ in witness.frames] == [b"early", b"late"]


async def test_messages_are_counted(bound: FedMsgContext, witness: Witness) -> None:
    async def publish(name: str) -> None:
        for _ in range(500):
            await bound.publish(topic=name, modname="m")

    await asyncio.gather(publish("a"), publish("b"))
    assert bound._i == 1000
    await wait_until(lambda: len(witness.frames) == 1000)
    assert {len(frames) for frames in witness.frames} == {2}
    assert [json.loads(body)["i"] for _, body in witness.frames] == list(range(1, 1001))


async def test_who_publishes_without_a_break_leaves_the_others_their_turn(bound: FedMsgContext) -> None:
    done = False

    async def publish() -> None:
        nonlocal done
        while not done:
            await bound.publish(topic="t", modname="m")

    task = asyncio.create_task(publish())
    await wait_until(lambda: bound._i > 1000)
    done = True
    await task


async def test_the_hook_sees_the_finished_envelope(bound: FedMsgContext, witness: Witness) -> None:
    seen: list[dict[str, Any]] = []
    await bound.publish(topic="t", msg={"a": 1}, modname="m", pre_fire_hook=seen.append)
    await wait_until(lambda: witness.frames)
    assert seen == [json.loads(witness.frames[0][1])]


async def test_a_hook_that_nobody_would_await_is_refused(bound: FedMsgContext) -> None:
    async def hook(_envelope: dict[str, Any]) -> None:
        """Never run."""

    with pytest.raises(UsageError, match="pre_fire_hook is a coroutine function"):
        await bound.publish(topic="t", modname="m", pre_fire_hook=hook)
    assert bound._i == 0


async def test_what_is_given_is_never_changed(settings: dict[str, Any]) -> None:
    msg = {"nested": {"list": [1, {"a": 2}]}}
    settings["post_init_sleep"] = 0
    before = json.dumps([settings, msg])
    async with FedMsgContext(**settings) as context:
        await context.publish(topic="t", msg=msg, modname="m")
        await context.publish(topic="t", msg=msg, modname="m", pre_fire_hook=lambda envelope: None)
        assert context.c["endpoints"] == {"me.here": [settings["endpoints"]["me.here"]]}
    assert json.dumps([settings, msg]) == before


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"msg": {"a": object()}}, TypeError, "object"),
        ({"msg": {1: 2, "a": 3}}, TypeError, "<"),
        ({"topic": "\ud800"}, MessageError, "UTF-8"),
        ({"msg": {"a": "x" * 1000}}, MessageError, r"max_message_size allows \(1000\)"),
    ],
)
async def test_what_receivers_would_refuse_is_an_error_here(
    arguments: dict[str, Any], error: type[Exception], match: str, settings: dict[str, Any], witness: Witness
) -> None:
    async with FedMsgContext(**settings, max_message_size=1000) as context:
        with pytest.raises(error, match=match):
            await context.publish(modname="m", **arguments)
        await context.publish(topic="t", modname="m")  # and it goes on
        await wait_until(lambda: witness.frames)
        assert json.loads(witness.frames[0][1])["i"] == 1


# ------------------------------------------------------------------ opening


async def test_a_name_without_endpoint_is_a_warning_and_publishing_an_error() -> None:
    context = FedMsgContext(name="me.here", endpoints={})
    with pytest.warns(UserWarning, match="fedmsg is not configured to send any zmq messages for name 'me.here'"):
        await context.open()
    async with context:
        with pytest.raises(ConfigError, match=r"endpoints\['me.here'\].*active=True"):
            await context.publish(topic="t", modname="m")


async def test_the_name_is_the_calling_module_and_the_host(address: str) -> None:
    caller: dict[str, Any] = {"__name__": "bodhi.server", "FedMsgContext": FedMsgContext, "fedmsg": fedmsg}
    exec("def new(**config): return FedMsgContext(**config)", caller)
    exec("def init(**config): return fedmsg.aio.init(**config)", caller)
    config = {"endpoints": {f"bodhi.{HOST}": address}}
    try:
        for context in (caller["new"](**config), await asyncio.create_task(caller["init"](**config))):
            async with context:
                assert context.c["name"] == f"bodhi.{HOST}"
                assert context.hostname == HOST
                assert context.log.name == "fedmsg"
                assert isinstance(context.context, zmq.Context)
                assert context.publisher.getsockopt_string(zmq.LAST_ENDPOINT).endswith(address.rpartition(":")[2])
    finally:
        await fedmsg.aio.destroy()


async def test_a_mute_one_opens_nothing_and_says_nothing() -> None:
    async with FedMsgContext(mute=True, name="me.here", endpoints={"me.here": "tcp://127.0.0.1:1"}) as context:
        assert context.publisher is None
        with pytest.raises(ConfigError, match="mute"):
            await context.publish(topic="t", modname="m")


async def test_active_without_a_relay_address() -> None:
    with pytest.raises(KeyError) as caught:
        await FedMsgContext(active=True, endpoints={}, relay_inbound=None).open()
    assert str(caught.value) == "Could not find endpoint for fedmsg-relay. Try installing fedmsg-relay."


async def test_active_publishes_through_a_relay() -> None:
    with Forwarder({}, [free_address()], [free_address()], limit=1000) as relay, Witness(relay.outbound) as witness:
        async with FedMsgContext(active=True, relay_inbound=relay.inbound) as context:
            assert context.c["name"] == "relay_inbound"
            while not witness.frames:
                await context.publish(topic="hello", modname="m")
            await context.publish(topic="t", modname="m", msg={"n": 1})
            await wait_until(lambda: witness.numbers("t") == [1])
            assert context.lost == 0


async def test_all_addresses_taken_by_another_process(address: str, settings: dict[str, Any]) -> None:
    context = FedMsgContext(**settings)
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", int(address.rpartition(":")[2])))
        holder.listen()
        for _ in range(2):
            with pytest.raises(AddressInUse, match=r"^Couldn't find an available endpoint for name 'me.here'"):
                await context.publish(modname="m")
    # Once it is free, it is taken.
    async with context:
        assert context.is_open


async def test_a_setting_that_can_not_work_is_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="zmq_linger is -1"):
        FedMsgContext(mute=True, zmq_linger=-1)


async def test_a_broker_instead_of_zeromq() -> None:
    async with FedMsgContext(zmq_enabled=False, name="me.here", endpoints={}) as context:
        with pytest.raises(ValueError, match="zmq_enabled"):
            context.tail_messages()
        with pytest.raises(AttributeError) as caught:
            await context.publish(topic="t", modname="m")
        assert str(caught.value) == "Unable to publish non-zeromq msg without moksha-hub initialization."


# ------------------------------------------------------------------ closing


async def test_a_closed_context_says_so_and_closes_twice(settings: dict[str, Any]) -> None:
    context = FedMsgContext(**settings)
    await context.open()
    await asyncio.gather(context.destroy(), context.destroy())
    await context.destroy()
    assert context.publisher is None
    with pytest.raises(ConfigError, match="closed"):
        await context.publish(topic="t", modname="m")
    never_opened = FedMsgContext(**settings)
    await never_opened.destroy()
    with pytest.raises(ConfigError, match="closed"):
        await never_opened.open()


async def test_a_forgotten_one_warns_and_closes(settings: dict[str, Any]) -> None:
    context = FedMsgContext(**settings)
    await context.open()
    with pytest.warns(ResourceWarning, match="unclosed FedMsgContext"):
        del context
    async with FedMsgContext(**settings):
        pass


async def test_the_old_name_of_publish(bound: FedMsgContext, witness: Witness) -> None:
    with pytest.warns(DeprecationWarning, match=r"^\.send_message is deprecated\. Use \.publish$"):
        await bound.send_message("t", {"a": 1}, "m")
    await wait_until(lambda: witness.frames)
    assert witness.frames[0][0] == b"org.fedoraproject.dev.m.t"


# ------------------------------------------------------------------ listening


async def test_listening(address: str, settings: dict[str, Any]) -> None:
    only = "org.fedoraproject.dev.m"
    async with FedMsgContext(**settings) as context, hearing(context.tail_messages(topic=only)) as heard:
        for modname, topic in (("m", "1"), ("other", "2"), ("mm", "3")):
            await context.publish(topic=topic, modname=modname)
        await wait_until(lambda: len(heard) == 2)
    assert [(name, where, topic, envelope["i"]) for name, where, topic, envelope in heard] == [
        ("me.here", address, "org.fedoraproject.dev.m.1", 1),
        ("me.here", address, "org.fedoraproject.dev.mm.3", 3),
    ]


async def test_listening_where_others_connect_to(address: str) -> None:
    with zmq.Context() as plain, plain.socket(zmq.XPUB) as publisher:
        publisher.connect(address)
        messages = FedMsgContext(mute=True, endpoints={"x": address}).tail_messages(passive=True)
        async with hearing(messages) as heard:
            await wait_until(lambda: publisher.poll(0))
            publisher.send_multipart([b"t", b'{"topic":"t","msg":1}'])
            await wait_until(lambda: heard)
    assert heard == [("x", address, "t", {"topic": "t", "msg": 1})]


async def test_a_name_that_is_not_found_does_not_keep_the_others_waiting(
    address: str, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings["endpoints"] = {"me.here": address, "bad": "tcp://no-such-host.invalid:1"}
    async with FedMsgContext(**settings) as context, hearing(context.tail_messages()) as heard:
        await context.publish(topic="t", modname="m")
        await wait_until(lambda: heard)
        await wait_until(lambda: "no-such-host.invalid" in caplog.text)


async def test_all_that_comes_in_a_burst_is_heard_and_the_others_have_their_turn(settings: dict[str, Any]) -> None:
    endpoints = {**settings["endpoints"], **{f"x{number}": free_address() for number in range(20)}}
    settings["endpoints"] = endpoints
    async with FedMsgContext(**settings) as context, hearing(context.tail_messages()) as heard:
        await connected(context, heard)
        for number in range(20_000):
            await context.publish("t", number or "0", modname="m")
        await wait_until(lambda: len(heard) == 20_000)
    assert [envelope["msg"] for *_, envelope in heard] == ["0", *range(1, 20_000)]


async def test_refused_messages_are_counted(address: str, caplog: pytest.LogCaptureFixture) -> None:
    listener = FedMsgContext(mute=True, endpoints={"x": address})
    with zmq.Context() as plain, plain.socket(zmq.XPUB) as publisher:
        publisher.set_hwm(0)
        publisher.bind(address)
        async with hearing(listener.tail_messages()) as heard:
            await wait_until(lambda: publisher.poll(0))
            with caplog.at_level(logging.WARNING):
                for number in range(3000):
                    publisher.send_multipart([b"t", b"null" if number % 2 else b"{}"])
                publisher.send_multipart([b"t"])
                publisher.send_multipart([b"t", b'{"topic":"t","msg":1}'])
                await wait_until(lambda: heard)
    assert listener.rejections.counts == {"json": 1500, "topic": 1500, "frames": 1}
    assert f"rejected a message from {address}: its body is not a JSON object" in caplog.text


async def test_what_can_not_work_fails_at_the_call() -> None:
    with pytest.raises(ConfigError, match=r"endpoints\['x'\]"):
        FedMsgContext(mute=True, endpoints={"x": "nonsense"}).tail_messages()
    with pytest.raises(RefusedAtStart, match=r"ca\.crt.*ca_cert_location"):
        FedMsgContext(
            mute=True, endpoints={}, validate_signatures=True, ca_cert_location="/nowhere/ca.crt"
        ).tail_messages()
    with pytest.raises(ConfigError, match=r"endpoints\['x'\]"):
        fedmsg.aio.tail_messages(mute=True, endpoints={"x": "nonsense"})
    await fedmsg.aio.destroy()


# ------------------------------------------------------------------ the module functions


async def test_init_keeps_the_context_for_the_loop(initialized: FedMsgContext, witness: Witness) -> None:
    with pytest.raises(ValueError, match=r"^fedmsg already initialized$"):
        await fedmsg.aio.init()
    await fedmsg.aio.publish(topic="t", msg={"n": 1}, modname="m", name="ignored")
    await wait_until(lambda: witness.numbers("t") == [1])
    assert initialized._i == 1


async def test_publish_initialises_and_destroy_starts_afresh(settings: dict[str, Any], witness: Witness) -> None:
    for _ in range(2):
        await asyncio.gather(*(fedmsg.aio.publish(topic="t", msg={"n": 1}, modname="m", **settings) for _ in range(3)))
        await fedmsg.aio.destroy()
    await wait_until(lambda: len(witness.frames) == 6)
    assert [body["i"] for body in witness.bodies("t")] == [1, 2, 3] * 2
    await fedmsg.aio.destroy()


async def test_what_failed_to_open_can_be_opened_later(address: str, settings: dict[str, Any]) -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", int(address.rpartition(":")[2])))
        holder.listen()
        with pytest.raises(AddressInUse):
            await fedmsg.aio.init(**settings)
        with pytest.raises(AddressInUse):
            await fedmsg.aio.publish(modname="m", **settings)
    await fedmsg.aio.init(**settings)
    await fedmsg.aio.destroy()


async def test_tail_messages_of_the_module(address: str, settings: dict[str, Any]) -> None:
    async with hearing(fedmsg.aio.tail_messages(**settings)) as heard:
        await fedmsg.aio.publish(topic="t", modname="m")
        await wait_until(lambda: heard)
        assert heard[0][:3] == ("me.here", address, "org.fedoraproject.dev.m.t")
    await fedmsg.aio.destroy()


def test_without_a_loop_nothing_listens() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        fedmsg.aio.tail_messages(mute=True)


async def test_without_a_relay_publishing_through_one_fails(address: str) -> None:
    async with FedMsgContext(active=True, relay_inbound=address, timeout=0) as context:
        # timeout=0 never waits.
        with pytest.raises(NotListening, match=address):
            begin(context.publish(topic="t", modname="m"))
        assert context._i == 0
