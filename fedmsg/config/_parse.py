# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the bytes of a configuration file to its dict, or to one line with what is wrong and where."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from fedmsg._util import plugins
from fedmsg._util.text import safe_line
from fedmsg.config import _words
from fedmsg.exceptions import ConfigError

__all__ = ["PYTHON", "SUFFIXES", "parse"]

PYTHON = ".py"
_YAML = (".yaml", ".yml")

#: What the names of configuration files end in.
SUFFIXES = (PYTHON, *_YAML)


def parse(data: bytes, path: str) -> dict[str, Any]:
    """Return what a configuration file sets; it is YAML when its path ends in ``.yaml`` or ``.yml``, else Python.

    Raises:
        ConfigError: It can't be parsed, fails while it runs, or doesn't define a dict.
    """
    return _parse_yaml(data, path) if path.endswith(_YAML) else _run_python(data, path)


def _error(path: str, line: int | None, what: str) -> ConfigError:
    return ConfigError(f"{safe_line(path)}:{line or 1}: {_words.clip(what)}")


def _run_python(data: bytes, path: str) -> dict[str, Any]:
    try:
        code = compile(data, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _error(path, error.lineno, f"it is not valid Python: {error.msg}") from error
    # Zero bytes, and nesting that is too deep for the compiler.
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise _error(path, 1, f"it is not valid Python: {error}") from error
    names: dict[str, Any] = {"__file__": path, "__name__": "fedmsg_config"}
    try:
        exec(code, names)  # noqa: S102 a configuration file is Python; _trust has looked at whose it is
    # It is the administrator's code: whatever it raises, and leaving by exit(), is a fault in the configuration.
    except (Exception, SystemExit) as error:
        line = _line_in(error.__traceback__, path)
        raise _error(path, line, f"it fails with {type(error).__name__}: {error}") from error
    if "config" not in names:
        raise _error(path, 1, "it does not define config; add 'config = {...}'")
    return _checked(names["config"], path, data)


def _parse_yaml(data: bytes, path: str) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _error(path, data.count(b"\n", 0, error.start) + 1, "it is not UTF-8") from error
    yaml = plugins.lazy("yaml")
    try:
        values = yaml.load(text)
    except yaml.NotYaml as error:
        raise _error(path, error.line, f"it is not valid YAML: {error}") from error
    # A file in which everything is commented out sets nothing.
    return {} if values is None else _checked(values, path, None)


def _checked(values: Any, path: str, source: bytes | None) -> dict[str, Any]:
    """Make sure that a file defined a dict with text as keys."""
    if not isinstance(values, dict):
        line, name = (1, "the document") if source is None else (_assignment(source), "config")
        raise _error(path, line, f"{name} is not a dict but {_words.value_words(values)}")
    for key in values:
        if not isinstance(key, str):
            line = 1 if source is None else _assignment(source)
            raise _error(path, line, f"the key {_words.value_words(key)} is not text; write it in quotes")
    return values


def _assignment(source: bytes) -> int:
    """Find the line of the last assignment to ``config``; 1 when it came about in another way."""
    # Costs 10 ms, and only files that are wrong get here.
    import ast

    return max(
        (
            node.lineno
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Name) and node.id == "config" and isinstance(node.ctx, ast.Store)
        ),
        default=1,
    )


def _line_in(traceback: TracebackType | None, path: str) -> int | None:
    """Find the last line of the file that an exception came through."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
