# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signed messages through real commands: logger, relay, signing relay and tail."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import fedmsg
from fedmsg import crypto, encoding
from fedmsg.core import FedMsgContext
from fedmsg.exceptions import MissingKey, RefusedAtStart
from fedmsg.testing import Bus, Process, envelopes, free_address, free_port
from tests.certificates import Bench, Holder, authority, put

HOST = socket.gethostname().split(".", 1)[0]
TOPIC = "org.fedoraproject.dev.logger.log"
MESSAGE = {"topic": TOPIC, "msg_id": "2026-1", "timestamp": 1, "i": 1, "username": "u"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.config["certnames"] = {f"shell.{HOST}": "shell.test", "signing_relay": "shell.test", "me.here": "shell.test"}
    del made.config["certname"]
    return made


@pytest.fixture
def bus(bench: Bench) -> Iterator[Bus]:
    settings = {**bench.config, "sign_messages": True, "validate_signatures": True}
    with Bus(settings) as made:
        yield made


def hear(tail: Process, text: str, say: Callable[[], object] = lambda: None) -> dict[str, Any]:
    line = tail.wait_for(text, meanwhile=say)
    return envelopes([line])[0]


def speak_until_heard(tail: Process, unsigned: FedMsgContext, signed: FedMsgContext) -> None:
    """Publish 1 without a signature and 2 with one, until a tail has shown 2."""

    def say() -> None:
        unsigned.publish(topic="log", modname="logger", msg={"n": 1})
        signed.publish(topic="log", modname="logger", msg={"n": 2})

    tail.wait_for('"n":2', meanwhile=say)
    say()
    signed.publish(topic="log", modname="logger", msg={"n": 2, "last": True})
    tail.wait_for("last")
    tail.stop()


def test_from_the_logger_to_the_tail(bus: Bus, bench: Bench) -> None:
    bus.start_relay("--validate")
    with bus.tail("--json") as tail:
        assert bus.run("fedmsg-logger", "--message", "signed").returncode == 0
        heard = hear(tail, '"log":"signed"')
        assert heard["crypto"] == "x509"
        assert crypto.validate_signed_by(heard, "shell.test", **bench.config)
        tail.stop()


def test_a_tail_shows_only_what_is_valid(bus: Bus) -> None:
    bus.start_relay()
    with bus.tail("--json") as tail, bus.context(sign_messages=False) as unsigned, bus.context() as signed:
        unsigned.publish(topic="log", modname="logger", msg={"n": 1})
        signed.publish(topic="log", modname="logger", msg={"n": 2})
        assert hear(tail, "log")["msg"] == {"n": 2}
        tail.wait_for("!! invalid message received", stream="err")
        tail.wait_for("it is not signed", stream="err")


def test_no_validate_shows_all(bus: Bus) -> None:
    bus.start_relay()
    with (
        Process(["fedmsg-tail", "--json", "--no-validate"], env=bus.environ) as tail,
        bus.context(sign_messages=False) as unsigned,
    ):
        tail.wait_for("log", meanwhile=lambda: unsigned.publish(topic="log", modname="logger"))


def test_validate_checks_though_the_configuration_does_not(bench: Bench) -> None:
    with Bus(bench.config) as bus:
        bus.start_relay()
        with (
            Process(["fedmsg-tail", "--json", "--validate"], env=bus.environ) as tail,
            bus.context(sign_messages=False) as unsigned,
            bus.context(sign_messages=True) as signed,
        ):
            speak_until_heard(tail, unsigned, signed)
        assert {envelope["msg"]["n"] for envelope in envelopes(tail.out)} == {2}


def test_a_relay_that_checks_passes_only_what_is_valid(bus: Bus) -> None:
    relay = bus.start_relay("--validate")
    with (
        Process(["fedmsg-tail", "--json", "--no-validate"], env=bus.environ) as tail,
        bus.context(sign_messages=False) as unsigned,
        bus.context() as signed,
    ):
        speak_until_heard(tail, unsigned, signed)
    assert {envelope["msg"]["n"] for envelope in envelopes(tail.out)} == {2}
    relay.wait_for("it is not signed")
    assert bus.stop_relay() == 0


def test_a_gateway_that_checks_repeats_only_what_is_valid(bus: Bus) -> None:
    port = free_port()
    bus.start_relay()
    with (
        Bus({**bus.config, "fedmsg.consumers.gateway.port": port}) as inside,
        Process(["fedmsg-gateway", "--validate"], env=inside.environ) as gateway,
        Bus({**bus.config, "endpoints": {"gateway": [f"tcp://127.0.0.1:{port}"]}}) as outside,
        Process(["fedmsg-tail", "--json", "--no-validate"], env=outside.environ) as tail,
        bus.context(sign_messages=False) as unsigned,
        bus.context() as signed,
    ):
        gateway.wait_ready()
        speak_until_heard(tail, unsigned, signed)
        assert {envelope["msg"]["n"] for envelope in envelopes(tail.out)} == {2}
        gateway.wait_for("it is not signed")
        assert gateway.stop() == 0


@pytest.mark.parametrize("command", ["fedmsg-relay", "fedmsg-gateway"])
def test_a_key_twice_is_rejected_at_the_door(command: str, bench: Bench) -> None:
    """What a checker decodes must be what all others decode, and they differ in which of two keys they take."""
    inbound, outbound = free_address(), free_address()
    settings: dict[str, Any] = {**bench.config, "relay_inbound": inbound, "endpoints": {"relay_outbound": [outbound]}}
    if command == "fedmsg-gateway":
        port = free_port()
        outbound = f"tcp://127.0.0.1:{port}"
        settings |= {"endpoints": {"inside": [inbound]}, "fedmsg.consumers.gateway.port": port}
    good = crypto.sign({**MESSAGE, "msg": "good"}, **{**bench.config, "certname": "shell.test"})
    last = crypto.sign({**MESSAGE, "msg": "last"}, **{**bench.config, "certname": "shell.test"})
    canonical = encoding.dumps(good)
    twice = canonical.replace('"msg":"good"', '"msg":"EVIL","msg":"good"')
    assert crypto.validate(json.loads(twice), **bench.config)  # the last one wins
    with (
        Bus(settings) as bus,
        zmq.Context() as context,
        context.socket(zmq.PUB) as publisher,
        context.socket(zmq.SUB) as subscriber,
    ):
        publisher.linger = subscriber.linger = 0
        (publisher.bind if command == "fedmsg-gateway" else publisher.connect)(inbound)
        subscriber.subscribe(b"")
        with Process([command, "--validate"], env=bus.environ) as process:
            process.wait_ready()
            subscriber.connect(outbound)
            topic = TOPIC.encode()
            heard: list[bytes] = []
            while not heard:  # until the sockets are connected
                publisher.send_multipart([topic, canonical.encode()])
                if subscriber.poll(100):
                    heard.append(subscriber.recv_multipart()[1])
            for body in (twice, json.dumps(good, indent=1), encoding.dumps(last)):
                publisher.send_multipart([topic, body.encode()])
            while heard[-1] != encoding.dumps(last).encode():
                heard.append(subscriber.recv_multipart()[1])
            process.wait_for("appears twice")
    assert set(heard) == {text.encode() for text in (canonical, json.dumps(good, indent=1), encoding.dumps(last))}


def test_a_signing_relay_signs_for_those_without_a_key(bus: Bus, bench: Bench) -> None:
    with Process(["fedmsg-signing-relay"], env=bus.environ) as relay:
        relay.wait_ready()
        with bus.tail("--json") as tail, bus.context(sign_messages=False) as unsigned:
            unsigned.publish(topic="log", modname="logger", msg={"n": 1})
            heard = hear(tail, '"n":1')
            assert crypto.validate_signed_by(heard, "shell.test", **bench.config)
        assert relay.stop() == 0


def test_a_signing_relay_may_check_first(bus: Bus) -> None:
    with Process(["fedmsg-signing-relay", "--validate"], env=bus.environ) as relay:
        relay.wait_ready()
        with bus.tail("--json") as tail, bus.context(sign_messages=False) as unsigned, bus.context() as signed:
            unsigned.publish(topic="log", modname="logger", msg={"n": 1})
            signed.publish(topic="log", modname="logger", msg={"n": 2})
            assert hear(tail, "log")["msg"] == {"n": 2}
        relay.wait_for("!! invalid message received")
        assert relay.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("command", "changes", "said"),
    [
        (["fedmsg-logger", "--message", "x"], {"certnames": {}}, f"certnames['shell.{HOST}']"),
        (["fedmsg-logger", "--message", "x"], {"ssldir": "/nowhere"}, "/nowhere/shell.test.key"),
        (["fedmsg-logger", "--message", "x", "--cert-prefix", "web"], {}, f"certnames['web.{HOST}']"),
        (["fedmsg-announce"], {}, f"certnames['announce.{HOST}']"),
        (["fedmsg-signing-relay"], {"certnames": {}}, 'using the "signing_relay" key'),
        (["fedmsg-signing-relay"], {"ssldir": "/nowhere"}, "/nowhere/shell.test.key"),
        (["fedmsg-tail"], {"ca_cert_location": "/nowhere"}, "/nowhere"),
        (["fedmsg-tail"], {"crl_location": "/nowhere"}, "/nowhere"),
        (["fedmsg-relay", "--validate"], {"ca_cert_location": "/nowhere"}, "/nowhere"),
    ],
)
def test_what_can_not_be_done_is_refused_at_the_start(
    command: list[str], changes: dict[str, Any], said: str, bench: Bench
) -> None:
    with Bus({**bench.config, "sign_messages": True, "validate_signatures": True, **changes}) as bus:
        ended = bus.run(*command)
    assert ended.returncode == 7
    assert len(ended.stderr.splitlines()) == 1
    assert said in ended.stderr


