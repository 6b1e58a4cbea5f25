# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plugins are built on, and the groups that conglomerators make."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmsg.meta
from fedmsg.meta import _groups
from fedmsg.meta.announce import AnnounceProcessor
from fedmsg.meta.base import BaseConglomerator, BaseProcessor, add_metaclass
from fedmsg.meta.logger import LoggerProcessor
from tests.unit.plugins import CONFIG, answering, envelope, make, raising

NEEDED = ("__name__", "__description__", "__link__", "__docs__", "__obj__")


@pytest.fixture(autouse=True)
def _own_processors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fedmsg.meta, "processors", [])
    fedmsg.meta.make_processors(**CONFIG)
    yield
    fedmsg.meta.counts.clear()


@pytest.mark.parametrize("missing", NEEDED)
def test_a_processor_declares_what_it_is(missing: str) -> None:
    plugin = type("Plugin", (BaseProcessor,), {name: "x" for name in NEEDED if name != missing})
    with pytest.raises(ValueError, match=f"Must declare a {missing}"):
        plugin(str, **CONFIG)


def test_what_a_processor_says_by_default() -> None:
    plugin, msg = make("Shop", __icon__="http://icon"), envelope("shop.order.placed")
    texts = ("subtitle", "long_form", "link")
    assert [getattr(plugin, method)(msg, **CONFIG) for method in texts] == ["", "", ""]
    assert plugin.title(msg, **CONFIG) == "shop.order.placed"
    assert plugin.subjective(msg, "ann", **CONFIG) == ""
    assert plugin.icon(msg, **CONFIG) == "http://icon"
    assert [getattr(plugin, method)(msg, **CONFIG) for method in ("secondary_icon", "lexer")] == [None, None]
    assert [getattr(plugin, method)(msg) for method in ("usernames", "packages", "objects")] == [set(), set(), set()]
    assert [getattr(plugin, method)(msg) for method in ("emails", "avatars")] == [{}, {}]
    assert plugin.agent is NotImplemented
    assert plugin._("text") == "text"
    assert (plugin.conglomerators, plugin.conglomerator_objects) == ([], [])


@pytest.mark.parametrize(("topic", "rest"), [("shop.a.b", "a.b"), ("shop", ""), ("shopping", None), ("x.shop", None)])
def test_handle_msg_gives_the_rest_of_the_topic(topic: str, rest: str | None) -> None:
    assert make("Shop").handle_msg(envelope(topic), **CONFIG) == rest


def test_the_pattern_is_there_to_see() -> None:
    assert make("Shop").__prefix__.pattern == rf"^{CONFIG['topic_prefix_re']}\.(shop)(\.(.*))?$"


# ---------------------------------------------------------------- the two that ship

LOGGER, ANNOUNCE = LoggerProcessor(str, **CONFIG), AnnounceProcessor(str, **CONFIG)
JSON_FORM = (
    'A custom JSON message was logged by ralph::\n\n    "msg": {\n        "a": [\n            1\n        ]\n    }'
)


@pytest.mark.parametrize(
    ("topic", "msg", "user", "subtitle", "long_form", "subjective"),
    [
        ("logger.log", {"log": "hi"}, "ralph", "hi (ralph)", "hi (ralph)", 'you logged "hi"'),
        ("logger.log", {"log": "hi"}, None, "hi (none)", "hi (none)", ""),
        ("logger.log", {"a": [1]}, "ralph", "<custom JSON message> (ralph)", JSON_FORM, ""),
        ("logger.x", {"log": "hi"}, "ralph", "<unhandled log message>", "<unhandled log message>", 'you logged "hi"'),
        ("logger.log", {"log": ["no text"]}, "ralph", "<custom JSON message> (ralph)", None, ""),
        ("logger.log", "text", "ralph", "<custom JSON message> (ralph)", None, ""),
    ],
)
def test_logger(
    *, topic: str, msg: Any, user: str | None, subtitle: str, long_form: str | None, subjective: str
) -> None:
    message = envelope(topic, msg, **({"username": user} if user else {}))
    assert LOGGER.subtitle(message) == subtitle
    assert long_form in (None, LOGGER.long_form(message))
    assert LOGGER.subjective(message, "ralph") == subjective
    assert LOGGER.subjective(message, "somebody else") == ""
    assert LOGGER.usernames(message) == ({user} if user else set())
    assert LOGGER.agent(message) == user


