# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures for Prometheus: what they are, and that nobody who asks for them can do harm."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.hub import Consumer, PollingProducer, consumer
from fedmsg.monitoring import metrics
from fedmsg.monitoring.metrics import Sample
from fedmsg.monitoring.prometheus import Exporter
from fedmsg.testing import free_port, wait_until


def exporter(values: Iterable[Sample] = (), **config: Any) -> Exporter:
    return Exporter({"metrics_port": 0, **config}, lambda: values)


def fetch(running: Exporter, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}{path}", timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def samples(running: Exporter) -> dict[str, float]:
    """Give the samples, by their names and labels; Prometheus's own parser reads them."""
    return {
        " ".join([sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(fetch(running))
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


class Stand:
    """What a consumer needs of a hub."""

    config: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


class Shop(Consumer):
    """A consumer."""


class Clock(PollingProducer):
    """A producer whose first polls fail."""

    polls = 0

    def poll(self) -> None:
        """Fail twice."""
        self.polls += 1
        if self.polls <= 2:
            raise ValueError("no")


class Rows:
    """A hub with what it runs."""

    def __init__(self) -> None:
        self.consumers = [Shop(Stand())]
        self.producers = [Clock(Stand())]

    def metrics(self) -> Iterator[Sample]:
        yield from metrics.of_totals("consumer", Shop, self.consumers[0].totals())
        yield from metrics.of_totals("producer", Clock, self.producers[0].totals())


def test_figures_of_consumers_and_producers() -> None:
    hub = Rows()
    shop, clock = hub.consumers[0], hub.producers[0]
    shop.incoming.put_many([1, 2, 3])
    consumer.runner_of(shop).handler.count("handled")
    for _ in range(5):
        clock._poll()
    with exporter(hub.metrics()) as running:
        found = samples(running)
    labels = f"consumer=Shop module={__name__}"
    assert found[f"fedmsg_consumer_received_total {labels}"] == 3
    assert found[f"fedmsg_consumer_handled_total {labels}"] == 1
    assert found[f"fedmsg_consumer_failed_total {labels}"] == 0
    assert found[f"fedmsg_consumer_waiting {labels}"] == 3
    labels = f"module={__name__} producer=Clock"
    assert found[f"fedmsg_producer_polls_total {labels}"] == 5
    assert found[f"fedmsg_producer_failures_total {labels}"] == 2


def test_they_are_not_those_of_the_report() -> None:
    """Asking for a report sets its counters back, and these go on."""
    hub = Rows()
    hub.consumers[0].incoming.put_many([1, 2, 3])
    with Exporter({"metrics_port": 0}, hub.metrics) as running:
        name = f"fedmsg_consumer_received_total consumer=Shop module={__name__}"
        assert samples(running)[name] == 3
        assert hub.consumers[0].__json__()["headcount_in"] == 3
        hub.consumers[0].incoming.put(4)
        assert samples(running)[name] == 4
        assert hub.consumers[0].__json__()["headcount_in"] == 1


def test_rejected_messages_have_their_reasons() -> None:
    with exporter(metrics.of_rejections({"json": 2, 'odd"\n\\': 1})) as running:
        found = samples(running)
    assert found["fedmsg_rejected_total reason=json"] == 2
    assert found['fedmsg_rejected_total reason=odd"\n\\'] == 1


def test_the_same_twice_is_a_sum() -> None:
    with exporter(
        [Sample("a", "A", 1, {"b": "c"}), Sample("a", "A", 2, {"b": "c"}), Sample("a", "A", 4, {"b": "d"})]
    ) as running:
        found = samples(running)
    assert (found["fedmsg_a_total b=c"], found["fedmsg_a_total b=d"]) == (3, 4)


def test_what_every_process_has() -> None:
    with exporter() as running:
        found = samples(running)
    assert found["process_resident_memory_bytes"] > 1e6
    assert [name for name in found if name.startswith("fedmsg_info ")]
    assert found["fedmsg_metrics_failures_total"] == 0


def test_a_failure_to_collect_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    def collect() -> Iterator[Sample]:
        yield Sample("a", "A", 1, {})
        raise ZeroDivisionError

    with Exporter({"metrics_port": 0}, collect) as running:
        assert samples(running)["fedmsg_metrics_failures_total"] == 1
        assert samples(running)["fedmsg_metrics_failures_total"] == 2
        assert "process_open_fds" in samples(running)
    assert "the metrics could not be collected" in caplog.text


def test_the_newer_format_and_compression_can_be_asked_for() -> None:
    with exporter() as running:
        request = urllib.request.Request(
            f"http://127.0.0.1:{running.port}/metrics",
            headers={"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert "openmetrics" in answer.headers["Content-Type"]
            assert answer.headers["Server"].strip() == "fedmsg"


# ------------------------------------------------------------------ start and end


def test_without_a_port_there_is_nothing() -> None:
    before = threading.active_count()
    with Exporter({}, list) as running:
        assert running.port is None
        assert threading.active_count() == before


def test_it_is_for_this_machine_unless_said_otherwise() -> None:
    with exporter() as running:
        assert running._server is not None
        assert running._server.server_address[0] == "127.0.0.1"
    with (
        exporter(metrics_interface="::1") as running,
        urllib.request.urlopen(f"http://[::1]:{running.port}/", timeout=20) as answer,
    ):
        assert answer.status == 200


def test_a_taken_port() -> None:
    port = free_port()
    with exporter(metrics_port=port), pytest.raises(AddressInUse) as caught:
        exporter(metrics_port=port).start()
    assert str(caught.value) == f"metrics_port: port {port} of 127.0.0.1 can't be bound: Address already in use"


@pytest.mark.parametrize("interface", ["192.0.2.1", "no-such-host.invalid"])
def test_an_interface_that_is_none_of_this_machine(interface: str) -> None:
    with pytest.raises(ConfigError, match=rf"^metrics_port: port 0 of {interface} can't be bound: "):
        exporter(metrics_interface=interface).start()


def test_opening_and_closing_leaves_nothing_behind() -> None:
    def once() -> None:
        with exporter() as running, socket.create_connection(("127.0.0.1", running.port or 0)) as silent:
            silent.sendall(b"GET / HT")
            fetch(running)
        running.close()

    once()
    before = psutil.Process().num_fds(), threading.active_count()
    for _ in range(50):
        once()
    assert (psutil.Process().num_fds(), threading.active_count()) == before


def test_a_forgotten_one_warns() -> None:
    running = exporter().start()
    with pytest.warns(ResourceWarning, match="unclosed Exporter"):
        running.__del__()


# ------------------------------------------------------------------ hostile clients


def test_those_who_say_nothing_do_not_keep_others_out() -> None:
    with exporter() as running:
        silent = [socket.create_connection(("127.0.0.1", running.port or 0)) for _ in range(100)]
        for number, connection in enumerate(silent):
            if number % 2:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert "fedmsg_info" in fetch(running)
        wait_until(lambda: len([thread for thread in threading.enumerate() if "metrics-client" in thread.name]) <= 16)
        for connection in silent:
            connection.close()
        assert "fedmsg_info" in fetch(running)


@pytest.mark.parametrize(
    "said",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01" + bytes(200),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nAccept: " + b"\xff" * 500 + b"\r\n\r\n",
        b"GET /?name[]=" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"DELETE / HTTP/1.1\r\n\r\n",
    ],
)
def test_nonsense_is_answered_or_cut_and_goes_to_no_log(
    said: bytes, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with exporter() as running:
        with socket.create_connection(("127.0.0.1", running.port or 0)) as stranger:
            stranger.settimeout(20)
            try:
                stranger.sendall(said)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(65536):
                    pass
            except ConnectionError:
                pass
        assert "fedmsg_info" in fetch(running)
    assert capsys.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_one_who_does_not_read_does_not_hold_up_the_end() -> None:
    many = [Sample("a", "A", number, {"b": "x" * 1000 + str(number)}) for number in range(20_000)]
    with socket.socket() as client, exporter(many) as running:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", running.port))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert client.recv(9) == b"HTTP/1.0 "
        assert [thread for thread in threading.enumerate() if "metrics-client" in thread.name]
        running.close()
        assert not [thread for thread in threading.enumerate() if "metrics" in thread.name]


def test_only_its_own_figures_are_served() -> None:
    with exporter() as running:
        for path in ("/", "/metrics", "/../../etc/passwd"):
            try:
                assert "root:" not in fetch(running, path)
            except urllib.error.HTTPError as error:
                error.close()
