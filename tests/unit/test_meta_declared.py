# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors that are declared in YAML: what they say, and what is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmsg.meta
from fedmsg.meta._declared import TopicPattern
from fedmsg.meta._template import BadTemplate, Template
from tests.unit.json_values import TEXTS
from tests.unit.plugins import CONFIG, envelope

SHOP = """
name: shop
description: the web shop
icon: https://shop.example.org/icon.png
messages:
  - topic: order.placed
    title: New order
    subtitle: "{msg.user.name|username} ordered {msg.items.0.name} for {msg.price} €"
    long_form: "All of it: {msg.names}"
    link: "https://shop.example.org/orders/{msg.order}?by={msg.user.name}"
    secondary_icon: "{msg.avatar}"
    usernames: ["{msg.user.name}", "{username}"]
    packages: "{msg.names}"
    objects: "orders/{msg.order}"
  - topic: "*.paid"
    subtitle: paid
  - topic: "refund.**"
    subtitle: "{{refunded}}"
"""
ORDER = {
    "user": {"name": "ann/b"}, "items": [{"name": "a lamp"}], "price": 9.5, "names": ["lamp", "bulb"], "order": 17,
    "avatar": "https://x/y.png",
}  # fmt: skip

Declare = Callable[..., None]


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Declare]:
    """Put declarations into files, and load them."""

    def load(*texts: str, **config: Any) -> None:
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setattr(fedmsg.meta, "processors", [])
        fedmsg.meta.make_processors(**{**CONFIG, "meta_processors": [str(tmp_path)], **config})

    yield load
    fedmsg.meta.counts.clear()


def said(topic: str, msg: Any = None, **more: Any) -> dict[str, Any]:
    """Give all that is said of a message, but what is said of any."""
    message = envelope(topic, msg, **more)
    names = (
        "title",
        "subtitle",
        "long_form",
        "link",
        "icon",
        "secondary_icon",
        "usernames",
        "packages",
        "objects",
        "agent",
    )
    return {name: answer for name in names if (answer := getattr(fedmsg.meta, f"msg2{name}")(message, **CONFIG))}


def test_what_is_declared_is_said(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    declare(SHOP)
    assert said("shop.order.placed", ORDER, username="bob") == {
        "title": "New order",
        "subtitle": "ann/b ordered a lamp for 9.5 €",
        "long_form": "All of it: lamp, bulb",
        "link": "https://shop.example.org/orders/17?by=ann%2Fb",
        "icon": "https://shop.example.org/icon.png",
        "secondary_icon": "https://x/y.png",
        "usernames": {"ann/b", "bob"},
        "packages": {"lamp", "bulb"},
        "objects": {"orders/17"},
        "agent": "ann/b",
    }
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("topic", "subtitle"),
    [
        ("shop.bill.paid", "paid"),
        ("shop.a.bill.paid", ""),
        ("shop.refund.a.b", "{refunded}"),
        ("shop.refund", ""),
        ("shop", ""),
        ("other.bill.paid", ""),
    ],
)
def test_the_first_pattern_that_fits_counts(declare: Declare, topic: str, subtitle: str) -> None:
    declare(SHOP)
    assert said(topic).get("subtitle", "") == subtitle
    assert said(topic)["title"] == topic
    assert bool(said(topic).get("icon")) is topic.startswith("shop")