def test_announce() -> None:
    message = envelope("announce.announcement", {"message": "it is out", "link": "http://x/"}, username="ralph")
    assert [ANNOUNCE.subtitle(message), ANNOUNCE.long_form(message), ANNOUNCE.link(message)] == [
        "it is out", "it is out", "http://x/",
    ]  # fmt: skip
    assert (ANNOUNCE.usernames(message), ANNOUNCE.agent(message)) == ({"ralph"}, "ralph")
    assert fedmsg.meta.msg2repr(message, **CONFIG) == "announce.announcement -- it is out http://x/"
    assert fedmsg.meta.msg2repr(envelope("announce.x", {"message": "m", "link": None})) == "announce.x -- m "


# ---------------------------------------------------------------- groups


@pytest.mark.parametrize(
    ("items", "options", "text"),
    [
        ([], {}, "(nothing)"),
        (["a"], {}, "a"),
        (["b", "a", "a"], {}, "a and b"),
        (["a", "b", "c"], {}, "a, b, and c"),
        (["a", "b", "c", "d"], {}, "a, b, and 2 others"),
        (["a", "b", "c"], {"oxford_comma": False}, "a, b and c"),
        (["a", "b", "c"], {"N": 2}, "a and 2 others"),
        (["a", "b", "c", "d", "e"], {"N": 4, "oxford_comma": False}, "a, b, c and 2 others"),
        ({"a", "b"}, {}, "a and b"),
    ],
)
def test_list_to_series(items: Any, options: dict[str, Any], text: str) -> None:
    assert BaseConglomerator.list_to_series(items, **options) == text


class ByKey(BaseConglomerator):
    """Groups messages that have the same ``key``."""

    def can_handle(self, msg: dict[str, Any], **config: Any) -> bool:
        return bool(msg["topic"].endswith("shop.order"))

    def matches(self, a: dict[str, Any], b: dict[str, Any], **config: Any) -> bool:
        return bool(a["msg"]["key"] == b["msg"]["key"])

    def merge(self, constituents: Any, subject: str | None, **config: Any) -> dict[str, Any]:
        merged = self.produce_template(constituents, subject, **config)
        merged["subtitle"] = f"{len(constituents)} for {subject}"
        return merged


def orders(*keys: str) -> list[dict[str, Any]]:
    return [
        envelope("shop.order", {"key": key}, msg_id=str(number), timestamp=100 * (number + 1))
        for number, key in enumerate(keys)
    ]


def shop(conglomerator: type[BaseConglomerator] = ByKey, **members: Any) -> Any:
    plugin = make(
        "shop", conglomerators=[conglomerator], usernames=lambda self, msg, **config: {msg["msg"]["key"]}, **members
    )
    fedmsg.meta.processors.insert(0, plugin)
    return plugin


def ids(groups: list[dict[str, Any]]) -> list[list[str]]:
    return [list(group["msg_ids"]) for group in groups]


def test_a_conglomerator_knows_its_processor() -> None:
    plugin = shop()
    (found,) = plugin.conglomerator_objects
    assert (found.processor, found._) == (plugin, str)


def test_it_has_to_say_what_it_groups() -> None:
    with pytest.raises(TypeError, match="abstract"):
        BaseConglomerator(None, str)  # type: ignore[abstract]


def test_select_constituents() -> None:
    (found,) = shop().conglomerator_objects
    messages = orders("a", "b", "c", "b", "a", "b")
    indices, constituents = found.select_constituents(messages, **CONFIG)
    assert list(indices) == [0, 4]
    assert list(constituents) == [messages[0], messages[4]]
    assert found.select_constituents(orders("a", "b"), **CONFIG) == (None, None)
    assert found.skip({"msg_ids": {}}, **CONFIG)
    assert found.skip(envelope("other"), **CONFIG)
    assert not found.skip(messages[0], **CONFIG)


def test_groups_stand_where_their_first_message_stood() -> None:
    shop()
    messages = [*orders("a", "b", "c", "b", "a", "b"), envelope("other", {"key": 1}, msg_id="x", timestamp=5)]
    groups = fedmsg.meta.conglomerate(messages, "ann", **CONFIG)
    assert groups is messages
    assert ids(groups) == [["0", "4"], ["1", "3", "5"], ["2"], ["x"]]
    assert [group["subtitle"] for group in groups] == ["2 for ann", "3 for ann", "", ""]


