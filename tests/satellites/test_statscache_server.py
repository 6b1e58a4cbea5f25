# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command ``statscache``: a real server, its configuration, its end, and plugins that are installed."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import fedmsg.statscache.app
from fedmsg.statscache.app import pages
from fedmsg.testing import run, wait_until
from tests import postgres
from tests.hubs import Feed, HubProcess
from tests.satellites import statistics
from tests.satellites.served import check_by_description, check_health
from tests.satellites.statistics import START, Statscache, install

PLUGINS = """
from tests.satellites.statistics import Notes, Ranks, Shares, Visits
everything = [Visits, Shares, Ranks, Notes]
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the folders with the plugins of the tests."""
    return [install(tmp_path_factory.mktemp("plugins"), "visits", PLUGINS, "everything"), ROOT]


@pytest.fixture(scope="module")
def server(history_url: str, path: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Statscache]:
    with statistics.opened(history_url) as session:
        session.add_all([statistics.Visits.model(timestamp=START + n * statistics.MINUTE, scalar=n) for n in range(5)])
        session.commit()
        with Statscache(tmp_path_factory.mktemp("server"), history_url, path=path) as started:
            yield started


def test_installed_plugins_are_served(server: Statscache) -> None:
    assert {"visits-all-1m", "notes", "volume-1h", "most-active-users"} <= set(server.get("/api/").json)
    answer = server.get("/api/visits-all-1m?rows_per_page=2&order=asc")
    assert [row["scalar"] for row in answer.json] == [0, 1]
    assert f"<{server.address}/api/visits-all-1m?rows_per_page=2&order=asc&page=2" in answer.headers["Link"]


def test_health(server: Statscache) -> None:
    check_health(server.get)


def test_metrics(server: Statscache) -> None:
    server.get("/api/")
    text = server.get("/metrics").body.decode()
    assert 'fedmsg_statscache_requests_total{route="/api/",status="200"}' in text
    assert "fedmsg_statscache_seconds_total" in text
    assert server.get("/metrics", Accept="application/openmetrics-text").body.endswith(b"# EOF\n")


def test_the_connection_can_not_write(server: Statscache, history_url: str) -> None:
    app = fedmsg.statscache.app.create_app({"statscache.sqlalchemy.uri": history_url}, statistics.plugins())
    numbers = app.extensions["numbers"]
    model: Any = statistics.Visits.model
    with pytest.raises(Exception, match=r"read-?only"), numbers.reading() as session:  # noqa: PT012 the error comes at the end
        session.add(model(timestamp=START, scalar=1))
        session.flush()
    numbers.close()


def test_a_slow_query_ends(history_url: str, server: Statscache, path: list[Path], tmp_path: Path) -> None:
    with statistics.opened_again(history_url) as session:
        model: Any = statistics.Shares.model
        session.bulk_save_objects([model(timestamp=START, category=f"c{n}", scalar=n) for n in range(20_000)])
        session.commit()
        timeout = 0.001
        if history_url.startswith("postgresql"):
            # However quick it is, it waits.
            timeout = 1.0
            session.execute(sa.text(f"LOCK TABLE {model.__tablename__}"))
        with Statscache(tmp_path, history_url, path=path, **{"statscache.app.query_timeout": timeout}) as hasty:
            answer = hasty.get("/api/shares-1m?page=180")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
            assert "took longer" in answer.json["error"]
            wait_until(lambda: hasty.get("/api/ranks").status == 200, what="a quick query is answered")


