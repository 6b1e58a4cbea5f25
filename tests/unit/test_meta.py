# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dispatch to processors: who is asked, what comes back, and what happens when one misbehaves."""

from __future__ import annotations

import logging
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmsg.meta
import fedmsg.text
from fedmsg.exceptions import FedmsgError
from fedmsg.meta import base, default
from tests.unit.fresh import python
from tests.unit.plugins import CONFIG, answering, envelope, make, raising

LOGGED = envelope("logger.log", {"log": "hi"}, username="ralph")

#: What is returned for a message of another shape, which makes a processor raise KeyError.
EMPTY: dict[str, Any] = {
    "title": "", "subtitle": "", "long_form": "", "link": "", "icon": "", "secondary_icon": "", "lexer": None,
    "usernames": set(), "packages": set(), "objects": set(), "emails": {}, "avatars": {}, "agent": None,
    "subjective": "",
}  # fmt: skip
FUNCTIONS = [*EMPTY, "repr", "summary"]


@pytest.fixture(autouse=True)
def _own_processors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin with those that are installed, and leave none behind."""
    monkeypatch.setattr(fedmsg.meta, "processors", [])
    fedmsg.meta.make_processors(**CONFIG)
    fedmsg.meta.counts.clear()
    yield
    fedmsg.meta.counts.clear()


def ask(function: str, msg: Any, **arguments: Any) -> Any:
    return getattr(fedmsg.meta, f"msg2{function}")(msg, **arguments, **CONFIG)


def install(*processors: Any) -> None:
    fedmsg.meta.processors[:0] = processors


# ---------------------------------------------------------------- before there are any


LOOKS: list[Callable[[Any], Any]] = [len, list, lambda some: some[0], lambda some: 1 in some]


@pytest.mark.parametrize("look", LOOKS)
def test_the_initial_object_is_false_and_must_not_be_looked_into(look: Callable[[Any], Any]) -> None:
    text = "You must first call fedmsg.meta.make_processors(**config)"
    code = f"import fedmsg.meta; assert not fedmsg.meta.processors; print(fedmsg.meta.processors)\n{text!r}"
    assert python(code) == [text]
    nothing = fedmsg.meta.ProcessorsNotInitialized(text)
    with pytest.raises(fedmsg.meta.ProcessorsNotInitialized, match="You must first call") as caught:
        look(nothing)
    assert caught.value is nothing
    assert isinstance(nothing, FedmsgError)


@pytest.mark.parametrize("function", [*FUNCTIONS, "processor"])
def test_nothing_is_said_before(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any
    for nothing in (fedmsg.meta._NONE_YET, []):
        monkeypatch.setattr(fedmsg.meta, "processors", nothing)
        with pytest.raises(fedmsg.meta.ProcessorsNotInitialized, match="make_processors"):
            ask(function, LOGGED)


def test_make_processors_returns_at_once_when_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [make("mine")]
    monkeypatch.setattr(fedmsg.meta, "processors", mine)
    fedmsg.meta.make_processors(**CONFIG)
    assert fedmsg.meta.processors is mine
    monkeypatch.setattr(fedmsg.meta, "processors", [])
    fedmsg.meta.make_processors(**CONFIG)
    assert [type(one).__name__ for one in fedmsg.meta.processors] == [
        "AnnounceProcessor", "LoggerProcessor", "DefaultProcessor",
    ]  # fmt: skip


def test_it_needs_no_more_configuration_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedmsg.meta, "processors", [])
    fedmsg.meta.make_processors()
    assert fedmsg.meta.msg2title(envelope("x.y")) == "x.y"


PLUGINS = """
import os
from fedmsg.meta.base import BaseProcessor
class Good(BaseProcessor):
    __name__ = "good"; __description__ = __link__ = __docs__ = __obj__ = "x"
    def subtitle(self, msg, **config): return "good"
class Incomplete(BaseProcessor):
    __name__ = "incomplete"
class BadPrefix(Good):
    topic_prefix_re = "("
class Raises(Good):
    def __init__(self, *args, **config): raise SystemExit(3)
not_callable = 5
"""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a distribution with a module of plugins, and entry points for some of them."""

    def install_it(code: str, entries: str) -> None:
        (tmp_path / "plugins_for_a_test.py").write_text(code)
        folder = tmp_path / "plugins_for_a_test-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins-for-a-test\nVersion: 1\n")
        (folder / "entry_points.txt").write_text(f"[fedmsg.meta]\n{entries}")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "plugins_for_a_test", raising=False)
        monkeypatch.setattr(fedmsg.meta, "processors", [])

    return install_it


