# SPDX-License-Identifier: LGPL-2.1-or-later
"""Socket options, who calls, classes by name, queries, and the cow."""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg import utils
from fedmsg.exceptions import UsageError
from tests.unit.fresh import python

# ------------------------------------------------------------------ socket options


@pytest.fixture
def socket() -> Iterator[zmq.Socket[bytes]]:
    """A socket that is bound to nothing."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        yield socket


def options(socket: zmq.Socket[bytes], *names: str) -> list[int]:
    """What the socket has for these options."""
    return [int(socket.getsockopt(zmq.SocketOption[name])) for name in names]


@pytest.mark.parametrize(
    ("config", "both"),
    [
        ({}, 1000),
        ({"high_water_mark": None}, 1000),
        ({"high_water_mark": 0}, 0),
        ({"high_water_mark": 7, "zmq_reconnect_ivl": 9}, 7),
    ],
)
def test_set_high_water_mark(socket: zmq.Socket[bytes], config: dict[str, Any], both: int) -> None:
    utils.set_high_water_mark(socket, config)
    assert options(socket, "SNDHWM", "RCVHWM", "RECONNECT_IVL") == [both, both, 100]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [-1, -1, -1, -1]),
        ({"zmq_tcp_keepalive": None}, [-1, -1, -1, -1]),
        ({"zmq_tcp_keepalive": 0}, [0, -1, -1, -1]),
        ({"zmq_tcp_keepalive_cnt": 3}, [-1, 3, -1, -1]),
        ({"zmq_tcp_keepalive_idle": 60}, [-1, -1, 60, -1]),
        ({"zmq_tcp_keepalive_intvl": 5}, [-1, -1, -1, 5]),
        (
            {
                "zmq_tcp_keepalive": 1,
                "zmq_tcp_keepalive_cnt": 3,
                "zmq_tcp_keepalive_idle": 60,
                "zmq_tcp_keepalive_intvl": 5,
                "high_water_mark": 2,
            },
            [1, 3, 60, 5],
        ),
    ],
)
def test_set_tcp_keepalive(socket: zmq.Socket[bytes], config: dict[str, Any], expected: list[int]) -> None:
    utils.set_tcp_keepalive(socket, config)
    names = ["TCP_KEEPALIVE", "TCP_KEEPALIVE_CNT", "TCP_KEEPALIVE_IDLE", "TCP_KEEPALIVE_INTVL"]
    assert options(socket, *names, "SNDHWM") == [*expected, 1000]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [100, 0]),
        ({"zmq_reconnect_ivl": None, "zmq_reconnect_ivl_max": None}, [100, 0]),
        ({"zmq_reconnect_ivl": 7}, [7, 0]),
        ({"zmq_reconnect_ivl_max": 900}, [100, 900]),
        ({"zmq_reconnect_ivl": -1, "zmq_reconnect_ivl_max": 0}, [-1, 0]),
    ],
)
def test_set_tcp_reconnect(socket: zmq.Socket[bytes], config: dict[str, Any], expected: list[int]) -> None:
    utils.set_tcp_reconnect(socket, config)
    assert options(socket, "RECONNECT_IVL", "RECONNECT_IVL_MAX") == expected


# ------------------------------------------------------------------ who calls


class Unread(dict[str, Any]):
    """The names of a module that nobody may look at."""

    def get(self, *_args: object) -> Any:
        raise AssertionError("looked further up the stack than needed")


def through(*modules: object, caller: dict[str, Any] | None = None) -> Callable[..., Any]:
    """A function of the last of these modules, called through all the others, that asks who calls.

    Args:
        *modules: What each module has for ``__name__``; ``...`` for none.
        caller: The names of one more module, which calls the first.
    """
    call: Callable[..., Any] = utils.guess_calling_module
    spaces: list[dict[str, Any]] = [{} if name is ... else {"__name__": name} for name in reversed(modules)]
    for space in [*spaces, caller] if caller is not None else spaces:
        space["inner"] = call
        exec("def call(*args, **kwargs): return inner(*args, **kwargs)", space)
        call = space["call"]
    return call


@pytest.mark.parametrize(
    ("modules", "name"),
    [
        (["bodhi"], "bodhi"),
        (["bodhi.server.services"], "bodhi"),
        (["bodhi", "fedmsg"], "bodhi"),
        (["bodhi.web", "fedmsg", "fedmsg.core"], "bodhi"),
        (["bodhi", "koji", "fedmsg.core"], "koji"),
        (["bodhi", "fedmsg", "koji"], "koji"),
        (["fedmsg_meta_fedora"], "fedmsg_meta_fedora"),
        (["fedmsgx.y", "fedmsg.core"], "fedmsgx"),
        (["fedmsg_meta_fedora.x", "fedmsg"], "fedmsg_meta_fedora"),
        (["xfedmsg"], "xfedmsg"),
        (["__main__", "fedmsg.core"], "__main__"),
        (["bodhi", ...], "bodhi"),
        (["bodhi", None, 5, b"bytes"], "bodhi"),
        (["bodhi", "", ".relative"], "bodhi"),
    ],
)
def test_guess_calling_module(modules: list[Any], name: str) -> None:
    assert through(*modules)() == name
    assert through(*modules)("default") == name


def test_guess_looks_no_further_than_needed() -> None:
    assert through("bodhi", "fedmsg.core", caller=Unread(__name__="outer"))() == "bodhi"
    with pytest.raises(AssertionError, match="further up"):
        through("fedmsg", "fedmsg.core", caller=Unread(__name__="outer"))()


def test_guess_from_this_file() -> None:
    assert utils.guess_calling_module() == __name__.partition(".")[0]


def test_guess_when_nobody_else_is_there() -> None:
    code = """
