# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration: files, environment and flags, laid over the defaults.

A configuration is a dict. There are two ways to it, both from fedmsg 1.x:
:func:`load_config` reads every layer and is what fedmsg itself and its commands use;
:data:`conf` reads ``/etc/fedmsg.d``, or what ``FEDMSG_CONFIG`` names, when it is first
asked for a value. They differ in the defaults of a few keys.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedmsg.config import _files, _layers, _parser, _trust, _words
from fedmsg.config import settings as known
from fedmsg.exceptions import ConfigError

if TYPE_CHECKING:
    import argparse

__all__ = ["FedmsgConfig", "build_parser", "conf", "defaults", "load_config"]

log = logging.getLogger(__name__)

#: The defaults of :func:`load_config`.
defaults: dict[str, Any] = known.defaults()

# What load_config has returned last; {} means that nothing is loaded. Programs and tests put
# other dicts here, so it is looked up at every call. _last_request is what it was loaded for.
__cache: dict[str, Any] = {}
_last_request: tuple[_layers.Request, dict[str, Any]] | None = None
_lock = threading.RLock()


def load_config(  # noqa: PLR0917 the order of the first six is that of fedmsg 1.x
    extra_args: Iterable[_parser.Declaration] | None = None,
    doc: str | None = None,
    filenames: Sequence[str] | str | None = None,
    invalidate_cache: bool = False,
    fedmsg_command: bool = False,
    disable_defaults: bool = False,
    *,
    flags: Mapping[str, Any] | None = None,
    allow_insecure: bool = False,
) -> dict[str, Any]:
    """Load the configuration of this process.

    The configuration is kept. The same request, and a call without arguments, get the same dict again.

    Args:
        extra_args: The flags of the command, as names and arguments of argparse's ``add_argument``.
        doc: What the command does.
        filenames: Files to read instead of those in the usual places.
        invalidate_cache: Whether to load afresh in any case.
        fedmsg_command: Whether to parse the command line of the process.
        disable_defaults: Whether to start from an empty dict.
        flags: Values from a command line that was parsed already.
        allow_insecure: Whether files are read without a look at their owner and mode.

    Raises:
        ConfigError: A file or a value can't be used. It is a ValueError.
    """
    _deprecated(sys._getframe(1).f_globals.get("__name__", ""))
    extra_args = list(extra_args or ())
    given = dict(flags or {}) | (_parser.given_flags(extra_args, doc) if fedmsg_command else {})
    named = (filenames,) if isinstance(filenames, str) else tuple(filenames or ())
    if not named and given.get("config_filename"):
        named = (given["config_filename"],)
    insecure = allow_insecure or bool(given.pop("allow_insecure_config", False))
    request = _layers.Request(named, given, disable_defaults, insecure)
    with _lock:
        config = _remembered(request, is_command=fedmsg_command or flags is not None)
        if config is None or invalidate_cache:
            config = _load(request)
        if fedmsg_command:
            for name, value in _parser.all_flags(extra_args, doc, config).items():
                # A flag that is not given has its declared default, unless a file says otherwise.
                config.setdefault(name, value)
    if config.get("print_config"):
        sys.stdout.write(_words.to_json(config) + "\n")
        sys.exit(0)
    return config


def _deprecated(caller: str) -> None:
    """Warn the caller of load_config, unless it is a part of fedmsg."""
    if caller != "fedmsg" and not caller.startswith("fedmsg."):
        message = "fedmsg.config.load_config is deprecated; applications use the dictionary fedmsg.config.conf"
        warnings.warn(message, DeprecationWarning, stacklevel=3)


def _remembered(request: _layers.Request, *, is_command: bool) -> dict[str, Any] | None:
    """Return the last configuration, when it is what this request asks for.

    A library asks for nothing in particular and wants what its program has loaded. A
    command asks for what is on its command line, also when that is nothing.
    """
    if not __cache:
        return None
    is_ours = _last_request is not None and _last_request[1] is __cache
    if request == _layers.Request() and not (is_command and is_ours):
        return __cache
    return __cache if is_ours and _last_request is not None and _last_request[0] == request else None


def _load(request: _layers.Request) -> dict[str, Any]:
    """Load, check and remember a configuration."""
    global __cache, _last_request
    loaded = _layers.gather(request)
    for note in loaded.notes:
        log.warning("%s", note)
    if not loaded.files:
        log.info("No configuration files found in %s", ", ".join(loaded.places))
    _layers.reject(loaded.problems)
    __cache = loaded.config
    _last_request = (request, loaded.config)
    return loaded.config


def build_parser(
    declared_args: Iterable[_parser.Declaration] | None,
    doc: str | None,
    config: Mapping[str, Any] | None = None,
    prog: str | None = None,
) -> argparse.ArgumentParser:
    """Make a parser for a command's own flags and those that every command has.

    Args:
        declared_args: The command's flags, as names and arguments of ``add_argument``. A
            default is replaced by the configured value of its ``dest``.
        doc: What the command does.
        config: The configuration; without one, the built-in defaults.
        prog: The name of the command.
    """
    return _parser.build(declared_args, doc, config or {}, prog)


class FedmsgConfig(dict[str, Any]):
    """The configuration of an application: a dict that fills itself when it is first asked for a value.

    It is loaded by the first ``conf[key]``, ``get()`` or ``copy()``, once; until then it
    is empty. Its values are checked, and all bad ones are reported in one ValueError.
    """

    _is_loaded = False
    _lock = threading.RLock()

    def __getitem__(self, key: str) -> Any:
        self._load_once()
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return the value of a key, or the default."""
        self._load_once()
        return super().get(key, default)

    def copy(self) -> dict[str, Any]:
        """Return a plain dict with the same values."""
        self._load_once()
        return dict(self)

    def _load_once(self) -> None:
        if not self._is_loaded:
            with self._lock:
                if not self._is_loaded:
                    self.load_config()

    def load_config(self, settings: Mapping[str, Any] | None = None) -> None:
        """Set every key to its configured or default value.

        Args:
            settings: The values to use instead of those in the files.

        Raises:
            ConfigError: A file can't be used, or values are not valid. It is a ValueError.
        """
        values = known.conf_defaults()
        values.update(_file_values() if settings is None else settings)
        bad = []
        for name, row in known.TABLE.items():
            if row.in_conf:
                try:
                    values[name] = row.kind.strict(values[name])
                except ValueError as error:
                    reason = f"it is not {row.type}" if row.secret else error
                    bad.append(f"\n\t{name}: {reason}")
        if bad:
            raise ConfigError(f"Invalid configuration values were set: {''.join(bad)}")
        self.update(values)
        self._is_loaded = True


def _file_values() -> dict[str, Any]:
    """Read the files of ``conf``; a later one replaces the keys of an earlier one whole."""
    place = _files.named_place() or _files.Place(_files.ETC, _files.ETC, True)
    reader = _files.Reader(insecure_ok=_trust.insecure_is_allowed())
    if place.is_named and not os.path.exists(place.path):
        # No error, as it is for load_config: applications of 1.x switch their configuration off in this way.
        reader.notes.append(f"{place.layer}: nothing is at {place.path}")
    else:
        reader.read(place)
    values: dict[str, Any] = {}
    for source in reader.sources:
        values.update(source.values)
        reader.notes.extend(_layers.misspelt(source.values, source.path))
    for note in reader.notes:
        log.warning("%s", note)
    if not reader.sources and not reader.problems:
        log.info("No configuration files found in %s", place.path)
    _layers.reject(reader.problems)
    return values


#: The configuration of an application.
conf = FedmsgConfig()
