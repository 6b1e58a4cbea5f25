# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands of the history: what they print, and what they do to the database."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg import meta
from fedmsg.datanommer.models import users_assoc_table
from fedmsg.testing import command_path, run
from tests.satellites.commands import Call
from tests.satellites.messages import START, message

DAY = 86400
CONFIG = {"topic_prefix_re": r"org\.fedoraproject\.dev"}
NOW = int(time.time())


def topics(count: dict[str, int], **more: Any) -> list[dict[str, Any]]:
    """Return messages: so many of each topic."""
    return [message(f"org.fedoraproject.dev.{topic}", **more) for topic, number in count.items() for _ in range(number)]


# ---------------------------------------------------------------- create, stats, latest


def test_create_db_may_be_run_again(call: Call) -> None:
    assert call("create-db").status == 0
    assert call("create-db").status == 0


@pytest.mark.parametrize("name", ["stats", "latest", "dump", "check", "extract"])
def test_a_command_makes_no_database_where_there_is_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mistyped.db"
    # In a process of its own: in this one a history is open.
    done = run([f"datanommer-{name}", "--database", f"sqlite:///{path}"], cwd=tmp_path)
    assert (done.returncode, "there is no such file; datanommer-create-db makes it" in done.stderr) == (3, True)
    assert not path.exists()
    assert run(["datanommer-create-db", "--database", f"sqlite:///{path}"], cwd=tmp_path).returncode == 0
    assert run([f"datanommer-{name}", "--database", f"sqlite:///{path}"], cwd=tmp_path).returncode == 0


def test_stats(call: Call, history: Any) -> None:
    history.add_many(topics({"shop.order": 2, "shop.bill": 1, "bodhi.update.comment": 3}))
    assert call("stats").err == ""
    assert call("stats").out.splitlines() == ["bodhi has 3 entries", "shop has 3 entries"]
    assert call("stats", "--topic", "--category", "shop").out.splitlines() == [
        "org.fedoraproject.dev.shop.bill has 1 entries",
        "org.fedoraproject.dev.shop.order has 2 entries",
    ]
    assert call("stats", "--category", "bodhi").out == "bodhi has 3 entries\n"
    assert call("stats", "--category", "nosuch") == ("", "", 0)


@pytest.fixture
def recent(history: Any) -> dict[str, Any]:
    """Store messages of the last days, and one that is older than a year; return the newest by category."""
    made = {
        name: message(f"org.fedoraproject.dev.{name}.x", timestamp=NOW - age + 0.25)
        for name, age in {"zebra": 100, "apple": 2 * DAY, "old": 400 * DAY}.items()
    }
    history.add_many([*made.values(), message("org.fedoraproject.dev.apple.x", timestamp=NOW - 3 * DAY)])
    return made


def test_latest(call: Call, recent: dict[str, Any]) -> None:
    found = call("latest").json
    assert [list(one) for one in found] == [["apple"], ["zebra"]]
    assert found[0]["apple"]["msg_id"] == recent["apple"]["body"]["msg_id"]
    assert [list(one) for one in call("latest", "--overall").json] == [["zebra"]]
    assert [list(one) for one in call("latest", "--category", "apple").json] == [["apple"]]
    assert [list(one) for one in call("latest", "--topic", "org.fedoraproject.dev.apple.x").json] == [["apple"]]
    assert call("latest", "--category", "old").json == []


def test_latest_times(call: Call, recent: dict[str, Any]) -> None:
    assert call("latest", "--timestamp").json == [NOW - 2 * DAY + 0.25, NOW - 100 + 0.25]
    (since,) = call("latest", "--category", "zebra", "--timesince").json
    assert isinstance(since, str)
    assert 100 <= int(since) < 700
    (when,) = call("latest", "--overall", "--timestamp", "--human").json
    assert when == str(dt.datetime.fromtimestamp(NOW - 99.75, dt.timezone.utc).replace(tzinfo=None))
    (age,) = call("latest", "--category", "apple", "--timesince", "--human").json
    assert age.startswith("2 days, 0:")


def test_latest_takes_one_choice(call: Call) -> None:
    assert call("latest", "--overall", "--category", "x").status == 2


# ---------------------------------------------------------------- dump and load


def odd(number: int) -> dict[str, Any]:
    """Return a message that the columns can't hold all of."""
    return message(msg={"n": [1e16, -0.0, "\0", "\ud800"][number % 4]}, extra="kept", timestamp=START + number + 0.5)


