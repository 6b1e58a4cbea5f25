# SPDX-License-Identifier: LGPL-2.1-or-later
"""conf, the dict of applications: when it loads, from where, and how it refuses."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedmsg.config
from fedmsg.config import FedmsgConfig, settings
from fedmsg.exceptions import ConfigError
from tests.unit.configs import give_away, write


def test_conf_is_one_of_them_and_a_dict() -> None:
    assert type(fedmsg.config.conf) is FedmsgConfig
    assert isinstance(fedmsg.config.conf, dict)


TRIGGERS: dict[str, Callable[[FedmsgConfig], Any]] = {
    "[]": lambda conf: conf["timeout"],
    "get": lambda conf: conf.get("timeout"),
    "get with a default": lambda conf: conf.get("timeout", 99),
    "copy": lambda conf: conf.copy()["timeout"],
}


@pytest.mark.parametrize("ask", TRIGGERS.values(), ids=TRIGGERS)
def test_it_loads_when_it_is_asked(ask: Callable[[FedmsgConfig], Any]) -> None:
    conf = FedmsgConfig()
    assert conf == {}
    assert ask(conf) == 2
    assert conf == settings.conf_defaults()
    assert list(conf) == list(settings.conf_defaults())


# As at 1.1.7: these see the dict as it is.
@pytest.mark.parametrize(
    "look",
    [
        lambda conf: "timeout" in conf,
        list,
        lambda conf: list(conf.keys()),
        lambda conf: list(conf.items()),
        len,
        lambda conf: dict(**conf),
        lambda conf: json.loads(json.dumps(conf)),
    ],
)
def test_looking_at_it_as_a_dict_does_not_load(look: Callable[[FedmsgConfig], Any]) -> None:
    conf = FedmsgConfig()
    assert not look(conf)
    assert conf == {}


def test_what_was_set_before_is_kept() -> None:
    conf = FedmsgConfig(mine=1)
    conf["more"] = 2
    assert (conf.get("mine"), conf["more"], conf["timeout"]) == (1, 2, 2)


def test_a_missing_key_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        FedmsgConfig()["nonsense"]
    assert FedmsgConfig().get("nonsense") is None
    assert FedmsgConfig().get("nonsense", 5) == 5


def test_a_copy_is_a_plain_dict() -> None:
    conf = FedmsgConfig()
    copied = conf.copy()
    assert type(copied) is dict
    assert copied == conf
    copied["timeout"] = 99
    assert conf["timeout"] == 2


def test_it_survives_copying_and_pickling() -> None:
    conf = FedmsgConfig()
    conf["mine"] = 1
    for twin in (copy.copy(conf), copy.deepcopy(conf), pickle.loads(pickle.dumps(conf))):
        assert (twin["mine"], twin["timeout"]) == (1, 2)


def test_its_values_are_its_own() -> None:
    FedmsgConfig()["endpoints"]["damage"] = 1
    assert FedmsgConfig()["endpoints"] == {"relay_outbound": ["tcp://127.0.0.1:4001"]}


def test_it_loads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMSG_CONFIG", write("my.py", {"timeout": 7}))
    conf = FedmsgConfig()
    assert conf["timeout"] == 7
    write("my.py", {"timeout": 8})
    assert conf["timeout"] == 7
    conf.load_config()
    assert conf["timeout"] == 8


def test_it_loads_once_whoever_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "with open('runs', 'a') as runs:\n print('x', file=runs)\nconfig = {'timeout': 7}"
    monkeypatch.setenv("FEDMSG_CONFIG", write("my.py", text))
    conf = FedmsgConfig()
    start = threading.Barrier(8)
    found = []

    def ask() -> None:
        start.wait()
        found.append(conf["timeout"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8
    assert Path("runs").read_text(encoding="utf-8") == "x\n"


# ---------------------------------------------------------------- by hand


def test_settings_by_hand_replace_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMSG_CONFIG", write("my.py", {"timeout": 7, "x": 1}))
    conf = FedmsgConfig()
    conf.load_config(settings={"io_threads": "4", "y": 1, "endpoints": {"a": "b"}})
    assert (conf["timeout"], conf["io_threads"], conf["y"]) == (2, 4, 1)
    assert "x" not in conf
    # A key is replaced whole, and what is no business of conf's stays as it was given.
    assert conf["endpoints"] == {"a": "b"}


def test_loading_again_resets_known_keys_and_keeps_the_others() -> None:
    conf = FedmsgConfig()
    conf.load_config(settings={"q": 1, "timeout": 9})
    conf.load_config(settings={"r": 2})
    assert (conf["q"], conf["r"], conf["timeout"]) == (1, 2, 2)


def test_all_bad_values_are_told_in_the_words_of_the_peer() -> None:
    conf = FedmsgConfig()
    settings = {"timeout": "x", "active": "no", "topic_prefix": 3, "zz": 1, "post_init_sleep": -1.0}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole text is compared
        conf.load_config(settings=settings)
    assert str(caught.value) == (
        "Invalid configuration values were set: "
        '\n\ttopic_prefix: "3" is not "<class \'str\'>"'
        "\n\tpost_init_sleep: Floating point number must be greater than or equal to zero"
        "\n\ttimeout: invalid literal for int() with base 10: 'x'"
        '\n\tactive: "no" must be a boolean ("True" or "False")'
    )
    assert isinstance(caught.value, ConfigError)
    assert conf == {}
    assert conf["timeout"] == 2


def test_bad_values_of_a_file_are_told_at_each_access(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMSG_CONFIG", write("my.py", {"timeout": "x"}))
    conf = FedmsgConfig()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^Invalid configuration values were set: \n\ttimeout: "):
            conf.get("timeout")


# ---------------------------------------------------------------- files


def test_no_files_are_told_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedmsg.config")
    assert FedmsgConfig()["topic_prefix"] == "com.example"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "No configuration files found in /etc/fedmsg.d")
    ]


def test_an_empty_folder_is_told_at_info(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "fedmsg.config")
    os.mkdir("empty.d")
    monkeypatch.setenv("FEDMSG_CONFIG", "empty.d")
    assert FedmsgConfig()["timeout"] == 2
    assert caplog.messages == [f"No configuration files found in {os.path.abspath('empty.d')}"]


def test_a_place_that_is_not_there_is_no_error_but_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "fedmsg.config")
    monkeypatch.setenv("FEDMSG_CONFIG", "/nowhere")
    assert FedmsgConfig()["timeout"] == 2
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "FEDMSG_CONFIG: nothing is at /nowhere"),
        ("INFO", "No configuration files found in /nowhere"),
    ]


def test_files_of_its_folder_replace_keys_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    write("some.d/a.py", {"a": {"x": 1}, "timeout": 5, "logging": {"version": 1}, "endpoints": {"q": "r"}})
    write("some.d/b.yaml", "a: {y: 2}\nlogging: {handlers: {}}\n")
    write("some.d/c.txt", "ignored")
    monkeypatch.setenv("FEDMSG_CONFIG", "some.d")
    conf = FedmsgConfig()
    assert (conf["a"], conf["timeout"], conf["endpoints"]) == ({"y": 2}, 5, {"q": "r"})
    assert conf["logging"] == {"handlers": {}}


def test_only_the_named_place_and_etc_are_read() -> None:
    write("fedmsg.d/a.py", {"timeout": 7})
    write("fedmsg-config.py", {"timeout": 7})
    write(f"{os.environ['HOME']}/.fedmsg.d/a.py", {"timeout": 7})
    assert FedmsgConfig()["timeout"] == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("config = {\n\n 'a': }", ":3: it is not valid Python"),
        ("x = 1", ":1: it does not define config"),
        ("\nconfig = 3", ":2: config is not a dict but 3"),
        ("\n1 / 0", ":2: it fails with ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_file_is_a_config_error(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.path.abspath(write("my.py", text))
    monkeypatch.setenv("FEDMSG_CONFIG", path)
    with pytest.raises(ConfigError) as caught:
        FedmsgConfig().get("timeout")
    assert str(caught.value).startswith(path + reason)


def test_the_rule_of_ownership_holds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    write("some.d/a.py", {"timeout": 7})
    monkeypatch.setenv("FEDMSG_CONFIG", "some.d")
    give_away("some.d", monkeypatch)
    conf = FedmsgConfig()
    with pytest.raises(ConfigError, match="may not configure"):
        conf.get("timeout")
    monkeypatch.setenv("FEDMSG_ALLOW_INSECURE_CONFIG", "1")
    assert conf["timeout"] == 7


def test_a_misspelt_key_is_warned_about(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMSG_CONFIG", write("my.py", {"enviroment": "prod"}))
    assert FedmsgConfig()["enviroment"] == "prod"
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "nothing reads the key 'enviroment'; did you mean 'environment'?"
    ]


@pytest.mark.parametrize(("key", "value"), [("irc", {"sasl_password": "geheim"}), ("stomp_pass", ["geheim"])])
def test_no_secret_is_shown_in_an_error(key: str, value: object) -> None:
    for read in (lambda: FedmsgConfig().load_config({key: value}), lambda: settings.accept({key: value})):
        with pytest.raises(ValueError, match=key) as caught:
            read()
        assert "geheim" not in str(caught.value)
