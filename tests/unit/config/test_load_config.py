# SPDX-License-Identifier: LGPL-2.1-or-later
"""load_config: the layers and their order, what is merged, what is refused, what is remembered."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmsg.config
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError
from tests.unit.configs import folder_open_to_all, forget, give_away, load, write


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    forget()


# ---------------------------------------------------------------- layers


def test_without_files_the_defaults_apply() -> None:
    config = load()
    assert config == {**settings.defaults(), "topic_prefix_re": r"org\.fedoraproject\.[^\W\d_]+"}
    assert type(config) is dict


def test_without_files_it_says_where_it_looked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedmsg.config")
    load()
    assert [(record.name, record.levelname) for record in caplog.records] == [("fedmsg.config", "INFO")]
    home, here = os.environ["HOME"], Path.cwd()
    assert caplog.messages == [
        "No configuration files found in "
        + ", ".join(
            [
                "/etc/fedmsg.d",
                f"{home}/.fedmsg.d",
                f"{here}/fedmsg.d",
                *(f"/etc/fedmsg-config{end}" for end in (".py", ".yaml", ".yml")),
                *(f"{home}/.fedmsg-config{end}" for end in (".py", ".yaml", ".yml")),
                *(f"{here}/fedmsg-config{end}" for end in (".py", ".yaml", ".yml")),
            ]
        )
    ]


def test_later_layers_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each layer sets its own key and those of all layers below it."""
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    home = os.environ["HOME"]
    layers = [
        f"{home}/.fedmsg.d/b.py",
        "fedmsg.d/a.py",
        "fedmsg.d/b.py",
        f"{tmp_path}/etc/fedmsg.d/a.py",
        f"{home}/.fedmsg-config.py",
        "fedmsg-config.py",
    ]
    for number, path in enumerate(layers):
        write(path, {f"key{at}": number for at in range(number + 1)})
    config = load(flags={"key0": "flag"})
    assert config["key0"] == "flag"
    assert [config[f"key{number}"] for number in range(1, 6)] == [5, 5, 5, 5, 5]
    for number in range(5, 0, -1):
        os.unlink(layers[number])
        assert load(invalidate_cache=True)["key0"] == number - 1


def test_files_of_a_folder_go_by_name_whatever_their_kind() -> None:
    write("fedmsg.d/a.py", {"a": "a.py", "b": "a.py", "c": "a.py"})
    write("fedmsg.d/a.yaml", "b: a.yaml\nc: a.yaml\n")
    write("fedmsg.d/b.yml", "c: b.yml\n")
    config = load()
    assert [config[key] for key in "abc"] == ["a.py", "a.yaml", "b.yml"]


@pytest.mark.parametrize("name", ["fedmsg-config.yaml", "fedmsg-config.yml"])
def test_a_single_file_may_be_yaml(name: str) -> None:
    write("fedmsg-config.py", {"timeout": 1, "x": "python"})
    write(name, "timeout: 7\n")
    config = load()
    assert (config["timeout"], config["x"]) == (7, "python")


def test_other_files_and_folders_are_ignored() -> None:
    write("fedmsg.d/a.py", {"seen": 1})
    for name in ("a.txt", "b.py.rpmsave", "c.py~", ".hidden.py", "README", "d.json"):
        write(f"fedmsg.d/{name}", "this is no configuration")
    os.mkdir("fedmsg.d/folder.py")
    os.mkdir("fedmsg.d/folder.yaml")
    os.mkfifo("fedmsg.d/pipe.py")
    os.mkdir("fedmsg-config.py")
    write(f"{os.environ['HOME']}/.fedmsg.d", "a file where a folder could be")
    assert load()["seen"] == 1


# ---------------------------------------------------------------- FEDMSG_CONFIG, filenames


def test_fedmsg_config_replaces_all_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write("fedmsg.d/a.py", {"here": 1})
    write("fedmsg-config.py", {"here": 1})
    write(tmp_path / "some.d" / "a.py", {"there": 1})
    write(tmp_path / "some.d" / "b.yaml", "there: 2\n")
    monkeypatch.setenv("FEDMSG_CONFIG", str(tmp_path / "some.d"))
    config = load()
    assert config["there"] == 2
    assert "here" not in config