def test_an_unknown_backend_is_a_bad_configuration(bench: Bench) -> None:
    with Bus({**bench.config, "validate_signatures": True, "crypto_validate_backends": ["rot13"]}) as bus:
        ended = bus.run("fedmsg-tail")
    assert (ended.returncode, ended.stderr) == (5, "fedmsg-tail: 'rot13' is not a valid crypto backend\n")


# ---------------------------------------------------------------- keys and lists that change under way


def test_the_key_is_replaced_while_a_program_publishes(bus: Bus, bench: Bench) -> None:
    bus.start_relay()
    with bus.tail("--json") as tail, bus.context() as context:

        def say() -> None:
            context.publish(topic="log", modname="logger", msg={"n": 1})

        first = hear(tail, '"n":1', say)["certificate"]
        Holder("shell.test", bench.ca, key_number=99).write(bench.folder)
        tail.wait_for(lambda line: '"n":1' in line and json.loads(line)["certificate"] != first, meanwhile=say)


def test_a_certificate_is_revoked_while_a_tail_runs(bus: Bus, bench: Bench) -> None:
    bus.start_relay()
    with bus.tail("--json") as tail, bus.context() as context:

        def say() -> None:
            context.publish(topic="log", modname="logger", msg={"n": 1})

        hear(tail, '"n":1', say)
        put(bench.crl_path, bench.ca.crl(bench.leaf))
        tail.wait_for("is revoked", stream="err", meanwhile=say)