def dicts(history: Any) -> list[tuple[Any, ...]]:
    """Return all messages, and what the columns have for odd ones."""
    found = [(one.as_dict(), one.original, one.timestamp) for one in history.Message.grep(rows_per_page=0)[2]]
    history.session.remove()
    return found


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_what_is_dumped_can_be_loaded(
    form: str, call: Call, history: Any, history_engine: sa.Engine, tmp_path: Path
) -> None:
    given = [message(timestamp=START + 5, msg={"text": "zwölf"}), message(timestamp=START + 6.5), *map(odd, range(4))]
    given += [message(timestamp="never"), message(topic="a", username=None, i=None), message(seq_id=7)]
    history.add_many(given)
    before = dicts(history)
    dumped = call("dump", "--format", form)
    assert dumped.status == 0
    records = dumped.json if form == "json" else [json.loads(line) for line in dumped.out.splitlines()]
    assert [one["timestamp"] for one in records if isinstance(one["timestamp"], float)]
    assert len(records) == len(given)
    with history_engine.begin() as connection:
        for table in history.DeclarativeBase.metadata.sorted_tables:
            if table.name != "message_positions":
                connection.execute(sa.delete(table))
    path = tmp_path / "dump.json"
    path.write_text(dumped.out)
    assert call("load", str(path)).out == f"{len(given)} messages stored, 0 were there already, 0 can't be stored\n"
    assert dicts(history) == before
    assert call("load", str(path)).out == f"0 messages stored, {len(given)} were there already, 0 can't be stored\n"