def test_the_module_has_an_application_for_wsgi_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(f"config = { ({'statscache.sqlalchemy.uri': f'sqlite:///{tmp_path}/x.db'})!r}\n")
    done = run(
        ["python", "-c", "from fedmsg.statscache import app; print(app.app.test_client().get('/api/').json[0])"],
        env={"FEDMSG_CONFIG": str(config)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.soak
def test_requests_made_from_the_description_are_answered_as_it_says(
    server: Statscache, tmp_path: Path, full_size: bool
) -> None:
    check_by_description(server.address, tmp_path, full_size=full_size)


# ---------------------------------------------------------------- the database


def test_the_database_goes_and_comes_back(path: list[Path], tmp_path: Path) -> None:
    with postgres.Cluster() as cluster:
        url = cluster.create()
        statistics.make_tables(url)
        with statistics.opened_again(url) as session:
            session.add(statistics.Visits.model(timestamp=START, scalar=1))
            session.commit()
        with Statscache(tmp_path, url, path=path) as server:
            assert len(server.get("/api/visits-all-1m").json) == 1
            cluster.kill()
            answer = server.get("/healthz/ready")
            assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
            answer = server.get("/api/visits-all-1m")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
            # Where it is, and as whom it is read, is not shown.
            assert answer.json == {"error": "the database can't be read"}
            assert server.get("/web/dashboard", Accept="text/html").status == 200
            assert server.get("/web/dashboard/notes", Accept="text/html").status == 503
            cluster.start_again()
            wait_until(lambda: server.get("/healthz/ready").status == 200, what="it is ready again")
            assert len(server.get("/api/visits-all-1m").json) == 1


def test_a_database_without_tables_is_not_ready(path: list[Path], tmp_path: Path) -> None:
    with Statscache(tmp_path, f"sqlite:///{tmp_path / 'new.db'}", path=path) as server:
        assert server.get("/healthz/live").status == 200
        assert server.get("/healthz/ready").status == 503
        assert server.get("/api/visits-all-1m").status == 503


# ---------------------------------------------------------------- the configuration


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"statscache.sqlalchemy.uri": "nonsense"}, "statscache.sqlalchemy.uri"),
        ({"statscache.app.threads": 0}, "statscache.app.threads"),
        ({"statscache.app.maximum_rows_per_page": "many"}, "statscache.app.maximum_rows_per_page"),
        ({"statscache.app.cors_domains": ["("]}, "statscache.app.CORS_DOMAINS"),
        ({"statscache.app.cors_max_age": "x"}, "statscache.app.CORS_MAX_AGE"),
    ],
    ids=["url", "threads", "rows", "domains", "age"],
)
def test_a_bad_configuration_is_one_line(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(f"config = { ({'statscache.sqlalchemy.uri': f'sqlite:///{tmp_path}/x.db'} | settings)!r}\n")
    done = run(["statscache", "--port", "0"], env={"FEDMSG_CONFIG": str(config)})
    assert done.returncode == 5
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_below_a_path(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "statscache.app.app_path": "/stats",
        "statscache.app.base_url": "https://numbers.example.org/stats",
    }
    with Statscache(tmp_path, f"sqlite:///{tmp_path / 'x.db'}", **settings) as server:
        for where in ("/stats/web/getting-started", "/web/getting-started"):
            assert b'href="/stats/static/shared/page.css"' in server.get(where).body
        assert server.get("/openapi.json").json["servers"] == [{"url": "https://numbers.example.org/stats"}]


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with Statscache(tmp_path, f"sqlite:///{tmp_path / 'x.db'}") as server:
        port = server.address.rpartition(":")[2]
        done = run(["statscache", "--port", port], env={"FEDMSG_CONFIG": str(tmp_path / "statscache.py")})
    assert done.returncode == 6
    assert f"statscache.app.host, statscache.app.port: 127.0.0.1 port {port}" in done.stderr


def test_it_stops(tmp_path: Path) -> None:
    with Statscache(tmp_path, f"sqlite:///{tmp_path / 'x.db'}", "--workers", "2", "--threads", "3") as server:
        assert server.get("/api/").status == 200
        # A process of its own may answer that has answered nothing yet.
        counted = re.compile(r'requests_total\{process="[0-9]+"')
        wait_until(lambda: counted.search(server.get("/metrics").body.decode()), what="the process is named")
        assert server.stop(signal.SIGINT) == 0


# ---------------------------------------------------------------- the plugin of the page


def test_the_plugin_that_is_shown_counts(tmp_path: Path) -> None:
    """The code of the page on how to begin: installed, run by a hub, served."""
    url = f"sqlite:///{tmp_path / 'numbers.db'}"
    with Statscache(tmp_path, url) as server:
        html = server.get("/web/getting-started", Accept="text/html").body.decode()
    shown = re.search(r'id="example"><code>(.*?)</code>', html, re.DOTALL)
    assert shown is not None
    text = shown[1].replace("&#34;", '"').replace("&gt;", ">").replace("&lt;", "<").replace("&#39;", "'")
    # But for the line on the licence it is the file that is checked with all others.
    assert text.strip() == pages.EXAMPLE.read_text(encoding="utf-8").partition("\n")[2].strip()
    entry = re.search(r'edits = "(\w+):(\w+)"', html.replace("&#34;", '"'))
    assert entry is not None
    (tmp_path / "hub").mkdir()
    folder = install(tmp_path / "hub", entry[1], text, entry[2])
    hour = int(dt.datetime.now(dt.timezone.utc).timestamp()) // 3600 * 3600
    with Feed() as feed:
        config = {**feed.config, "statscache.consumer.enabled": True, "statscache.sqlalchemy.uri": url}
        with (
            HubProcess(folder, config).wait_ready() as hub,
            Statscache(tmp_path, url, path=[folder, Path(os.curdir)]) as server,
        ):
            feed.wait()
            for number, user in enumerate(["ann", "bob", "ann", "<b>eve</b>"]):
                feed.publish({
                    "topic": "org.fedoraproject.dev.wiki.article.edit", "msg": {"user": user}, "i": number,
                    "msg_id": f"2026-{number}", "timestamp": hour + number,
                })  # fmt: skip
            feed.publish({"topic": "org.fedoraproject.dev.git.push", "msg": {"user": "ann"}, "i": 1,
                          "msg_id": "2026-x", "timestamp": hour})  # fmt: skip

            def found() -> dict[str, float]:
                answer = server.get("/api/wiki-edits-1h")
                return {row["category"]: row["scalar"] for row in answer.json} if answer.status == 200 else {}

            wait_until(lambda: sum(found().values()) >= 4, 60, what=lambda: str(found()))
            assert found() == {"ann": 2, "bob": 1, "<b>eve</b>": 1}
            assert {row["timestamp"] for row in server.get("/api/wiki-edits-1h").json} == {hour}
            assert hub.stop() == 0