@pytest.mark.parametrize(
    ("name", "text"), [("my.py", "config = {'x': 1}"), ("my.yaml", "x: 1"), ("my.conf", "config = {'x': 1}")]
)
def test_fedmsg_config_may_be_a_file(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    write("fedmsg.d/a.py", {"here": 1})
    write(name, text)
    # Relative to the current folder, as a shell's user writes it.
    monkeypatch.setenv("FEDMSG_CONFIG", name)
    config = load()
    assert config["x"] == 1
    assert "here" not in config


def test_fedmsg_config_may_begin_with_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"{os.environ['HOME']}/mine.py", {"x": 1})
    monkeypatch.setenv("FEDMSG_CONFIG", "~/mine.py")
    assert load()["x"] == 1


def test_an_empty_fedmsg_config_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    write("fedmsg.d/a.py", {"here": 1})
    monkeypatch.setenv("FEDMSG_CONFIG", "")
    assert load()["here"] == 1


def test_fedmsg_config_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMSG_CONFIG", "/nowhere/at.all")
    with pytest.raises(ConfigError, match=r"^FEDMSG_CONFIG names /nowhere/at\.all, which is not there; "):
        fedmsg_load()


def fedmsg_load(**keywords: Any) -> dict[str, Any]:
    """Load in the name of fedmsg itself, which is not warned: for what fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return fedmsg.config.load_config(**keywords)


def test_filenames_replace_all_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write("fedmsg.d/a.py", {"here": 1})
    monkeypatch.setenv("FEDMSG_CONFIG", write(tmp_path / "env.py", {"env": 1}))
    one = write(tmp_path / "one.py", {"a": {"x": 1}, "b": 1})
    two = write(tmp_path / "two.yaml", "a: {y: 2}\nb: 2\n")
    config = load(filenames=[one, two])
    assert (config["a"], config["b"]) == ({"x": 1, "y": 2}, 2)
    assert not {"here", "env"} & set(config)


def test_one_filename_may_be_given_as_text(tmp_path: Path) -> None:
    assert load(filenames=write(tmp_path / "one.py", {"a": 1}))["a"] == 1


def test_no_filenames_are_the_usual_ones() -> None:
    write("fedmsg.d/a.py", {"here": 1})
    assert load(filenames=[])["here"] == 1


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None, os.mkfifo])
def test_a_filename_has_to_be_a_file(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "some'thing"
    make(path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole text is compared
        fedmsg_load(filenames=[str(path)])
    assert str(caught.value) == f"{str(path)!r} is not a file."
    assert isinstance(caught.value, ConfigError)


# ---------------------------------------------------------------- merging


def test_files_are_merged_with_each_other_and_then_replace_the_defaults() -> None:
    write("fedmsg.d/a.py", {"endpoints": {"x": "tcp://h:1"}, "own": {"deep": {"a": 1, "l": [1]}}})
    write("fedmsg.d/b.py", {"endpoints": {"y": ["tcp://h:2"]}, "own": {"deep": {"b": 2, "l": [2]}}})
    config = load()
    assert config["endpoints"] == {"x": ["tcp://h:1"], "y": ["tcp://h:2"]}
    assert config["own"] == {"deep": {"a": 1, "b": 2, "l": [2]}}


def test_an_empty_dict_replaces_a_default_too() -> None:
    write("fedmsg.d/a.py", {"endpoints": {}})
    assert load()["endpoints"] == {}


def test_logging_is_merged_into_its_default() -> None:
    write("fedmsg.d/a.py", {"logging": {"loggers": {"fedmsg": {"level": "DEBUG"}, "mine": {"level": "INFO"}}}})
    write("fedmsg.d/b.py", {"logging": {"handlers": {"console": {"stream": "ext://sys.stderr"}}}})
    found = load()["logging"]
    expected = settings.defaults()["logging"]
    expected["loggers"]["fedmsg"]["level"] = "DEBUG"
    expected["loggers"]["mine"] = {"level": "INFO"}
    expected["handlers"]["console"]["stream"] = "ext://sys.stderr"
    assert found == expected


def test_a_flag_replaces_whole() -> None:
    write("fedmsg.d/a.py", {"own": {"a": 1}})
    assert load(flags={"own": {"b": 2}, "timeout": 9})["own"] == {"b": 2}


def test_what_files_hold_is_not_copied_but_their_dicts_are() -> None:
    write("fedmsg.d/a.py", "store = object()\nshared = {'x': 1}\nconfig = {'s': store, 'a': shared, 'b': shared}")
    write("fedmsg.d/b.py", {"a": {"y": 2}})
    config = load()
    assert type(config["s"]) is object
    assert (config["a"], config["b"]) == ({"x": 1, "y": 2}, {"x": 1})


def test_disable_defaults_starts_from_nothing() -> None:
    assert load(disable_defaults=True) == {}
    write("fedmsg.d/a.py", {"endpoints": {"a": "tcp://h:1"}, "logging": {"version": 1}})
    assert load(disable_defaults=True) == {"endpoints": {"a": ["tcp://h:1"]}, "logging": {"version": 1}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ({"topic_prefix": "a+b.c"}, r"a+b\.c\.[^\W\d_]+"),
        ({"topic_prefix": "org.x", "topic_prefix_re": "foo"}, "foo"),
        ({"topic_prefix": "org.x", "topic_prefix_re": None}, r"org\.x\.[^\W\d_]+"),
    ],
)
def test_topic_prefix_re(text: dict[str, Any], expected: str) -> None:
    write("fedmsg.d/a.py", text)
    assert load()["topic_prefix_re"] == expected


# ---------------------------------------------------------------- bad values


def test_values_become_what_the_code_works_with() -> None:
    write("fedmsg.d/a.yaml", "timeout: '3'\nactive: 'True'\nzmq_linger: '50'\nendpoints: {a: tcp://h:1}\n")
    config = load()
    assert [config[name] for name in ("timeout", "active", "zmq_linger", "endpoints")] == [
        3,
        True,
        50,
        {"a": ["tcp://h:1"]},
    ]


def test_a_bad_value_is_told_with_file_key_value_and_fix() -> None:
    path = os.path.abspath(write("fedmsg.d/a.py", {"zmq_linger": "soon"}))
    with pytest.raises(ConfigError) as caught:
        fedmsg_load()
    assert str(caught.value) == (
        f"{path}: zmq_linger is 'soon': invalid literal for int() with base 10: 'soon'; "
        "write a whole number of milliseconds, such as 1000"
    )
    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_status == 5


def test_all_problems_are_told_at_once_in_one_line() -> None:
    write("fedmsg.d/a.py", {"zmq_linger": "soon", "active": "perhaps"})
    write("fedmsg.d/b.yaml", "irc_method: shout\n")
    write("fedmsg.d/c.py", "config = {\n 'a': }")
    write("fedmsg.d/d.py", "x = 1")
    with pytest.raises(ConfigError) as caught:
        fedmsg_load(flags={"timeout": "x"})
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("6 problems in the configuration: (1) ")
    for part in (
        "c.py:2: it is not valid Python",
        "d.py:1: it does not define config",
        "a.py: zmq_linger is 'soon'",
        "a.py: active is 'perhaps'",
        "b.yaml: irc_method is 'shout': it is none of: notice, msg; write 'notice' or 'msg'",
        "command line: timeout is 'x'",
    ):
        assert part in text


def test_a_value_that_several_files_made_names_them_all() -> None:
    write("fedmsg.d/a.py", {"endpoints": {"a": "tcp://h:1"}})
    write("fedmsg.d/b.py", {"endpoints": {"b": 3}})
    with pytest.raises(ConfigError, match=r"a\.py and .*b\.py: endpoints is \{'a': 'tcp://h:1', 'b': 3\}: 'b': 3 is"):
        fedmsg_load()


def test_a_long_or_hostile_value_stays_one_short_line() -> None:
    write(
        "fedmsg.d/a.py", "class V:\n def __repr__(self): return '\\x1b[2J\\n' + 'v' * 9999\nconfig = {'timeout': V()}"
    )
    with pytest.raises(ConfigError) as caught:
        fedmsg_load()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_value_without_a_repr_can_be_told_too() -> None:
    write(
        "fedmsg.d/a.py", "class V:\n def __repr__(self): 1 / 0\n __str__ = lambda s: 'v'\nconfig = {'certnames': V()}"
    )
    with pytest.raises(ConfigError, match="certnames is <V without a repr: ZeroDivisionError>"):
        fedmsg_load()


def test_a_secret_is_not_told() -> None:
    write("fedmsg.d/a.py", {"stomp_pass": 12345678})
    with pytest.raises(ConfigError, match="stomp_pass is a secret: it is not text; write text") as caught:
        fedmsg_load()
    assert "12345678" not in str(caught.value)


@pytest.mark.parametrize("value", [[], "x", 3, ("a",)])
def test_endpoints_have_to_be_a_dict(value: Any) -> None:
    path = os.path.abspath(write("fedmsg.d/a.py", {"endpoints": value}))
    with pytest.raises(ValueError, match=r"^The 'endpoints' config value must be a dict\.") as caught:
        fedmsg_load()
    assert path in str(caught.value)


def test_a_dict_without_end_is_told() -> None:
    write("fedmsg.d/a.py", "config = {}\nconfig['own'] = config")
    with pytest.raises(ConfigError, match=r"a\.py: its dicts are nested without end"):
        fedmsg_load()


def test_nothing_is_remembered_of_a_failure() -> None:
    write("fedmsg.d/a.py", {"timeout": 7})
    good = load()
    write("fedmsg.d/a.py", {"timeout": "x"})
    with pytest.raises(ConfigError):
        fedmsg_load(invalidate_cache=True)
    assert load() is good


# ---------------------------------------------------------------- unknown keys


def test_unknown_keys_are_kept_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    names = ["fedmsg.consumers.badges.enabled", "datanommer.enabled", "my_home", "x", "irk", "bodhi.topic_prefix_x"]
    write("fedmsg.d/a.py", dict.fromkeys(names, 1))
    config = load()
    assert [config[name] for name in names] == [1] * len(names)
    assert caplog.messages == []


def test_a_misspelt_key_is_kept_and_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    path = os.path.abspath(write("fedmsg.d/a.py", {"enviroment": "prod"}))
    assert load()["enviroment"] == "prod"
    assert [(record.name, record.levelname) for record in caplog.records] == [("fedmsg.config", "WARNING")]
    assert caplog.messages == [f"{path}: nothing reads the key 'enviroment'; did you mean 'environment'?"]


# ---------------------------------------------------------------- ownership


def test_somebody_elses_folder_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    write("fedmsg.d/a.py", "raise SystemExit('it was run')")
    give_away("fedmsg.d", monkeypatch)
    with pytest.raises(ConfigError, match=r"^/.*/fedmsg\.d: it belongs to .*; run 'chown \d+ /.*' .* "):
        fedmsg_load()


@pytest.fixture
def _open_to_all() -> Iterator[None]:
    with folder_open_to_all():
        yield


@pytest.mark.usefixtures("_open_to_all")
def test_insecure_files_are_read_when_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod(write("fedmsg.d/a.py", {"x": 1}), 0o666)
    with pytest.raises(ConfigError, match=r"all users may write to it; run 'chmod o-w .*a\.py'"):
        fedmsg_load()
    assert load(allow_insecure=True)["x"] == 1
    forget()
    monkeypatch.setenv("FEDMSG_ALLOW_INSECURE_CONFIG", "0")
    with pytest.raises(ConfigError):
        fedmsg_load()
    monkeypatch.setenv("FEDMSG_ALLOW_INSECURE_CONFIG", "1")
    assert load()["x"] == 1


def test_the_flag_allows_insecure_files(monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod(write("fedmsg.d/a.py", {"x": 1}), 0o666)
    monkeypatch.setattr(sys, "argv", ["prog", "--allow-insecure-config"])
    config = load(fedmsg_command=True)
    assert config["x"] == 1
    assert "allow_insecure_config" not in config


# ---------------------------------------------------------------- the cache


def test_the_answer_is_kept() -> None:
    first = load()
    write("fedmsg.d/a.py", {"x": 1})
    assert load() is first
    assert fedmsg.config.__cache is first
    assert load(invalidate_cache=True)["x"] == 1


def test_emptying_the_cache_loads_afresh() -> None:
    first = load()
    fedmsg.config.__cache = {}
    second = load()
    assert second == first
    assert second is not first


def test_the_cache_is_looked_up_where_others_put_it() -> None:
    mine = {"mine": 1}
    fedmsg.config.__cache = mine
    assert load() is mine
    assert "mine" not in load(disable_defaults=False, flags={"x": 1})


def test_another_question_gets_another_answer(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"{name}.py", {"x": name}) for name in ("one", "two"))
    assert load()["topic_prefix"] == "org.fedoraproject"
    first = load(filenames=[one])
    assert first["x"] == "one"
    assert load(filenames=[one]) is first
    assert load() is first
    assert load(filenames=[two])["x"] == "two"
    assert load(filenames=[one, two])["x"] == "two"
    assert load(filenames=[one], disable_defaults=True) == {"x": "one"}
    assert load(filenames=[one], flags={"x": 5})["x"] == 5
    assert load(filenames=[one], flags={"x": 6})["x"] == 6
    assert load(filenames=[one])["x"] == "one"
    assert load(filenames=[two], invalidate_cache=True)["x"] == "two"


def test_a_stale_question_does_not_answer_for_a_replaced_cache(tmp_path: Path) -> None:
    path = write(tmp_path / "one.py", {"x": 1})
    load(filenames=[path])
    fedmsg.config.__cache = {"mine": 1}
    assert load(filenames=[path])["x"] == 1


def test_the_defaults_are_never_changed_by_what_a_caller_does() -> None:
    load()["endpoints"]["relay_outbound"].append("tcp://h:1")
    assert load(invalidate_cache=True)["endpoints"] == {"relay_outbound": ["tcp://127.0.0.1:4001"]}


# ---------------------------------------------------------------- the rest of the contract


def test_every_call_by_an_application_points_to_conf() -> None:
    for _ in range(2):
        with pytest.warns(DeprecationWarning, match=r"fedmsg\.config\.conf") as caught:
            fedmsg.config.load_config()
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("name", "expected"), [("fedmsg", 0), ("fedmsg.core", 0), ("fedmsg_meta_x", 1), ("app", 1), ("__main__", 1)]
)
def test_fedmsg_itself_is_not_warned(name: str, expected: int) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec("import fedmsg.config\nfedmsg.config.load_config()", {"__name__": name})
    assert len(caught) == expected


def test_print_config_prints_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    write("fedmsg.d/a.py", "config = {'print_config': True, 'own': {1, 2}, 'store': object}")
    with pytest.raises(SystemExit) as caught:
        fedmsg_load()
    assert caught.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["print_config"] is True
    assert printed["own"] == [1, 2]
    assert printed["store"] == "<class 'object'>"
    assert printed["endpoints"] == {"relay_outbound": ["tcp://127.0.0.1:4001"]}


def test_the_defaults_can_be_looked_at() -> None:
    assert fedmsg.config.defaults == settings.defaults()


EXTRA = [
    (["--zz"], {"dest": "zz", "default": "declared"}),
    (["--own"], {"dest": "own", "default": "declared"}),
    (["--bare"], {"dest": "bare"}),
    (["--many"], {"dest": "many", "action": "append"}),
    (["--on"], {"dest": "on", "action": "store_true", "default": False}),
]


def test_the_command_line_is_the_uppermost_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    write("fedmsg.d/a.py", {"timeout": 5, "zmq_linger": 6, "own": "file", "bare": "file", "on": True, "many": ["f"]})
    argv = ["prog", "--timeout", "7", "--zz", "1", "--many", "a", "--many", "b"]
    monkeypatch.setattr(sys, "argv", argv)
    config = load(EXTRA, "What it does.", fedmsg_command=True)
    wanted = ["timeout", "zmq_linger", "zz", "own", "bare", "on", "many", "config_filename", "print_config"]
    assert [config[name] for name in wanted] == [7, 6, "1", "file", "file", True, ["a", "b"], None, False]
    # The same command line is the same request, another one is not.
    assert load(EXTRA, "What it does.", fedmsg_command=True) is config
    monkeypatch.setattr(sys, "argv", ["prog"])
    assert load(EXTRA, "What it does.", fedmsg_command=True)["timeout"] == 5


def test_a_library_gets_what_its_program_has_loaded() -> None:
    loaded = load(flags={"timeout": 7})
    assert load() is loaded
    # A command without flags asks for something else.
    assert load(flags={})["timeout"] == 2


def test_a_command_takes_what_others_have_put_into_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    fedmsg.config.__cache = {"mine": 1}
    assert load(flags={}) == {"mine": 1}
    monkeypatch.setattr(sys, "argv", ["prog"])
    config = load(EXTRA, fedmsg_command=True)
    assert (config["mine"], config["zz"], config["config_filename"]) == (1, "declared", None)


def test_a_command_without_flags_shares_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load()
    monkeypatch.setattr(sys, "argv", ["prog"])
    assert load(EXTRA, fedmsg_command=True) is loaded


def test_flags_that_are_not_given_have_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prog"])
    config = load(EXTRA, "What it does.", fedmsg_command=True)
    assert [config[name] for name in ("zz", "own", "bare", "on")] == ["declared", "declared", None, False]


def test_without_fedmsg_command_the_command_line_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prog", "--timeout", "7", "--zz", "1", "--nonsense"])
    config = load(EXTRA)
    assert config["timeout"] == 2
    assert "zz" not in config


def test_config_filename_replaces_all_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write("fedmsg.d/a.py", {"here": 1})
    path = write(tmp_path / "some.py", {"there": 1})
    monkeypatch.setattr(sys, "argv", ["prog", "--config-filename", path])
    config = load(fedmsg_command=True)
    assert config["there"] == 1
    assert config["config_filename"] == path
    assert "here" not in config


def test_a_bad_flag_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["prog", "--timeout", "x"])
    with pytest.raises(SystemExit) as caught:
        fedmsg_load(fedmsg_command=True)
    assert caught.value.code == 2
    assert "--timeout" in capsys.readouterr().err


def test_help_shows_defaults_and_needs_no_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("fedmsg.d/a.py", "this is broken")
    monkeypatch.setattr(sys, "argv", ["prog", "--help"])
    flags = [(["--zz"], {"dest": "zz", "default": 99, "help": "It is %(default)s."}), (["need"], {})]
    with pytest.raises(SystemExit) as caught:
        fedmsg_load(extra_args=flags, doc="What it does.", fedmsg_command=True)
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "It is 99." in shown
    assert "What it does." in shown


# ---------------------------------------------------------------- surroundings


def test_a_folder_that_was_deleted_under_us_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"{os.environ['HOME']}/.fedmsg.d/a.py", {"x": 1})
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load()["x"] == 1


def test_importing_it_is_cheap() -> None:
    dear = {"argparse", "logging.config", "yaml", "ast", "difflib", "click", "dns", "inspect"}
    code = "import sys, fedmsg.config; fedmsg.config._layers.gather(fedmsg.config._layers.Request()); "
    run = subprocess.run(
        [sys.executable, "-c", code + "print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert dear & set(run.stdout.split()) == set()