def test_dump_of_many_messages_has_each_once(call: Call, history: Any) -> None:
    # More than are read at a time, many of them at the same moment.
    history.add_many([message(timestamp=START + number // 700) for number in range(2500)])
    found = [one["msg_id"] for one in call("dump").json]
    assert (len(found), len(set(found))) == (2500, 2500)


def most_memory(command: list[str]) -> tuple[float, int]:
    """Run a command; return how many MiB it had in memory at most, and the length of its output."""
    most, length = 0.0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while part := process.stdout.read(2**16):
            length += len(part)
            status = Path(f"/proc/{process.pid}/status").read_text()
            # Not there when it has just ended.
            if found := re.search(r"VmHWM:\s*([0-9]+) kB", status):
                most = max(most, int(found[1]) / 1024)
    assert process.returncode == 0
    return most, length


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_dump_takes_constant_memory(history: Any, history_url: str, form: str, full_size: bool) -> None:
    command = [command_path("datanommer-dump"), "--database", history_url, "--format", form]
    measured = []
    for count in (1000, 100_000 if full_size else 5000):
        for start in range(0, count, 500):
            history.add_many([message(msg={"n": n, "text": "text" * 2000}) for n in range(start, start + 500)])
        history.session.remove()
        measured.append(most_memory(command))
    (some, _), (many, length) = measured
    # The control: all of it would not have fitted.
    assert length > 45 * 2**20
    # SQLite fills its cache of 64 MiB.
    assert many - some < (84 if history_url.startswith("sqlite") else 20)


def test_dump_between_two_times(call: Call, history: Any) -> None:
    history.add_many([message(timestamp=START + DAY * number) for number in range(5)])
    first, last = (dt.datetime.fromtimestamp(START + DAY * n, dt.timezone.utc) for n in (1, 3))
    naive = first.replace(tzinfo=None).isoformat()
    assert len(call("dump", "--since", naive).json) == 4
    assert len(call("dump", "--since", naive, "--before", last.isoformat()).json) == 3
    assert len(call("dump", "--before", first.strftime("%Y-%m-%dT%H:%M:%SZ")).json) == 2
    assert call("dump", "--since", "2200-01-01").json == []


@pytest.mark.parametrize("flag", ["--since", "--before"])
def test_dump_rejects_what_is_no_date(flag: str, call: Call) -> None:
    assert call("dump", flag, "yesterday") == ("", "Error: Invalid date format\n", 1)


def test_load_takes_what_tail_printed(call: Call, history: Any) -> None:
    lines = "".join(json.dumps(message()["body"]) + "\n" for _ in range(3))
    assert call("load", "-", stdin=lines).out.startswith("3 messages stored")
    assert history.Message.grep()[0] == 3


def test_load_takes_what_datanommer_1_dumped(call: Call, history: Any, tmp_path: Path) -> None:
    record = {
        "body": {"a": 0}, "headers": {"sent-at": "2026-11-30T18:15:22.250000+00:00", "x": 1}, "id": "2026-0",
        "priority": 0, "queue": None, "topic": "org.fedoraproject.prod.git.receive",
    }  # fmt: skip
    path = tmp_path / "dump.json"
    path.write_text(json.dumps([record, {**record, "id": "2026-1"}]))
    assert call("load", str(path)).out.startswith("2 messages stored")
    found = history.Message.from_msg_id("2026-0")
    assert found.as_fedora_message_dict() == record
    assert found.category == "git"


def test_load_goes_on_after_what_can_not_be_stored(call: Call, history: Any, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text("\n".join(json.dumps(one) for one in [message()["body"], {"no": "topic"}, message()["body"]]))
    result = call("load", str(path))
    assert result.out == "2 messages stored, 0 were there already, 1 can't be stored\n"
    assert result.status == 1
    assert history.Message.grep()[0] == 2


@pytest.mark.parametrize("text", ["not json", '[{"a": 1}, oops]', '{"topic": "a"', "[" * 100_000, '{"a":' * 100_000])
def test_load_names_what_is_no_list_of_messages(text: str, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text(text)
    result = call("load", str(path))
    if text.startswith("[["):
        assert (result.out[:2], result.status) == ("0 ", 0)
    else:
        assert (result.status, "is no list of messages" in result.err) == (2, True)


def test_load_wants_one_thing(call: Call, tmp_path: Path) -> None:
    assert call("load").status == 2
    assert call("load", "a", "--from", "sqlite://").status == 2
    assert call("load", str(tmp_path / "nothing")).status == 2


# ---------------------------------------------------------------- extract


class Processor(meta.base.BaseProcessor):
    """Knows the messages of a shop."""

    __name__ = "shop"
    __description__ = __link__ = __docs__ = __obj__ = "shop"
    __icon__ = ""

    def usernames(self, msg: dict[str, Any], **config: Any) -> set[str]:
        return {msg["msg"]["buyer"]}

    def packages(self, msg: dict[str, Any], **config: Any) -> set[str]:
        return {"bread"}


def test_extract_finds_users_and_packages_of_what_is_stored(
    call: Call, history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.add_many([message(msg={"buyer": f"user{number % 3}"}) for number in range(10)])
    history.add_many(topics({"other.x": 2}))
    assert history.Message.grep(users=["user1"])[0] == 0
    monkeypatch.setattr(
        meta, "processors", [Processor(lambda text: text, **CONFIG), meta.DefaultProcessor(lambda text: text, **CONFIG)]
    )
    assert call("extract", "--category", "shop").out == "10 messages looked at, 10 changed\n"
    assert call("extract").out == "12 messages looked at, 0 changed\n"
    assert history.Message.grep(users=["user1"])[0] == 3
    assert history.Message.grep(packages=["bread"])[0] == 10
    assert history.Message.grep(packages=["bread"], topics=["org.fedoraproject.dev.shop.order"])[0] == 10


# ---------------------------------------------------------------- check


def test_check_finds_nothing_wrong_with_what_is_whole(call: Call, history: Any) -> None:
    history.add_many([message(timestamp=NOW - 600 + 30 * number, seq_id=number) for number in range(20)])
    result = call("check", "--json")
    assert (result.json["messages"], result.json["silent"], result.json["holes"]) == (20, [], [])
    assert result.json["topics"][0]["messages"] == 20
    assert result.json["bytes"] > 0
    assert result.status == 0


def test_check_finds_silent_minutes_holes_and_duplicates(call: Call, history: Any) -> None:
    start = NOW // 60 * 60 - 3600
    history.add_many(
        [
            *(message(timestamp=start + 60 * number, seq_id=number) for number in (0, 1, 5)),
            message(timestamp=start + 60 * 5, seq_id=100, username="another"),
            message(timestamp=start + 1, msg_id="one"),
            message(timestamp=start + 2, msg_id="one"),
        ]
    )
    result = call("check", "--json")
    found = result.json
    assert (found["silent_minutes"], found["missing"], found["doubled"]) == (3, 3, 1)
    assert found["holes"] == [{"username": "tester", "first": 2, "last": 4}]
    assert found["duplicates"] == [{"msg_id": "one", "count": 2}]
    assert result.status == 1
    text = call("check").out
    assert "3 minutes without a message" in text
    assert "of tester: 2 to 4" in text
    assert call("check", "--start", "2001-01-01", "--end", "2001-02-01").status == 0


# ---------------------------------------------------------------- prune


@pytest.mark.parametrize("category", [None, "shop"])
def test_prune_removes_what_is_old_with_all_that_belongs_to_it(category: str | None, call: Call, history: Any) -> None:
    for days in (400, 200, 61, 59, 1):
        for topic in ("shop.order", "post.letter"):
            for number in range(3):
                when = dt.datetime.fromtimestamp(NOW - DAY * days + number, dt.timezone.utc)
                history.Message.create(
                    topic=f"org.fedoraproject.dev.{topic}", msg_id=f"{days}-{topic}-{number}", timestamp=when, msg={},
                    users=["ralph"], packages=["bread"],
                )  # fmt: skip
    history.session.commit()
    more = ("--category", category) if category else ()
    assert call("prune", "--older-than", "60d", *more).out.startswith("9 messages" if category else "18 messages")
    left = 30 - (9 if category else 18)
    assert history.Message.grep()[0] == left
    assert len(history.Message.grep(rows_per_page=0)[2]) == left
    assert history.Message.grep(users=["ralph"])[0] == left
    assert history.session.scalar(sa.select(sa.func.count()).select_from(users_assoc_table)) == left
    assert history.Message.grep(categories=["post"])[0] == (15 if category else 6)
    start = dt.datetime.fromtimestamp(NOW - 100 * DAY, dt.timezone.utc)
    end = dt.datetime.fromtimestamp(NOW, dt.timezone.utc)
    assert history.Message.grep(categories=["shop"], start=start, end=end)[0] == 6
    assert call("prune", "--older-than", "60d", *more).out.startswith("0 messages")


def test_prune_wants_an_age(call: Call) -> None:
    assert call("prune").status == 2
    result = call("prune", "--older-than", "a while")
    assert (result.status, "neither an age" in result.err) == (2, True)


def test_prune_takes_a_time(call: Call, history: Any) -> None:
    history.add_many([message(timestamp=START), message(timestamp=START + 1)])
    moment = dt.datetime.fromtimestamp(START + 1, dt.timezone.utc).isoformat()
    assert call("prune", "--older-than", moment).out.startswith("1 messages")
    assert history.Message.grep()[0] == 1


# ---------------------------------------------------------------- forget


def test_forget_takes_a_user_out(call: Call, history: Any) -> None:
    when = dt.datetime.fromtimestamp(START, dt.timezone.utc)
    made = {"timestamp": when, "signature": "s", "certificate": "c"}
    said = {"who": "ralph", "text": "by ralph, not by ralphie", "ralph": [1]}
    history.Message.create(
        topic="a.b.c.d", msg_id="1", msg=said, users=["ralph", "lmacken"], agent_name="ralph", **made
    )
    history.Message.create(topic="a.b.c.d", msg_id="2", msg={"who": "lmacken"}, users=["lmacken"], username="x", **made)
    history.Message.create(topic="a.b.c.d", msg_id="3", msg={}, username="ralph", **made)
    history.Message.create(topic="a.b.c.d", msg_id="4", msg={"said": "ralph"}, **made)
    history.session.commit()
    assert call("forget", "--user", "ralph").out == "2 messages changed\n"
    one, two, three, four = (history.Message.from_msg_id(number) for number in "1234")
    gone = "(forgotten)"
    assert one.msg == {"who": gone, "text": f"by {gone}, not by ralphie", gone: [1]}
    assert (one.signature, one.agent_name, three.username, three.signature) == (None, None, None, None)
    assert (two.signature, two.username, four.msg) == ("s", "x", {"said": "ralph"})
    assert history.Message.grep(users=["ralph"])[0] == 0
    assert history.Message.grep(users=["lmacken"])[0] == 2
    assert [user.name for user in history.session.scalars(sa.select(history.User))] == ["lmacken"]
    assert call("forget", "--user", "ralph", "--everywhere").out == "1 messages changed\n"
    assert history.Message.from_msg_id("4").msg == {"said": gone}


def test_forget_takes_a_user_out_of_what_the_columns_do_not_hold(call: Call, history: Any) -> None:
    history.add(message(username="ralph", msg={"who": "ralph", "x": 1e16}, extra="ralph"))
    assert call("forget", "--user", "ralph").out == "1 messages changed\n"
    (found,) = history.Message.grep()[2]
    assert "ralph" not in json.dumps(found.as_dict())
    assert found.original is None


def test_forget_takes_a_user_out_of_the_index_of_texts(call: Call, history: Any) -> None:
    history.add_many([message(username="ralph", msg={"who": "ralph"}), message(msg={"who": "somebody"})])
    while history.index_texts():
        pass
    history.session.remove()
    assert call("forget", "--user", "ralph").out == "1 messages changed\n"
    while history.index_texts():
        pass
    assert [history.Message.grep(contains=[text])[0] for text in ("ralph", "forgotten", "somebody")] == [0, 1, 1]


def test_forget_wants_a_name(call: Call) -> None:
    assert call("forget", "--user", " ").status == 2