from fedmsg import utils
__name__ = "fedmsg.inner"
print(utils.guess_calling_module(), utils.guess_calling_module("a"), utils.guess_calling_module(default="b"))
"""
    assert python(code) == ["None a b"]


# ------------------------------------------------------------------ classes by name


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("json:JSONEncoder", json.JSONEncoder),
        ("json.encoder:JSONEncoder", json.JSONEncoder),
        (" json:dumps\n", json.dumps),
        ("os.path:join", os.path.join),
    ],
)
def test_load_class(location: str, found: object) -> None:
    assert utils.load_class(location) is found


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("json:Nope", "'Nope' not found in 'json'"),
        ("json:", "'' not found in 'json'"),
        ("json:JSONEncoder.encode", "'JSONEncoder.encode' not found in 'json'"),
        ("no_such_module:Thing", "No module named 'no_such_module'"),
        ("json.no_such:Thing", "No module named 'json.no_such'"),
        ("no_such.module:Thing", "No module named 'no_such'"),
    ],
)
def test_load_class_missing(location: str, text: str) -> None:
    with pytest.raises(ImportError, match=text.replace(".", r"\.")):
        utils.load_class(location)


@pytest.mark.parametrize("location", ["json", "", ":", ":Thing", "a:b:c", ".relative:Thing", "json.JSONEncoder"])
def test_load_class_without_its_form(location: str) -> None:
    with pytest.raises(UsageError, match=r"write package\.module:Class") as caught:
        utils.load_class(location)
    assert repr(location) in str(caught.value)


def test_load_class_leaves_the_errors_of_a_module_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_that_fails.py").write_text("None.attribute")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'attribute'"):
        utils.load_class("module_that_fails:Thing")


# ------------------------------------------------------------------ queries

NESTED = {
    "a": {"b": {"c": 1}, "l": [{"x": 1}], "e": {}},
    "n": 5, "s": "text", "none": None, "false": False, "x.y": 7, "": 3, "1": {"2": 0}, 2: "int", "a ": {" b": 4},
}  # fmt: skip


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("a.b.c", [("a.b.c", 1)]),
        ("a.b.c,n", [("a.b.c", 1), ("n", 5)]),
        (" a.b.c ,\tn\n", [("a.b.c", 1), ("n", 5)]),
        ("n,a.b", [("n", 5), ("a.b", {"c": 1})]),
        ("n,n", [("n", 5)]),
        ("none,false,a.e", [("none", None), ("false", False), ("a.e", {})]),
        ("nope,a.nope,a.nope.x", [("nope", None), ("a.nope", None), ("a.nope.x", None)]),
        ("n.x,s.x,none.x,a.b.c.d", [("n.x", None), ("s.x", None), ("none.x", None), ("a.b.c.d", None)]),
        ("a.l,a.l.0", [("a.l", [{"x": 1}]), ("a.l.0", None)]),
        ("x.y,1.2,2", [("x.y", None), ("1.2", 0), ("2", None)]),
        ("", [("", 3)]),
        ("n,,", [("n", 5), ("", 3)]),
        (".,a..b", [(".", None), ("a..b", None)]),
        ("a . b", [("a . b", 4)]),
    ],
)
def test_dict_query(query: str, result: list[tuple[str, Any]]) -> None:
    assert utils.dict_query(NESTED, query) == OrderedDict(result)  # type: ignore[arg-type]  # a key of NESTED is 2


def test_dict_query_of_what_is_no_dict() -> None:
    assert utils.dict_query(["a"], "a.b") == {"a.b": None}  # type: ignore[arg-type]


@pytest.mark.parametrize("query", [None, 5, b"a", ["a"]])
def test_dict_query_wants_text(query: Any) -> None:
    with pytest.raises(UsageError, match=f"query must be a string, not {type(query)}"):
        utils.dict_query({}, query)


# ------------------------------------------------------------------ the cow


@pytest.fixture
def cow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program ``cowsay``, the only one on the path, that shows what it was given."""
    program = tmp_path / "bin" / "cowsay"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "sys.stdout.write(f'{sys.argv[1:]} {sys.stdin.buffer.read()!r}')\nsys.stderr.write('moo')\nsys.exit(3)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


@pytest.mark.usefixtures("cow")
@pytest.mark.parametrize(
    "message",
    [
        "hello",
        "",
        "two\nlines",
        "$HOME `id` $(id) ; exit 0 | cat \"'",
        "-f /tmp/evil.cow",
        "--",
        "é\u2028",
        "x" * 300_000,
    ],
)
def test_the_cow_says_what_it_is_told(message: str) -> None:
    output, error = utils.cowsay_output(message)
    assert output.decode() == f"[] {message.encode()!r}"
    assert error == b"moo"


@pytest.mark.usefixtures("cow")
@pytest.mark.parametrize(("message", "said"), [("\ud800", b"\\ud800"), ("a\0b", b"a\0b"), (None, b"None"), (5, b"5")])
def test_the_cow_says_odd_things(message: Any, said: bytes) -> None:
    assert utils.cowsay_output(message)[0].decode() == f"[] {said!r}"


def test_without_a_cow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert utils.cowsay_output("hello") == (b"", b"cowsay: No such file or directory\n")


def test_importing_utils_and_encoding_is_cheap() -> None:
    # Without the roof of the package, which imports more.
    code = f"""
import sys, types
sys.modules["fedmsg"] = roof = types.ModuleType("fedmsg")
roof.__path__ = [{str(Path(utils.__file__).parent)!r}]
import fedmsg.encoding, fedmsg.utils
dear = "zmq subprocess datetime inspect orjson sqlalchemy six kitchen logging.config importlib.metadata"
print([name for name in dear.split() if name in sys.modules])
"""
    assert python(code) == ["[]"]
