# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter language: topics, users, packages and fields of messages."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg.exceptions import ConfigError, UsageError
from fedmsg.filters import MessageFilter, Term, TopicFilter

ENVELOPE = {
    "topic": "org.fedoraproject.prod.bodhi.update",
    "timestamp": 1_700_000_000,
    "msg": {
        "update": {"status": "testing", "karma": 3, "pushed": False, "closed": None, "bugs": []},
        "builds": [{"nvr": "guake-1"}, {"nvr": "zsh-2"}],
        "tags": ["a", "b"],
        "agent": "lmacken",
    },
}

topics = st.text("ab.*", max_size=12)
names = st.text("ab.", max_size=16)


def as_expression(glob: str, strict: bool) -> re.Pattern[str]:
    """Return the regular expression for a glob: the control of the fast matcher."""
    end = "" if strict and glob else ".*"
    return re.compile(".*".join(map(re.escape, glob.split("*"))) + end, re.DOTALL)


@given(st.lists(topics, max_size=4), names, st.booleans())
def test_topic_filter_matches_what_a_regular_expression_matches(globs: list[str], topic: str, strict: bool) -> None:
    expected = not globs or any(as_expression(glob, strict).fullmatch(topic) for glob in globs)
    assert TopicFilter(globs, strict=strict).matches(topic) == expected


@given(st.lists(topics, max_size=4), names, st.booleans())
def test_topic_filter_prefixes_cover_all_that_matches(globs: list[str], topic: str, strict: bool) -> None:
    wanted = TopicFilter(globs, strict=strict)
    prefixes = wanted.prefixes()
    assert topic.startswith(prefixes) or not wanted.matches(topic)
    assert not any(one != other and one.startswith(other) for one in prefixes for other in prefixes)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("topic", ["", "*"])
def test_topic_filter_takes_everything_for_no_topic(topic: str, strict: bool) -> None:
    assert TopicFilter([topic, "x"], strict=strict).matches("a.b")
    assert TopicFilter([topic], strict=strict, globs=False).prefixes() == ("",)


def test_topic_filter_without_globs_removes_stars() -> None:
    wanted = TopicFilter(["a.*.b*"], globs=False)
    assert wanted.matches("a..bc")
    assert not wanted.matches("a.x.b")
    assert TopicFilter(["a.b*"], strict=True, globs=False).matches("a.b")
    assert not TopicFilter(["a.b*"], strict=True, globs=False).matches("a.b.c")
    assert TopicFilter(["a.b*"], strict=True).matches("a.b.c")


def test_topic_filter_is_linear() -> None:
    wanted = TopicFilter(["*a" * 60 + "*b"])
    start = time.process_time()
    assert not wanted.matches("a" * 1_000_000)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "term",
    [
        "msg.update.status=testing",
        "msg.update.status = testing ",
        "msg.update.status!=stable",
        "msg.update.status~^test",
        "msg.update.karma=3",
        "msg.update.karma=3.0",
        "msg.update.karma>2",
        "msg.update.karma>=3",
        "msg.update.karma<3.5",
        "msg.update.karma<=3",
        "msg.update.karma~^3$",
        "msg.update.pushed=false",
        "msg.update.closed=null",
        "msg.update.closed exists",
        "msg.update.closed",
        "msg.update.bugs exists",
        "msg.update.status>tesa",
        "msg.builds.nvr=zsh-2",
        "msg.builds.1.nvr=zsh-2",
        "msg.tags=b",
        "msg.tags.0=a",
        "msg.missing!=x",
        "topic~bodhi",
        "timestamp>1600000000",
    ],
)
def test_term_matches(term: str) -> None:
    assert Term(term).matches(ENVELOPE)


@pytest.mark.parametrize(
    "term",
    [
        "msg.update.status=stable",
        "msg.update.status!=testing",
        "msg.update.status~^est",
        "msg.update=testing",
        "msg.update~testing",
        "msg.update.karma>3",
        "msg.update.karma>x",
        "msg.update.status>2",
        "msg.update.status.deeper exists",
        "msg.update.pushed=0",
        "msg.update.bugs~.*",
        "msg.builds.2.nvr exists",
        "msg.builds.0.nvr=zsh-2",
        "msg.tags!=b",
        "msg.missing exists",
        "msg.missing=",
        "msg.missing~.*",
    ],
)
def test_term_does_not_match(term: str) -> None:
    assert not Term(term).matches(ENVELOPE)


@pytest.mark.parametrize(
    ("term", "complaint"),
    [
        ("", "is not a condition"),
        ("=x", "is not a condition"),
        ("msg.a there", "is not a condition"),
        ("msg..a=x", "empty key"),
        ("msg.a~(", "is not a regular expression"),
    ],
)
def test_term_rejects_what_it_cannot_read(term: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        Term(term)
    assert repr(term) in str(caught.value)
    assert "\n" not in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc0"), inner, max_size=3),
    max_leaves=10,
)


