# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program in the manner of those that use the published datanommer; a test runs it, by a shim."""
# ruff: noqa: ANN003, ANN201, DTZ001, ICN001
# mypy: ignore-errors

from __future__ import annotations

import datetime
import inspect
import sys

import datanommer.models as dm
from datanommer.commands import CreateCommand, StatsCommand
from datanommer.consumer import Nommer
from datanommer.models import Message, Package, User, session

TOPIC = "org.example.prod.shop.order"


def fill():
    dm.init(sys.argv[1], create=True)
    for number in range(450):
        body = {"msg_id": f"2026-{number}", "i": number, "topic": TOPIC, "timestamp": 1600000000 + number,
                "username": "ann", "msg": {"number": number, "anonymous": False}}  # fmt: skip
        dm.add({"topic": TOPIC, "body": body, "headers": {}})
    first = Message.query.filter_by(msg_id="2026-0").one()
    first.users.append(User.get_or_create("ann"))
    first.packages.append(Package.get_or_create("bash"))
    session.commit()


def deferred(**filters):
    """Count before any message is read, and read them one by one."""
    total, pages, query = Message.grep(defer=True, **filters)
    found = list(session.scalars(query))
    assert query.count() == len(found), (query.count(), len(found))
    return total, pages, [message.i for message in found]


def main():
    fill()
    assert deferred(rows_per_page=0) == (450, 1, list(range(450)))
    assert deferred(rows_per_page=None, order="desc") == (450, 1, list(range(449, -1, -1)))
    assert deferred(rows_per_page=400) == (450, 2, list(range(400)))
    assert deferred(rows_per_page=400, page=2) == (450, 2, list(range(400, 450)))
    assert deferred(users=["ann"], packages=["bash"]) == (1, 1, [0])
    assert deferred(contains=['"anonymous": false'], topics=[TOPIC], rows_per_page=3)[2] == [0, 1, 2]

    start = datetime.datetime(2020, 9, 13, 12, 26, 40)
    total, pages, messages = Message.grep(start=start, end=start + datetime.timedelta(seconds=9))
    assert (total, pages, [message.msg["number"] for message in messages]) == (10, 1, list(range(10)))

    # A web service maps its arguments to the filters that there are.
    names = set(inspect.signature(Message.make_query).parameters)
    for name in ("users", "packages", "categories", "topics", "agents", "contains"):
        assert {name, f"not_{name}"} <= names, (name, names)
    assert {"start", "end", "msg_id"} <= names, names
    assert len(session.scalars(Message.make_query(users=["ann"])).all()) == 1

    assert Message.from_msg_id("2026-7").as_dict() == Message.from_msg_id("2026-7").__json__()
    assert Message.get_first(order="desc").i == 449
    assert issubclass(Nommer, object)
    assert {CreateCommand.__name__, StatsCommand.__name__} == {"CreateCommand", "StatsCommand"}
    print("whole")


main()
