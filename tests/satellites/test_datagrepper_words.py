# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages in words, as answers have them: all that fedmsg.meta knows, and messages that it joins into one."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from fedmsg import meta
from fedmsg.datagrepper.app import create_app
from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from fedmsg.meta.base import BaseConglomerator, BaseProcessor
from tests.satellites.messages import START, message

PREFIX = "org.fedoraproject.dev.shop"


class OrdersOfOne(BaseConglomerator):
    """Joins the orders of one customer."""

    def can_handle(self, msg: dict[str, Any], **_config: Any) -> bool:
        return bool(msg["topic"].endswith(".order"))

    def matches(self, a: dict[str, Any], b: dict[str, Any], **_config: Any) -> bool:
        return bool(a["msg"]["customer"] == b["msg"]["customer"])

    def merge(self, constituents: Any, subject: str | None, **config: Any) -> dict[str, Any]:
        merged = self.produce_template(constituents, subject, **config)
        merged["subtitle"] = f"{constituents[0]['msg']['customer']} <b>ordered</b> {len(constituents)} things"
        merged["link"] = "https://shop.example.org/orders"
        return merged


class Shop(BaseProcessor):
    """Knows everything of the messages of a shop."""

    __name__ = "shop"
    __description__ = "the shop"
    __link__ = "https://shop.example.org"
    __docs__ = "https://shop.example.org/docs"
    __obj__ = "orders"
    conglomerators = (OrdersOfOne,)

    def title(self, msg: dict[str, Any], **_config: Any) -> str:
        return f"title of {msg['msg_id']}"

    def subtitle(self, msg: dict[str, Any], **_config: Any) -> str:
        return f"{msg['msg']['customer']} orders {msg['msg']['number']}"

    def long_form(self, msg: dict[str, Any], **_config: Any) -> str:
        return f"a long text of {msg['msg_id']}"

    def link(self, msg: dict[str, Any], **_config: Any) -> str:
        return f"https://shop.example.org/{msg['msg_id']}"

    def icon(self, msg: dict[str, Any], **_config: Any) -> str:
        return f"https://shop.example.org/icon.png?{msg['msg_id']}"

    def secondary_icon(self, msg: dict[str, Any], **_config: Any) -> str:
        return f"https://shop.example.org/second.png?{msg['msg_id']}"

    def usernames(self, msg: dict[str, Any], **_config: Any) -> set[str]:
        return {msg["msg"]["customer"], "clerk"}

    def agent(self, msg: dict[str, Any], **_config: Any) -> str:
        return str(msg["msg"]["customer"])

    def packages(self, msg: dict[str, Any], **_config: Any) -> set[str]:
        return {"kernel", "bash", *msg["msg"].get("packages", ())}

    def avatars(self, msg: dict[str, Any], **_config: Any) -> dict[str, str]:
        return {msg["msg"]["customer"]: "https://shop.example.org/ann.png"}

    def objects(self, msg: dict[str, Any], **_config: Any) -> set[str]:
        found = {"containers/cockpit", "modules/nodejs", "modules/perl", "flatpaks/gimp", "other/x"}
        return found | set(msg["msg"].get("objects", ()))


# Bob's order stands between those of Ann; the last one is of another kind.
STORED = [("order", "ann"), ("order", "bob"), ("order", "ann"), ("order", "ann"), ("closed", "ann")]


@pytest.fixture(scope="module")
def client(history_engine: sa.Engine) -> Iterator[FlaskClient]:
    with pytest.MonkeyPatch.context() as patch:
        config = {"topic_prefix_re": r"org\.fedoraproject\.dev"}
        processors = [Shop(str, **config), meta.DefaultProcessor(str, **config)]
        patch.setattr(meta, "processors", processors)
        models.add_many(
            message(f"{PREFIX}.{kind}", msg={"customer": customer, "number": number}, msg_id=f"2026-{number}",
                    timestamp=START + 60 * number)
            for number, (kind, customer) in enumerate(STORED)
        )  # fmt: skip
        models.session.remove()
        yield create_app(config).test_client()
    empty(history_engine)


def test_grouped_joins_messages(client: FlaskClient) -> None:
    answer: Any = client.get("/raw?grouped=true&order=asc").get_json()
    joined, alone, other = answer["raw_messages"]
    assert list(joined["msg_ids"]) == ["2026-0", "2026-2", "2026-3"]
    assert (list(alone["msg_ids"]), list(other["msg_ids"])) == (["2026-1"], ["2026-4"])
    assert (answer["count"], answer["total"], answer["arguments"]["grouped"]) == (3, 5, True)
    assert joined["subtitle"] == "ann <b>ordered</b> 3 things"
    assert (joined["start_time"], joined["end_time"]) == (START, START + 180)
    # Sets become lists.
    assert (joined["usernames"], joined["topics"]) == (["ann", "clerk"], [f"{PREFIX}.order"])
    assert (joined["packages"], joined["categories"]) == (["bash", "kernel"], ["shop"])
    assert joined["msg_ids"]["2026-2"]["subtitle"] == "ann orders 2"
    assert alone["subtitle"] == "bob orders 1"
    # The control: by themselves they are five.
    apart: Any = client.get("/raw").get_json()
    assert apart["count"] == 5


def test_grouped_joins_within_a_page(client: FlaskClient) -> None:
    answer: Any = client.get("/raw?grouped=true&order=asc&rows_per_page=3").get_json()
    assert [list(one["msg_ids"]) for one in answer["raw_messages"]] == [["2026-0", "2026-2"], ["2026-1"]]


def test_grouped_messages_are_one_card(client: FlaskClient) -> None:
    page = client.get("/raw?grouped=true", headers={"Accept": "text/html"}).text
    assert page.count(html.escape("ann <b>ordered</b> 3 things")) == 1
    assert "<b>ordered" not in page
    assert page.count("https://shop.example.org/orders") == 1
    for number in (0, 2, 3):
        assert f"/id?id=2026-{number}" in page
        assert f"ann orders {number}" in page
    apart = client.get("/raw", headers={"Accept": "text/html"}).text
    assert "things" not in apart
    assert apart.count("ann orders") >= 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("title", "title of 2026-3"), ("subtitle", "ann orders 3"), ("text", "a long text of 2026-3"),
        ("long_form", "a long text of 2026-3"), ("link", "https://shop.example.org/2026-3"),
        ("url", "https://shop.example.org/2026-3"), ("icon", "https://shop.example.org/icon.png?2026-3"),
        ("app_icon", "https://shop.example.org/icon.png?2026-3"), ("secondary_icon", "https://shop.example.org/second.png?2026-3"),
        ("agent_avatar", "https://shop.example.org/ann.png"), ("usernames", ["ann", "clerk"]),
        ("packages", ["bash", "kernel"]), ("containers", ["cockpit"]), ("modules", ["nodejs", "perl"]),
        ("flatpaks", ["gimp"]),
        ("objects", ["containers/cockpit", "flatpaks/gimp", "modules/nodejs", "modules/perl", "other/x"]),
    ],
)  # fmt: skip
def test_meta_of_each_name(client: FlaskClient, name: str, expected: Any) -> None:
    found: Any = client.get(f"/id?id=2026-3&meta={name}").get_json()
    assert found["meta"] == {name: expected}


def test_meta_of_a_date_and_a_summary(client: FlaskClient) -> None:
    found: Any = client.get("/id?id=2026-3&meta=date&meta=summary").get_json()
    assert found["meta"]["date"].endswith(" years ago")
    assert "ann orders 3" in found["meta"]["summary"]
    assert set(found["meta"]) == {"date", "summary"}
