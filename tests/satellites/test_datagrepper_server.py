# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command ``datagrepper``: a real server, its configuration, its end, and the programs that ask it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg.datagrepper import configuration
from fedmsg.datanommer import models
from fedmsg.exceptions import ConfigError
from fedmsg.store.history import Datagrepper, Topics
from fedmsg.testing import Bus, run, wait_until
from tests import postgres
from tests.satellites import histories
from tests.satellites.grepping import Grepper
from tests.satellites.messages import message
from tests.satellites.served import check_health

BEGIN = int(time.time()) - 3600


def stored(number: int, **more: Any) -> dict[str, Any]:
    return message(f"org.fedoraproject.prod.{'bodhi' if number % 2 else 'git'}.x", timestamp=BEGIN + number,
                   msg_id=f"2026-{number:05}", msg={"number": number, "text": "é\u2028"}, i=number, **more)  # fmt: skip


@pytest.fixture(scope="module")
def server(history_url: str, history_engine: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grepper]:
    models.add_many(stored(number) for number in range(450))
    models.session.remove()
    with Grepper(tmp_path_factory.mktemp("server"), history_url) as server:
        yield server


def test_a_long_request_line_is_read(server: Grepper) -> None:
    room = 8190 - len("GET /raw? HTTP/1.1\r\n") - 10
    query = "&".join(f"user=user{number:05}" for number in range(2000))[:room]
    assert server.get(f"/raw?{query}").status == 200
    assert server.get(f"/raw?{query}{'x' * 200}").status in {400, 414}


def test_connections_are_kept(server: Grepper) -> None:
    assert server.get("/raw?rows_per_page=1").json["total"] == 450
    assert server.get("/raw", method="HEAD").body == b""
    assert server.get("/nothing").json["error"]


def test_metrics(server: Grepper) -> None:
    server.get("/messagecount")
    text = server.get("/metrics").body.decode()
    assert 'fedmsg_datagrepper_requests_total{route="/messagecount",status="200"}' in text
    assert server.get("/metrics", Accept="application/openmetrics-text").body.endswith(b"# EOF\n")


def test_health(server: Grepper) -> None:
    check_health(server.get)


def test_an_export_is_whole(server: Grepper) -> None:
    lines = server.get("/raw?order=asc", Accept="application/x-ndjson").body.splitlines()
    assert [json.loads(line)["i"] for line in lines] == list(range(450))


def test_our_client_reads_all_of_a_time(server: Grepper) -> None:
    found = Datagrepper(server.address, Topics("org.fedoraproject")).read(BEGIN + 5, BEGIN + 430)
    numbers = [envelope["i"] for envelope in found]
    assert numbers == list(range(5, 431))
    some = Datagrepper(f"{server.address}/raw", Topics("org.fedoraproject.prod.git.x")).read(BEGIN, BEGIN + 9)
    assert [envelope["i"] for envelope in some] == [0, 2, 4, 6, 8]


def test_our_client_gets_what_was_published(server: Grepper) -> None:
    (envelope,) = Datagrepper(server.address, Topics("")).read(BEGIN + 7, BEGIN + 7)
    assert envelope == stored(7)["body"] | {"timestamp": float(BEGIN + 7)}


def test_dg_replay_publishes_a_message_again(server: Grepper) -> None:
    with Bus() as bus:
        bus.start_relay()
        with bus.tail("--json") as tail:
            done = bus.run("fedmsg-dg-replay", "--msg-id", "2026-00003", "--datagrepper-url", server.address)
            assert (done.returncode, done.stderr) == (0, "")
            assert json.loads(tail.wait_for("bodhi"))["msg"] == {"number": 3, "text": "é\u2028"}


def test_a_slow_query_ends(history_url: str, server: Grepper, tmp_path: Path) -> None:
    with Grepper(tmp_path, history_url, **{"datagrepper.query_timeout": 0.005}) as hasty:
        answer = hasty.get("/raw?" + "&".join(f"not_contains=no{number}" for number in range(390)))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert "took longer" in answer.json["error"]
        # The connection is in order again.
        wait_until(lambda: hasty.get("/id?id=2026-00003").status == 200, what="a quick query is answered")


# ---------------------------------------------------------------- without a database of both kinds


