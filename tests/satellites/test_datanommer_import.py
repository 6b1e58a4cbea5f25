# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-load --from``: databases of datanommer 0.9 and 1.x are read into ours."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg.testing import Process, wait_until
from tests.satellites.commands import Call, Result
from tests.satellites.nommers import Stored
from tests.satellites.published import START, Published

KINDS = [("0.9", "sqlite"), ("0.9", "postgresql"), ("1.x", "postgresql")]


@pytest.fixture(params=KINDS, ids=["-".join(kind) for kind in KINDS])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Published]:
    release, database = request.param
    if database == "sqlite":
        url = f"sqlite:///{tmp_path / 'published.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")
    made = Published(url, release)
    yield made
    made.close()


def load(call: Call, published: Published) -> Result:
    """Import."""
    return call("load", "--from", published.url)


def test_import_of_everything(call: Call, history: Any, published: Published) -> None:
    published.fill(1200)
    result = load(call, published)
    assert result.out == (
        f"1200 messages stored, 0 were there already, of a database of datanommer {published.release}\n"
    )
    assert result.status == 0
    assert history.Message.grep()[0] == 1200
    found = history.Message.from_msg_id("2020-700")
    is_old = published.release == "0.9"
    assert found.as_dict() == {
        "certificate": "cert", "crypto": "x509", "headers": None, "i": 0, "msg": {"n": 700, "text": "zwölf"},
        "msg_id": "2020-700", "signature": "sig", "source_name": "datanommer", "source_version": "0.9.1",
        "timestamp": found.as_dict()["timestamp"], "topic": "org.fedoraproject.prod.git.1",
        "username": "apache" if is_old else None,
    }  # fmt: skip
    assert (found.timestamp - START).total_seconds() == 700
    assert (found.position, found.category) == (None, "git")
    assert found.agent_name == (None if is_old else "ralph")
    assert sorted(user.name for user in found.users) == ["ralph", "user0"]
    assert [package.name for package in found.packages] == ["kernel"]
    assert history.Message.grep(users=["user3"], topics=["org.fedoraproject.prod.git.0"])[0] == 80


def test_import_goes_on_where_it_was(call: Call, history: Any, published: Published) -> None:
    published.fill(30)
    assert load(call, published).out.startswith("30 messages stored, 0 were")
    assert load(call, published).out.startswith("0 messages stored, 0 were")
    published.fill(5, first=31)
    assert load(call, published).out.startswith("5 messages stored, 0 were")
    assert history.Message.grep()[0] == 35


def test_import_of_what_is_stored_already(call: Call, history: Any, history_engine: Any, published: Published) -> None:
    published.fill(30)
    load(call, published)
    history.session.remove()
    with history_engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM stream_cursors"))
    assert load(call, published).out.startswith("0 messages stored, 30 were there already")


def test_import_of_fractions_of_seconds_and_odd_times(call: Call, history: Any, published: Published) -> None:
    published.fill(1, timestamp=START.replace(microsecond=250000))
    published.fill(1, first=2, timestamp=START.replace(year=1970))
    published.fill(1, first=3, timestamp=START.replace(year=2300))
    load(call, published)
    found = [history.Message.from_msg_id(f"2020-{number}") for number in (1, 2, 3)]
    assert [one.timestamp.year for one in found] == [2020, 1970, 2300]
    assert found[0].as_dict()["timestamp"] == 1577836800.25


def test_import_rejects_what_is_no_such_database(call: Call, history_url: str, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    result = call("load", "--from", f"sqlite:///{tmp_path / 'empty.db'}")
    assert (result.status, "no table of messages" in result.err) == (5, True)
    result = call("load", "--from", history_url)
    assert (result.status, "is a database of this release" in result.err) == (5, True)
    result = call("load", "--from", f"sqlite:///{tmp_path / 'missing.db'}")
    assert (result.status, "there is no such file" in result.err) == (3, True)
    assert not (tmp_path / "missing.db").exists()
    assert call("load", "--from", "nonsense").status == 5
    assert call("load", "--from", "postgresql://nobody@127.0.0.1:1/x").status == 3


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_import_that_is_killed_goes_on_and_doubles_nothing(
    published: Published, request: pytest.FixtureRequest, tmp_path: Path, full_size: bool
) -> None:
    # More than a batch.
    total = 50_000 if full_size else 6000
    published.fill(total)
    is_sqlite = published.url.startswith("sqlite")
    url = f"sqlite:///{tmp_path / 'ours.db'}" if is_sqlite else request.getfixturevalue("postgresql").create()
    arguments = ["datanommer-load", "--database", url, "--from", published.url]
    with Stored(url) as stored:
        for goal in (1, total // 3, total // 2) if full_size else (1,):
            with Process(arguments) as process:
                wait_until(lambda: stored.count() >= goal)  # noqa: B023 - called in this round
                process.popen.send_signal(signal.SIGKILL)
                process.wait()
        with Process(arguments) as process:
            assert process.wait() == 0
        assert (stored.count(), stored.count("users_messages")) == (total, 2 * total)