def test_one_authority_follows_another_while_a_tail_runs(bus: Bus, bench: Bench) -> None:
    bus.start_relay()
    with bus.tail("--json") as tail, bus.context() as context:

        def say() -> None:
            context.publish(topic="log", modname="logger", msg={"n": 1})

        first = hear(tail, '"n":1', say)["certificate"]
        new = authority("New CA")
        put(bench.ca_path, bench.ca.pem + new.pem)
        put(bench.crl_path, bench.ca.crl() + new.crl())
        Holder("shell.test", new, key_number=98).write(bench.folder)
        tail.wait_for(lambda line: '"n":1' in line and json.loads(line)["certificate"] != first, meanwhile=say)
        put(bench.ca_path, new.pem)
        put(bench.crl_path, new.crl())
        Holder("shell.test", bench.ca).write(bench.folder)
        tail.wait_for("issued by none of the configured authorities", stream="err", meanwhile=say)


def test_a_key_that_others_can_read_is_told_of_and_no_key_is_shown(bus: Bus, bench: Bench) -> None:
    (bench.folder / "shell.test.key").chmod(0o644)
    bus.start_relay()
    ended = bus.run("fedmsg-logger", "--message", "x", "--debug")
    assert ended.returncode == 0
    said = ended.stdout + ended.stderr
    assert "other users can read the key" in said
    secret = [line for line in bench.leaf.key_pem.splitlines() if not line.startswith("-----")]
    assert [line for line in secret if line in said] == []


# ---------------------------------------------------------------- in a program


def test_which_certificate_a_context_signs_with(bench: Bench) -> None:
    address = free_address()
    config = {**bench.config, "sign_messages": True, "endpoints": {"me.here": [address]}, "post_init_sleep": 0}
    with FedMsgContext(name="me.here", **config) as context:
        sent: list[dict[str, Any]] = []
        context.publish(topic="t", modname="m", pre_fire_hook=sent.append)
    assert crypto.validate(sent[0], **bench.config)
    for name, missing in (("me.here", "me.here"), ("relay_inbound", f"shell.{HOST}")):
        without = {**config, "certnames": {}, "active": name == "relay_inbound", "name": name}
        with pytest.raises(KeyError) as caught:
            FedMsgContext(**without)
        assert f"certnames['{missing}']" in str(caught.value)
        assert isinstance(caught.value, (MissingKey, OSError))
    with pytest.raises(MissingKey, match=f"web.{HOST}"):
        FedMsgContext(**config, name="me.here", cert_prefix="web")
    with FedMsgContext(**{**config, "certnames": {}}, mute=True):
        pass  # listens only


def test_the_hook_may_change_what_is_signed(bench: Bench) -> None:
    address = free_address()
    config = {**bench.config, "endpoints": {"me.here": [address]}, "validate_signatures": True}
    with FedMsgContext(name="me.here", sign_messages=True, post_init_sleep=10, **config) as context:
        listener = FedMsgContext(mute=True, **config)
        messages = listener.tail_messages()

        def speak() -> None:
            for hook in (lambda envelope: None, lambda envelope: envelope["msg"].update(more=[1])):
                context.publish(topic="t", modname="m", msg={"a": 1}, pre_fire_hook=hook)

        thread = threading.Thread(target=speak)
        thread.start()
        heard = [next(messages)[3] for _ in range(2)]
        thread.join()
        messages.close()  # type: ignore[attr-defined]
        listener.destroy()
    assert [envelope["msg"] for envelope in heard] == [{"a": 1}, {"a": 1, "more": [1]}]
    assert all("certificate" in envelope for envelope in heard)


def test_checking_that_can_not_be_done_is_refused_at_the_call(bench: Bench) -> None:
    config = {**bench.config, "ca_cert_location": "/nowhere", "endpoints": {}, "validate_signatures": True}
    try:
        with pytest.raises(RefusedAtStart, match="/nowhere"):
            fedmsg.tail_messages(mute=True, **config)
    finally:
        fedmsg.destroy()