def test_what_lacks_a_field_is_summarized(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    declare(SHOP)
    message = envelope("shop.order.placed", {"user": {"name": "ann"}, "order": 5})
    assert fedmsg.meta.msg2subtitle(message, **CONFIG) == ""
    assert fedmsg.meta.msg2summary(message, **CONFIG) == "shop order placed by ann: order=5"
    assert "shop" in caplog.text
    assert fedmsg.meta.msg2link(message, **CONFIG) == "https://shop.example.org/orders/5?by=ann"
    assert fedmsg.meta.msg2packages(message, **CONFIG) == set()


def test_a_prefix_of_its_own(declare: Declare) -> None:
    declare("name: shop\ntopic_prefix_re: 'com\\.example\\.[a-z]+'\nmessages: [{subtitle: hello}]")
    assert fedmsg.meta.msg2subtitle({"topic": "com.example.live.shop", "msg": {}}, **CONFIG) == "hello"
    assert said("shop.x") == {"title": "shop.x"}


def test_it_comes_before_what_is_installed(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    declare("name: logger\nmessages: [{subtitle: first}]", "name: logger\nmessages: [{subtitle: second}]")
    assert said("logger.log", {"log": "x"})["subtitle"] == "first"
    assert "crippled" not in caplog.text


def test_where_the_files_are(declare: Declare, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = tmp_path / "one" / "of-many.yml"
    one.parent.mkdir()
    one.write_text("name: one\nmessages: [{subtitle: here}]")
    (one.parent / "notes.txt").write_text("no: [yaml")
    declare(meta_processors=[str(tmp_path / "missing"), str(one)])
    assert said("one.x")["subtitle"] == "here"
    assert caplog.text == ""
    declare(meta_processors=[str(one.parent)])
    assert said("one.x")["subtitle"] == "here"
    declare(meta_processors=[str(tmp_path / "missing.yaml")])
    assert "missing.yaml: " in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: [", "0.yaml:1: "),
        ("a: 1\nb: {", "0.yaml:2: "),
        ("just text", "the file: it is not a mapping"),
        ("description: x", "name: '' is not a word of a topic"),
        ("name: 'a b'", "name: 'a b' is not a word of a topic"),
        ("name: 5", "name: 5 is not text"),
        ("name: x\nmesages: []", "the file: unknown key 'mesages'"),
        ("name: x\nmessages: {}", ""),
        ("name: x\nmessages: 5", "messages: it is not a list"),
        ("name: x\nmessages: [5]", "messages[0]: it is not a mapping"),
        ("name: x\nmessages: [{}, {subtitel: x}]", "messages[1]: unknown key 'subtitel'"),
        ("name: x\nmessages: [{subtitle: 5}]", "messages[0]: 5 is not text; put it in quotes"),
        ("name: x\nmessages: [{topic: 5}]", "messages[0].topic: 5 is not text"),
        ("name: x\nmessages: [{subtitle: '{msg.x'}]", "has a single '{'; write '{{'"),
        ("name: x\nmessages: [{subtitle: '}'}]", "has a single '}'; write '}}'"),
        ("name: x\nmessages: [{subtitle: '{}'}]", "{} is not a field"),
        ("name: x\nmessages: [{subtitle: '{msg.x:>99999999}'}]", "is not a field"),
        ("name: x\nmessages: [{subtitle: '{msg.x!r}'}]", "is not a field"),
        ("name: x\nmessages: [{subtitle: '{msg[x]}'}]", "is not a field"),
        ("name: x\nmessages: [{subtitle: '{msg..x}'}]", "is not a field"),
        ("name: x\ntopic_prefix_re: '('", "topic_prefix_re: it is not a regular expression"),
        ("name: !!python/object/apply:os.system ['touch pwned']", "0.yaml:1: "),
    ],
)
def test_a_file_that_makes_no_sense_is_named_and_not_loaded(
    declare: Declare, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    declare(text, "name: good\nmessages: [{subtitle: good}]")
    assert said("good.x")["subtitle"] == "good"
    lines = [line for line in caplog.messages if "not loaded" in line]
    assert len(lines) == bool(reason)
    assert reason in "".join(lines)
    assert all("0.yaml:" in line and "\n" not in line for line in lines)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("template", "msg"),
    [
        ("{msg.__class__}", {"x": 1}),
        ("{msg.items}", {"x": 1}),
        ("{msg.x.__class__.__mro__}", {"x": "text"}),
        ("{msg.x.upper}", {"x": "text"}),
        ("{msg.x.0}", {"x": "text"}),
        ("{msg.x.-1}", {"x": ["text"]}),
        ("{msg.x.1}", {"x": ["text"]}),
        ("{msg.x.99999999999999999999}", {"x": ["text"]}),
        ("{msg.x.²}", {"x": ["text"]}),
        ("{msg.x}", {"x": {"deeper": 1}}),
        ("{msg.x}", {"x": [[1]]}),
        ("{msg.x}", {"x": None}),
    ],
)
def test_fields_are_looked_up_in_the_message_alone(template: str, msg: Any) -> None:
    with pytest.raises(KeyError):
        Template(template).fill({"msg": msg})


@pytest.mark.parametrize(
    ("template", "value", "address"),
    [
        ("https://x/{v}", "a/../b?c#d e", "https://x/a%2F..%2Fb%3Fc%23d%20e"),
        ("{v}", "https://x/y?z", "https://x/y?z"),
        ("{v}", "javascript:alert(1)", ""),
        ("{v}", "data:text/html,x", ""),
        ("{v}/x", "https://y", "https://y/x"),
        ("x{v}", "https://y", ""),
        ("mailto:{v}", "ann@example.org", "mailto:ann%40example.org"),
    ],
)
def test_an_address_is_one(template: str, value: str, address: str) -> None:
    assert Template(template, address=True).fill({"v": value}) == address


@given(TEXTS)
def test_a_text_without_braces_is_itself(text: str) -> None:
    plain = text.replace("{", "").replace("}", "")
    assert Template(plain).fill({}) == plain
    assert Template(text.replace("{", "{{").replace("}", "}}")).fill({}) == text


@given(TEXTS)
def test_any_text_is_a_template_or_is_refused(text: str) -> None:
    try:
        template = Template("{" + text + "}")
    except BadTemplate:
        return
    template.values({"msg": {}})


def test_enormous_values_are_cut() -> None:
    assert len(Template("{a} {a}").fill({"a": "x" * 10_000_000})) == 1003


def test_the_sample_of_the_documentation(declare: Declare, repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    declare((repository / "docs" / "howto" / "words.yaml").read_text(encoding="utf-8"))
    order = {"order": 17, "state": "paid", "customer": {"name": "ann"}, "lines": [{"article": "lamp"}]}
    assert said("shop.order.changed", order) == {
        "title": "shop.order.changed",
        "subtitle": "order 17 is paid",
        "long_form": "order 17 is paid",
        "link": "https://shop.example.org/orders/17",
        "icon": "https://shop.example.org/icon.png",
    }
    placed = said("shop.order.placed", {**order, "articles": ["lamp", "bulb"], "city": "Bern"}, username="bob")
    assert placed["subtitle"] == "ann ordered lamp"
    assert placed["long_form"] == "ann ordered lamp, bulb, to be sent to Bern."
    assert (placed["usernames"], placed["packages"]) == ({"ann", "bob"}, {"lamp", "bulb"})
    assert caplog.text == ""


def test_templates_are_translated(declare: Declare) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedmsg.meta, "_", lambda text: {"paid {msg.x}": "{msg.x} bezahlt"}.get(text, text))
        declare("name: shop\nmessages: [{subtitle: 'paid {msg.x}', title: ''}]")
    assert said("shop.x", {"x": 5}) == {"subtitle": "5 bezahlt", "long_form": "5 bezahlt"}


@given(st.text("a.*", max_size=10), st.text("a.b", max_size=12))
def test_topic_pattern_matches_what_a_regular_expression_matches(pattern: str, topic: str) -> None:
    forms = {"*": "[^.]*", "**": ".*"}
    expression = "".join(forms.get(part, re.escape(part)) for part in re.split(r"(\*\*?)", pattern))
    assert TopicPattern(pattern).matches(topic) == (re.fullmatch(expression, topic) is not None)


def test_topic_pattern_is_linear() -> None:
    start = time.process_time()
    assert not TopicPattern("**.a.**.a.**.a.**.b").matches(".a" * 100_000)
    assert time.process_time() - start < 5
