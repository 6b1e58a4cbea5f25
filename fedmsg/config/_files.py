# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which files make up a configuration: where they are looked for, and how they are read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from fedmsg._util.text import safe_line
from fedmsg.config import _parse, _trust, _words
from fedmsg.exceptions import ConfigError

__all__ = ["ETC", "VARIABLE", "Place", "Reader", "Source", "named_files", "named_place", "usual_places"]

#: The environment variable that names the one file or folder to read.
VARIABLE = "FEDMSG_CONFIG"

ETC = "/etc/fedmsg.d"

# A file in one of these is trusted no more than the folder is.
_FOLDERS = ("fedmsg.d", ".fedmsg.d")


class Place(NamedTuple):
    """A file or folder to look at; one that was named has to be there. The layer is its name in reports."""

    layer: str
    path: str
    is_folder: bool
    is_named: bool = False


class Source(NamedTuple):
    """A file that was read."""

    layer: str
    path: str
    values: dict[str, Any]


def usual_places() -> list[Place]:
    """Return the places that are looked at by default; later ones win."""
    bases = [("/etc/", "/etc/")]
    home = os.path.expanduser("~")
    # It stays as it is for a user that has no home.
    if home != "~":
        bases.append(("~/.", os.path.join(home, ".")))
    here = _words.current_folder()
    if here is not None:
        bases.append(("./", os.path.join(here, "")))
    places = [Place(f"{layer}fedmsg.d", f"{base}fedmsg.d", True) for layer, base in bases]
    environment = os.environ.get("VIRTUAL_ENV")
    if environment:
        places.append(Place("$VIRTUAL_ENV/etc/fedmsg.d", os.path.join(environment, "etc", "fedmsg.d"), True))
    for layer, base in bases:
        places += [Place(f"{layer}fedmsg-config", f"{base}fedmsg-config{end}", False) for end in _parse.SUFFIXES]
    return places


def named_place() -> Place | None:
    """Return the place that the environment names, if it does."""
    path = os.path.expanduser(os.environ.get(VARIABLE, ""))
    return Place(VARIABLE, os.path.abspath(path), os.path.isdir(path), True) if path else None


def named_files(names: Sequence[str]) -> list[Place]:
    """Return the places that were named one by one.

    Raises:
        ConfigError: One of them is not a file.
    """
    for name in names:
        if not os.path.isfile(name):
            raise ConfigError(f"{name!r} is not a file.")
    return [Place("--config-filename", os.path.abspath(name), False, True) for name in names]


class Reader:
    """Reads configuration files, and goes on after one that can't be read so that every fault is found."""

    def __init__(self, *, insecure_ok: bool) -> None:
        self.sources: list[Source] = []
        self.problems: list[ConfigError] = []
        self.notes: list[str] = []
        self._insecure_ok = insecure_ok

    def read(self, place: Place) -> None:
        """Read what is at a place; nothing is there most of the time."""
        folder, name = os.path.split(place.path)
        try:
            if place.is_folder:
                with self._opened(place.path, is_folder=True) as descriptor:
                    self._read_folder(place, descriptor)
            elif os.path.basename(folder) in _FOLDERS:
                with self._opened(folder, is_folder=True) as parent:
                    self._require_trusted(parent, folder)
                    self._read_file(place, name, parent)
            else:
                self._read_file(place, place.path)
        except OSError as error:
            self._explain(place, error)
        except ConfigError as error:
            self.problems.append(error)

    def _explain(self, place: Place, error: OSError) -> None:
        """Decide what it means that a place can't be read."""
        absent = error.errno in {errno.ENOENT, errno.ENOTDIR}
        if absent and place.is_named:
            self.problems.append(
                ConfigError(f"{place.layer} names {safe_line(place.path)}, which is not there; correct or unset it")
            )
        elif not absent and not place.is_named and _is_out_of_sight(place.path):
            # The home of another user, after su: whether anything is there can't be known.
            self.notes.append(f"{safe_line(place.path)} can't be looked for: {error.strerror}")
        elif not absent:
            self._unreadable(place.path, error)

    def _unreadable(self, path: str, error: OSError) -> None:
        user = _words.user_words(os.geteuid())
        fault = ConfigError(f"{safe_line(path)}: {user} can't read it: {error.strerror}")
        fault.__cause__ = error
        self.problems.append(fault)

    def _read_folder(self, place: Place, descriptor: int) -> None:
        self._require_trusted(descriptor, place.path)
        for name in sorted(os.listdir(descriptor)):
            # Editors and package managers leave hidden files behind.
            if not name.endswith(_parse.SUFFIXES) or name.startswith("."):
                continue
            inside = Place(place.layer, os.path.join(place.path, name), False)
            try:
                self._read_file(inside, name, descriptor)
            # A link to nowhere, too: it is listed, so it was meant to be read.
            except OSError as error:
                self._unreadable(inside.path, error)
            except ConfigError as error:
                self.problems.append(error)

    def _read_file(self, place: Place, name: str, folder: int | None = None) -> None:
        """Read a file, by its name in a folder that was opened and looked at before, or by its path."""
        with self._opened(name, folder=folder) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                if place.is_named:
                    raise ConfigError(f"{place.path!r} is not a file.")
                return
            self._require_trusted(descriptor, place.path)
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read()
        self.sources.append(Source(place.layer, place.path, _parse.parse(data, place.path)))

    def _opened(self, path: str, *, folder: int | None = None, is_folder: bool = False) -> AbstractContextManager[int]:
        return _trust.opened(path, folder=folder, is_folder=is_folder, check_links=not self._insecure_ok)

    def _require_trusted(self, descriptor: int, path: str) -> None:
        if not self._insecure_ok:
            _trust.require_trusted(descriptor, path)


def _is_out_of_sight(path: str) -> bool:
    """Return whether this user can't even see if a path is there."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return False