def test_a_plugin_that_fails_is_named_and_not_loaded(
    distribution: Callable[[str, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    names = ["Good", "Incomplete", "BadPrefix", "Raises", "not_callable", "missing"]
    distribution(PLUGINS, "".join(f"p-{name} = plugins_for_a_test:{name}\n" for name in names))
    fedmsg.meta.make_processors(**CONFIG)
    assert [type(one).__name__ for one in fedmsg.meta.processors] == [
        "AnnounceProcessor", "LoggerProcessor", "Good", "DefaultProcessor",
    ]  # fmt: skip
    assert ask("subtitle", envelope("good.x")) == "good"
    for name in names[1:]:
        assert f"p-{name}" in caplog.text
    assert "crippled" not in caplog.text
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == len(names) - 1


def test_without_plugins_there_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fedmsg.meta, "processors", [])
    fedmsg.meta.make_processors(**CONFIG)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("fedmsg.meta", "No fedmsg.meta plugins found.  fedmsg.meta.msg2* crippled")
    ]


def test_the_warning_goes_through_a_name_that_programs_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(fedmsg.meta, "processors", [])
    monkeypatch.setattr(fedmsg.meta.log, "warn", said.append)
    fedmsg.meta.make_processors(**CONFIG)
    assert said == ["No fedmsg.meta plugins found.  fedmsg.meta.msg2* crippled"]


# ---------------------------------------------------------------- who is asked


@pytest.mark.parametrize(
    ("name", "topic", "handled"),
    [
        ("Shop", "org.fedoraproject.dev.shop.order.placed", True),
        ("shop", "org.fedoraproject.prod.shop", True),
        ("shop", "org.fedoraproject.dev.shopping.order", False),
        ("shop", "org.fedoraproject.other.shop.order", False),
        ("shop", "org.fedoraproject.dev.x.shop.order", False),
        ("shop", "org.fedoraproject.dev.shop\n", True),
        ("shop", "org.fedoraproject.dev.shop.a\nb", False),
        ("shop.order", "org.fedoraproject.dev.shop.order.placed", True),
        ("shop.order", "org.fedoraproject.dev.shopxorder.placed", True),
        ("shop.order", "org.fedoraproject.dev.shop.placed", False),
        ("shop|cart", "org.fedoraproject.dev.cart.placed", True),
    ],
)
def test_which_topics_are_a_processors_own(name: str, topic: str, handled: bool) -> None:
    plugin = make(name)
    install(plugin)
    assert (ask("processor", {"topic": topic, "msg": {}}) is plugin) is handled
    assert (plugin.handle_msg({"topic": topic}) is not None) is handled


def test_the_first_in_order_wins() -> None:
    first, second = make("shop"), make("shop")
    install(first, second)
    assert ask("processor", envelope("shop.x")) is first
    fedmsg.meta.processors[:2] = [second, first]
    assert ask("processor", envelope("shop.x")) is second
    fedmsg.meta.processors.pop(0)
    assert ask("processor", envelope("shop.x")) is first


def test_a_prefix_of_its_own() -> None:
    plugin = make("shop", topic_prefix_re=r"com\.example\.(live|test)")
    install(plugin)
    assert ask("processor", {"topic": "com.example.live.shop.order", "msg": {}}) is plugin
    assert ask("processor", envelope("shop.order")) is fedmsg.meta.processors[-1]


def test_the_prefix_of_the_configuration_may_lack() -> None:
    assert make("shop", {}).topic_prefix_re == r"org\.fedoraproject\.[^\W\d_]+"
    assert make("shop", {"topic_prefix": "a.b", "topic_prefix_re": None}).topic_prefix_re == r"a\.b\.[^\W\d_]+"


PREFIXES = [
    r"^o\.(dev|stg)",
    r"o\.[^\W\d_]+",
    r"o\.\w+",
    "o.dev",
    r"o|o\.dev",
    r"(o\.dev)?",
    r".*",
    r"o\.dev(?=\.a)",
    r"o\.[^.]+",
]
NAMES = ["a", "b", "A", "a.b", "a|b", "a-b", "ä", "a+", "(a)", "[ab]", ".*", "b.c"]


@given(
    st.lists(st.tuples(st.sampled_from(PREFIXES), st.sampled_from(NAMES)), min_size=1, max_size=12),
    st.lists(
        st.sampled_from(["o", "dev", "stg", "a", "b", "c", "a-b", "ä", "aa", "axb", "", "a\n", "\n"]), max_size=6
    ).map(".".join),
    st.sampled_from(["none", "odd", "even"]),
)
def test_the_index_answers_as_if_each_were_asked(plugins: list[tuple[str, str]], topic: str, own_way: str) -> None:
    made = [
        make(name, topic_prefix_re=prefix)
        if own_way == "none" or number % 2 == (own_way == "odd")
        else make(
            name, topic_prefix_re=prefix, handle_msg=lambda self, msg, **config: "" if "b" in msg["topic"] else None
        )
        for number, (prefix, name) in enumerate(plugins)
    ]
    msg = {"topic": topic, "msg": {}}
    expected = next((one for one in made if one.handle_msg(msg) is not None), fedmsg.meta.processors[-1])
    fedmsg.meta.processors = [*made, fedmsg.meta.processors[-1]]
    assert fedmsg.meta.msg2processor(msg) is expected


def test_only_those_in_question_are_asked() -> None:
    plugins = [make(f"name{number}") for number in range(60)]
    fedmsg.meta.processors = [*plugins, fedmsg.meta.processors[-1]]
    random.shuffle(plugins)
    for plugin in plugins:
        assert ask("processor", envelope(f"{plugin.__name__}.x")) is plugin
    assert fedmsg.meta._found._always == [60]


@pytest.mark.parametrize("msg", [{}, {"topic": None}, {"topic": 5}, {"topic": ["x"]}, None, [], "text", 5])
@pytest.mark.parametrize("function", [*FUNCTIONS, "processor"])
def test_what_has_no_topic_is_the_business_of_the_default(function: str, msg: Any) -> None:
    answer = ask(function, msg)
    if function == "processor":
        assert isinstance(answer, default.DefaultProcessor)
    elif function in EMPTY:
        assert not answer


def test_a_processor_that_is_known_is_not_looked_for() -> None:
    plugin = make("shop", subtitle=answering("bought"), agent=answering("ann"))
    for function, answer in (("subtitle", "bought"), ("agent", "ann"), ("repr", "x -- bought "), ("summary", "bought")):
        assert ask(function, envelope("x"), processor=plugin) == answer


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize("function", EMPTY)
def test_what_nobody_knows(function: str) -> None:
    answers = {**EMPTY, "title": "unknown.thing", "icon": None, "secondary_icon": None}
    assert ask(function, envelope("unknown.thing", {"a": 1})) == answers[function]
    assert ask("repr", envelope("unknown.thing")) == "unknown.thing --  "


@pytest.mark.parametrize(
    ("topic", "title"), [("a.b.c.d.e", "d.e"), ("a.b.c", ""), ("", ""), ("/topic/a.b.c.d", "/topic/a.b.c.d")]
)
def test_the_title_is_the_rest_of_the_topic(topic: str, title: str) -> None:
    assert ask("title", {"topic": topic, "msg": {}}) == title


ANSWERS: list[tuple[str, Any]] = [
    ("title", "text"), ("subtitle", "text"), ("long_form", "text"), ("link", "text"), ("link", None), ("icon", "text"),
    ("icon", None), ("secondary_icon", None), ("usernames", {"a"}), ("packages", {"a"}), ("objects", {"a"}),
    ("emails", {"a": "b"}), ("avatars", {"a": "b"}), ("agent", "a"), ("agent", None), ("lexer", object()),
    ("subjective", "text"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "answer"), ANSWERS)
def test_a_processor_says_it(function: str, answer: Any) -> None:
    install(make("shop", **{function: answering(answer)}))
    assert ask(function, envelope("shop.x")) == answer
    assert not fedmsg.meta.counts


TEXTS = ["title", "subtitle", "long_form", "subjective", "link", "icon", "secondary_icon", "agent", "lexer"]
SETS = ["usernames", "packages", "objects", "emails", "avatars"]


def test_processor_may_leave_out_everything() -> None:
    install(make("shop", **{function: answering(None) for function in TEXTS + SETS}))
    message = envelope("shop.x", {"order": 5})
    assert [ask(function, message) for function in TEXTS] == [None] * len(TEXTS)
    assert [ask(function, message) for function in SETS] == [EMPTY[function] for function in SETS]
    assert ask("repr", message) == "shop.x --  "
    assert ask("summary", message) == "shop x: order=5"
    assert fedmsg.meta.parts(message, CONFIG) == ("shop.x", "shop x: order=5", "")
    assert fedmsg.meta.conglomerate([message], **CONFIG)[0]["subtitle"] is None
    assert not fedmsg.meta.counts


@pytest.mark.parametrize("nothing", ["", None])
def test_the_long_form_and_the_subjective_fall_back_to_the_subtitle(nothing: Any) -> None:
    install(make("shop", subtitle=answering("sub"), long_form=answering(nothing), subjective=answering(nothing)))
    assert ask("long_form", envelope("shop.x")) == "sub"
    assert ask("subjective", envelope("shop.x"), subject="ann") == "sub"


def test_the_subject_is_handed_over() -> None:
    install(make("shop", subjective=lambda self, msg, subject, **config: f"you, {subject}"))
    assert ask("subjective", envelope("shop.x"), subject="ann") == "you, ann"
    assert fedmsg.meta.msg2subjective(envelope("shop.x"), "bob", **CONFIG) == "you, bob"


def test_the_agent_is_one_of_the_usernames() -> None:
    install(make("shop", usernames=answering({"bob", "ann"})), make("cart", usernames=answering(set())))
    assert ask("agent", envelope("shop.x")) == "ann"
    assert ask("agent", envelope("cart.x")) is None
    assert ask("agent", envelope("shop.x"), legacy=False) == "ann"
    assert ask("usernames", envelope("shop.x"), legacy=True) == {"ann", "bob"}


def test_the_configuration_is_handed_over() -> None:
    install(make("shop", subtitle=lambda self, msg, **config: config["topic_prefix"]))
    assert ask("repr", envelope("shop.x")) == "shop.x -- org.fedoraproject "


# ---------------------------------------------------------------- when one misbehaves

ERRORS = [KeyError("x"), ValueError("\x1b" * 5000), RecursionError(), MemoryError(), SystemExit(1), TypeError()]
NONSENSE: list[Any] = [5, 1.5, True, b"bytes", ["list"], ("tuple",), object(), NotImplemented]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("function", EMPTY)
def test_one_that_raises_is_named_and_counted(
    function: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    install(make("shop", **{function: raising(error)}))
    assert ask(function, envelope("shop.x")) == EMPTY[function]
    assert sum(fedmsg.meta.counts.values()) == 1
    ((name, problem),) = fedmsg.meta.counts
    assert name.startswith("shop (")
    assert problem == "raised"
    message = caplog.messages[-1]
    assert "The processor shop (" in message
    assert type(error).__name__ in message
    assert "plugins.py:" in message
    assert len(message) < 600
    assert message.isprintable()


@pytest.mark.parametrize("part", ["title", "subtitle", "link"])
def test_a_line_is_whole_or_empty(part: str) -> None:
    install(make("shop", **{part: raising(KeyError("x"))}))
    assert ask("repr", envelope("shop.x")) == ""


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("function", [function for function in EMPTY if function != "lexer"])
def test_nonsense_is_counted_and_the_default_takes_over(function: str, nonsense: Any) -> None:
    install(make("shop", **{function: answering(nonsense)}))
    by_default = {**EMPTY, "title": "shop.x", "icon": None, "secondary_icon": None}
    assert ask(function, envelope("shop.x")) == by_default[function]
    assert [problem for _, problem in fedmsg.meta.counts] == ["nonsense"]


def test_the_same_failure_is_not_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    install(make("shop-of-many-failures", subtitle=raising(KeyError("x"))))
    for _ in range(100):
        ask("subtitle", envelope("shop-of-many-failures.x"))
    assert list(fedmsg.meta.counts.values()) == [100]
    assert len([message for message in caplog.messages if "many-failures" in message]) == 1


def test_one_that_takes_over_a_second_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moments = iter([0.0, 1.5, 10.0, 10.9])
    monkeypatch.setattr("fedmsg.meta._guard._now", lambda: next(moments))
    plugin = make("slow-shop", subtitle=answering("at last"))
    assert ask("subtitle", envelope("slow-shop.x"), processor=plugin) == "at last"
    assert ask("title", envelope("slow-shop.x"), processor=plugin) == "slow-shop.x"
    assert [problem for _, problem in fedmsg.meta.counts] == ["slow"]
    assert "slow-shop" in caplog.messages[-1]
    assert "1.5 seconds" in caplog.messages[-1]


def test_one_that_fails_to_decide_is_passed_over() -> None:
    install(make("broken", handle_msg=raising(OSError("x"))), make("shop"))
    assert ask("processor", envelope("shop.x")).__name__ == "shop"
    assert ask("processor", envelope("broken.x")).__name__ == "unhandled"
    assert list(fedmsg.meta.counts.values()) == [2]


def test_ctrl_c_is_no_failure_of_a_processor() -> None:
    install(make("shop", subtitle=raising(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        ask("subtitle", envelope("shop.x"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
ODD = st.fixed_dictionaries(
    {"topic": st.sampled_from(["logger.log", "announce.x", "x.y", ""]).map("org.fedoraproject.dev.".__add__) | JSON},
    optional={
        "msg": JSON
        | st.fixed_dictionaries({}, optional=dict.fromkeys(("log", "message", "link", "user", "agent"), JSON)),
        "username": JSON,
        "timestamp": JSON,
        "msg_id": JSON,
    },
)


@given(ODD, st.none() | st.text())
def test_no_message_breaks_a_caller(msg: dict[str, Any], subject: str | None) -> None:
    kinds: dict[str, Any] = {"usernames": set, "packages": set, "objects": set, "emails": dict, "avatars": dict}
    for function in FUNCTIONS:
        answer = ask(function, msg, subject=subject) if function == "subjective" else ask(function, msg)
        assert isinstance(answer, kinds.get(function, (str, type(None))))
    summary = ask("summary", msg)
    assert summary
    assert summary.isprintable() or not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in summary)
    fedmsg.meta.conglomerate([msg], subject, lexers=True, **CONFIG)


def test_huge_values_end_in_a_short_line() -> None:
    huge = "x\x1b" * 2_000_000
    deep: Any = {}
    for _ in range(10_000):
        deep = {"k": deep}
    began = time.process_time()
    for body in (
        huge,
        {"log": [huge] * 3, huge: huge},
        [{huge: huge}],
        deep,
        {"a": [deep]},
        {str(n): n for n in range(10**5)},
    ):
        line = ask("summary", {"topic": f"a.b.c.{huge}", "msg": body, "username": huge})
        assert "\x1b" not in line
        assert len(line) < 2_000
    assert time.process_time() - began < 20


# ---------------------------------------------------------------- the rest of the old names


@pytest.mark.parametrize("decorator", [fedmsg.meta.graceful, fedmsg.meta.legacy_condition])
def test_graceful_catches_key_error_alone(decorator: Any) -> None:
    @decorator(set)  # type: ignore[untyped-decorator] # both are Any here
    def named(msg: Any, **config: Any) -> Any:
        return msg["x"] if config["works"] else 1 // 0

    assert named({"x": 5}, works=True) == 5
    assert named({}, works=True) == set()
    with pytest.raises(ZeroDivisionError):
        named({}, works=False)


def test_with_processor() -> None:
    @fedmsg.meta.with_processor()
    def called(msg: Any, processor: Any = None, **config: Any) -> Any:
        return processor, sorted(config)

    assert called(LOGGED, **CONFIG) == (ask("processor", LOGGED), ["topic_prefix", "topic_prefix_re"])
    assert called(LOGGED, processor=3) == (3, [])


def test_the_other_name() -> None:
    assert fedmsg.text is fedmsg.meta
    code = (
        "import fedmsg.text.base, fedmsg.text.logger, fedmsg.meta, fedmsg.text; from fedmsg.text import base\n"
        "print(fedmsg.text is fedmsg.meta, base is fedmsg.meta.base, fedmsg.text.base is base)"
    )
    assert python(code) == ["True True True"]
    assert base.BaseProcessor is sys.modules["fedmsg.text.base"].BaseProcessor


def catalogue(texts: dict[str, str]) -> bytes:
    """Write a compiled catalogue, as msgfmt does."""
    keys = sorted(texts)
    ids, strings = [key.encode() + b"\0" for key in keys], [texts[key].encode() + b"\0" for key in keys]
    start = 28 + 16 * len(keys)
    table, place = b"", start
    for part in (ids, strings):
        for text in part:
            table += struct.pack("<2I", len(text) - 1, place)
            place += len(text)
    head = struct.pack("<7I", 0x950412DE, 0, len(keys), 28, 28 + 8 * len(keys), 0, 0)
    return head + table + b"".join(ids + strings)


@pytest.mark.parametrize("broken", [False, True])
def test_texts_are_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    folder = tmp_path / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    texts = {"": "Content-Type: text/plain; charset=UTF-8\n", "<custom JSON message>": "<eigenes JSON — schön>"}
    (folder / "fedmsg.mo").write_bytes(b"\0" if broken else catalogue(texts))
    monkeypatch.setenv("TEXTDOMAINDIR", str(tmp_path))
    monkeypatch.setenv("LANGUAGE", "de")
    translate = fedmsg.meta._translator()
    monkeypatch.setattr(fedmsg.meta, "_", translate)
    monkeypatch.setattr(fedmsg.meta, "processors", [])
    fedmsg.meta.make_processors(**CONFIG)
    said = ask("subtitle", envelope("logger.log", {"a": 1}, username="ralph"))
    assert said == ("<custom JSON message> (ralph)" if broken else "<eigenes JSON — schön> (ralph)")
    assert fedmsg.meta.processors[0]._ == translate