def test_what_a_group_says() -> None:
    shop(icon=answering("icon"), packages=answering({"p"}))
    (group, alone) = fedmsg.meta.conglomerate(orders("a", "b", "a"), lexers=True, **CONFIG)
    assert {key: value for key, value in group.items() if key != "msg_ids"} == {
        "start_time": 100, "end_time": 300, "timestamp": 200.0, "human_time": group["human_time"], "usernames": {"a"},
        "packages": {"p"}, "topics": {"org.fedoraproject.dev.shop.order"}, "categories": {"shop"}, "icon": "icon",
        "subtitle": "2 for None",
    }  # fmt: skip
    assert group["human_time"].endswith(" years ago")
    assert group["msg_ids"]["2"] == {
        "title": "shop.order", "subtitle": "", "subjective": "", "link": "", "icon": "icon", "__icon__": None,
        "secondary_icon": None, "usernames": {"a"}, "packages": {"p"}, "objects": set(), "long_form": "", "lexer": None,
    }  # fmt: skip
    assert set(alone) - set(group) == {"link", "subjective", "secondary_icon"}
    assert "lexer" not in fedmsg.meta.conglomerate(orders("a"), **CONFIG)[0]["msg_ids"]["0"]


@pytest.mark.parametrize("broken", ["can_handle", "matches", "merge"])
def test_a_conglomerator_that_raises_groups_nothing(broken: str) -> None:
    shop(type("Broken", (ByKey,), {broken: raising(ZeroDivisionError())}))
    assert ids(fedmsg.meta.conglomerate(orders("a", "a"), **CONFIG)) == [["0"], ["1"]]
    assert {problem for _, problem in fedmsg.meta.counts} == {"raised"}


def test_one_message_of_another_shape_does_not_hinder_the_others() -> None:
    shop()
    messages = orders("a", "a", "a")
    messages[1]["msg"] = {}
    assert ids(fedmsg.meta.conglomerate(messages, **CONFIG)) == [["0", "2"], ["1"]]


def test_nonsense_instead_of_a_group_ends() -> None:
    shop(type("Nonsense", (ByKey,), {"merge": answering(None)}))
    assert ids(fedmsg.meta.conglomerate(orders("a", "a"), **CONFIG)) == [["0"], ["1"]]


@pytest.mark.parametrize("timestamp", [None, "x", float("nan"), 10**400, True])
@pytest.mark.parametrize("msg_id", [None, [], "x"])
def test_messages_without_time_or_id(timestamp: Any, msg_id: Any) -> None:
    (group,) = fedmsg.meta.conglomerate([envelope("x", timestamp=timestamp, msg_id=msg_id)], **CONFIG)
    assert len(group["msg_ids"]) == 1
    assert isinstance(group["human_time"], str)


# What fedmsg 1.1.7 says, whose words are those of the library arrow.
@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"), (9, "just now"), (11, "11 seconds ago"), (59, "59 seconds ago"), (60, "a minute ago"),
        (119, "a minute ago"), (120, "2 minutes ago"), (3599, "59 minutes ago"), (3600, "an hour ago"),
        (7300, "2 hours ago"), (86400, "a day ago"), (200_000, "2 days ago"), (700_000, "a week ago"),
        (14 * 86400, "2 weeks ago"), (15 * 86400, "a month ago"), (44 * 86400, "a month ago"),
        (46 * 86400, "2 months ago"), (200 * 86400, "7 months ago"), (364 * 86400, "12 months ago"),
        (366 * 86400, "a year ago"), (800 * 86400, "2 years ago"), (-5, "just now"), (-100, "in a minute"),
        (-5000, "in an hour"), (-1_000_000, "in a week"), (1e13, ""), (float("inf"), ""),
    ],
)  # fmt: skip
def test_how_long_ago(seconds: float, words: str) -> None:
    now = 1_700_000_000.0
    assert _groups.ago(now - seconds, now) == words


@given(st.floats(-1e11, 1e11), st.floats(0, 4e9))
def test_there_are_words_for_any_time(timestamp: float, now: float) -> None:
    assert isinstance(_groups.ago(timestamp, now), str)


def test_add_metaclass() -> None:
    @add_metaclass(abc.ABCMeta)
    class Abstract:
        __slots__ = ("x",)

        @abc.abstractmethod
        def method(self) -> None: ...

    assert type(Abstract) is abc.ABCMeta
    assert "x" in dir(Abstract)
    with pytest.raises(TypeError):
        Abstract()