def test_the_database_goes_and_comes_back(tmp_path: Path) -> None:
    with postgres.Cluster() as cluster:
        url = cluster.create()
        with histories.opened(url):
            models.add_many([stored(1)])
        with Grepper(tmp_path, url) as server:
            assert server.get("/raw").json["total"] == 1
            cluster.kill()
            answer = server.get("/healthz/ready")
            assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
            answer = server.get("/raw")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
            assert str(cluster.port) not in answer.body.decode()
            assert server.get("/healthz/live").status == 200
            cluster.start_again()
            assert server.get("/raw").json["total"] == 1
            assert server.get("/healthz/ready").status == 200
            # Nobody has asked while it was away.
            cluster.kill()
            cluster.start_again()
            assert server.get("/raw").json["total"] == 1


@pytest.fixture(scope="module")
def sqlite_history(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('history') / 'history.db'}"
    with histories.opened(url):
        models.add_many([stored(1)])
    return url


def test_a_history_that_can_only_be_read_is_enough(sqlite_history: str, tmp_path: Path) -> None:
    with Grepper(tmp_path, sqlite_history) as server:
        assert server.get("/raw").json["total"] == 1


def test_the_old_configuration_file(sqlite_history: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old.cfg"
    old.write_text(
        f"DATANOMMER_SQLALCHEMY_URL = {sqlite_history!r}\nDEFAULT_QUERY_DELTA = 60\nCORS_DOMAINS = ['https://a']\n"
        "DATAGREPPER_BASE_URL = 'https://history.example.org/'\nAPP_PATH = '/grepper'\nOTHER = 1\n"
    )
    monkeypatch.setenv("DATAGREPPER_CONFIG", str(old))
    with Grepper(tmp_path, "sqlite:////nothing/here.db") as server:
        answer = server.get("/raw", Origin="https://a").json
        assert (answer["total"], round(answer["arguments"]["delta"])) == (0, 60)
        assert server.get("/raw?start=0&rows_per_page=1").json["total"] == 1
        feed = server.get("/grepper/raw?start=0&format=feed").json
        assert feed["items"][0]["url"] == "https://history.example.org/id?id=2026-00001"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 +", "SyntaxError"),
        ("CORS_DOMAINS = ['(']", "CORS_DOMAINS"),
        ("CORS_DOMAINS = 5", "CORS_DOMAINS"),
        ("DEFAULT_QUERY_DELTA = 'x'", "DEFAULT_QUERY_DELTA"),
    ],
)
def test_a_bad_old_configuration(text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old.cfg"
    old.write_text(text)
    monkeypatch.setenv("DATAGREPPER_CONFIG", str(old))
    with pytest.raises(ConfigError, match=expected):
        configuration.read({})


def test_an_old_configuration_that_others_can_write_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old.cfg"
    old.write_text("1/0")
    old.chmod(0o666)
    monkeypatch.setenv("DATAGREPPER_CONFIG", str(old))
    with pytest.raises(ConfigError, match="others can write it"):
        configuration.read({})


@pytest.mark.parametrize("name", ["cors_domains", "cors_headers", "default_query_delta", "cors_max_age"])
def test_a_bad_setting_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"datagrepper.{name.upper()}"):
        configuration.read({f"datagrepper.{name}": ["("]})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"datanommer.sqlalchemy.url": "nonsense"}, "datanommer.sqlalchemy.url"), ({"datagrepper.threads": 0}, "threads")],
)
def test_a_bad_configuration_is_one_line(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(f"config = {settings!r}\n")
    done = run(["datagrepper", "--port", "0"], env={"FEDMSG_CONFIG": str(config)})
    assert done.returncode == 5
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken(sqlite_history: str, tmp_path: Path) -> None:
    with Grepper(tmp_path, sqlite_history) as server:
        port = server.address.rpartition(":")[2]
        config = {"FEDMSG_CONFIG": str(tmp_path / "datagrepper.py")}
        done = run(["datagrepper", "--port", port], env=config)
    assert done.returncode == 6
    assert port in done.stderr


def test_as_many_processes_as_processors(sqlite_history: str, tmp_path: Path) -> None:
    with Grepper(tmp_path, sqlite_history, **{"datagrepper.workers": None}) as server:
        assert server.get("/raw").status == 200
        pid = server.popen.pid
        wanted = min(4, len(os.sched_getaffinity(0)))
        wait_until(lambda: len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) == wanted)


def test_it_stops(sqlite_history: str, tmp_path: Path) -> None:
    with Grepper(tmp_path, sqlite_history, "--workers", "2", "--threads", "3") as server:
        assert server.get("/raw").status == 200
        assert re.search(r'streams\{process="[0-9]+"\} 0', server.get("/metrics").body.decode())
        assert server.stop(signal.SIGINT) == 0