@given(
    values,
    st.lists(st.sampled_from(["a", "b", "0", "1"]), min_size=1, max_size=4),
    st.sampled_from(["=", "~", ">", ">=", "<", "<=", " exists"]),
    st.sampled_from(["", "1", "a", "1e400", "nan", "null", "9" * 5000]),
)
def test_term_survives_any_message(msg: Any, path: list[str], sign: str, value: str) -> None:
    term = ".".join(["msg", *path])
    text = term + sign + (value if sign != " exists" else "")
    matched = Term(text).matches({"msg": msg})
    assert isinstance(matched, bool)
    if sign == "=":
        assert Term(term + "!=" + value).matches({"msg": msg}) != matched
    assert not matched or Term(term).matches({"msg": msg})


def test_term_survives_numbers_that_python_does_not_write() -> None:
    assert not Term("msg.n~5").matches({"msg": {"n": 10**5000}})
    assert Term("msg.n>5").matches({"msg": {"n": 10**5000}})


def users_of(envelope: Any) -> set[str]:
    return {envelope["msg"]["agent"]}


def wanted(**parts: Any) -> bool:
    return MessageFilter(**parts, users_of=users_of, packages_of=lambda _: ["guake", "zsh"]).matches(ENVELOPE)


def test_message_filter_without_parts_matches_everything() -> None:
    assert wanted()
    assert MessageFilter().prefixes() == ("",)
    assert MessageFilter().matches({})


def test_message_filter_joins_values_by_or_and_parts_by_and() -> None:
    assert wanted(users=["ralph", "lmacken"], packages=["zsh"], topics=["x", "org"])
    assert not wanted(users=["lmacken"], packages=["bash"])
    assert not wanted(users=["ralph"], packages=["zsh"])
    assert wanted(where=["msg.update.karma>2", "msg.update.status=testing"])
    assert not wanted(where=["msg.update.karma>2", "msg.update.status=stable"])


@pytest.mark.parametrize(
    ("part", "hit", "miss"),
    [
        ("topics", "org.*.bodhi", "org.*.git"),
        ("users", "lmacken", "ralph"),
        ("packages", "zsh", "bash"),
        ("where", "msg.update.karma=3", "msg.update.karma=4"),
    ],
)
def test_message_filter_not_twin_is_the_opposite(part: str, hit: str, miss: str) -> None:
    assert wanted(**{part: [hit]})
    assert not wanted(**{part: [miss]})
    assert not wanted(**{f"not_{part}": [hit]})
    assert not wanted(**{f"not_{part}": [miss, hit]})
    assert wanted(**{f"not_{part}": [miss]})


def test_message_filter_needs_the_functions_of_meta() -> None:
    with pytest.raises(TypeError, match="users_of"):
        MessageFilter(users=["a"])
    MessageFilter(users=["a"], users_of=lambda _: None).matches({})  # type: ignore[arg-type,return-value]


def test_message_filter_of_flags() -> None:
    found = MessageFilter.from_flags(
        {
            "topic": "org",
            "users": "a, b,",
            "where": ["msg.x=1"],
            "not_packages": "c",
            "zmq_linger": 1,
            "packages": None,
        },
        users_of=users_of,
        packages_of=users_of,
    )
    assert found.to_params() == [
        ("topic", "org*"),
        ("user", "a"),
        ("user", "b"),
        ("where", "msg.x=1"),
        ("not_package", "c"),
    ]
    assert MessageFilter.from_flags({"topic": ""}).to_params() == []


@pytest.mark.parametrize(
    ("flags", "start"),
    [
        ({"where": ["msg.x=1", "msg.y y"]}, "--where: 'msg.y y' is not a condition; write PATH=VALUE"),
        ({"not_where": "msg.x~["}, "--not-where: 'msg.x~['"),
        ({"users": 5}, "--users: 5 is neither text nor a list"),
    ],
)
def test_message_filter_names_the_flag(flags: dict[str, Any], start: str) -> None:
    with pytest.raises(UsageError) as caught:
        MessageFilter.from_flags(flags)
    assert str(caught.value).startswith(start)


def test_message_filter_of_a_configuration() -> None:
    found = MessageFilter.from_config({"topics": "a.b", "not_where": ["msg.x"]}, "irc[0].only")
    assert found.matches({"topic": "a.b.c", "msg": {}})
    assert not found.matches({"topic": "a.b.c", "msg": {"x": 1}})
    assert found.prefixes() == ("a.b",)
    assert MessageFilter.from_config(None, "x").matches({"topic": "q"})


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "only: it is not a dict; write {'topics'"),
        ({"topcs": "a"}, "only: unknown key 'topcs'; there are topics, users"),
        ({"topics": [1]}, r"only\['topics'\]: \[1\] is neither text nor a list"),
        ({"where": "="}, r"only\['where'\]: '=' is not a condition"),
    ],
)
def test_message_filter_names_the_setting(value: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        MessageFilter.from_config(value, "only")


def test_message_filter_strict_compares_whole_topics() -> None:
    found = MessageFilter(topics=["a.b"], strict=True)
    assert found.matches({"topic": "a.b"})
    assert not found.matches({"topic": "a.b.c"})
    assert found.to_params() == [("topic", "a.b")]
