# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opens configuration files and checks who can change them: only root and the user of this process may.

A configuration file is code, and any configuration can redirect messages. So that no program
runs the code of a stranger because it stands in the stranger's folder, each file, folder and
link is checked on an open descriptor, not by its path, which could lead elsewhere a moment later.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from fedmsg._util.text import safe_line
from fedmsg.config import _words
from fedmsg.exceptions import ConfigError

__all__ = ["ALLOW_INSECURE", "insecure_is_allowed", "opened", "require_trusted"]

ALLOW_INSECURE = "FEDMSG_ALLOW_INSECURE_CONFIG"

_WAY_OUT = f"or allow it with {ALLOW_INSECURE}=1 or --allow-insecure-config"
# Not blocking, because the name may be that of a pipe without a writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# As the kernel.
_MOST_LINKS = 40


def insecure_is_allowed() -> bool:
    """Return whether the environment lifts the rule."""
    return os.environ.get(ALLOW_INSECURE) == "1"


def require_trusted(descriptor: int, path: str) -> None:
    """Reject a file or folder that others than root and this user can change.

    Raises:
        ConfigError: It belongs to another user, or all users may write to it.
    """
    status = os.fstat(descriptor)
    _require_owner(status, path)
    if status.st_mode & stat.S_IWOTH and not (_is_read_only(descriptor) or _is_out_of_reach(descriptor)):
        shown = safe_line(path)
        raise ConfigError(f"{shown}: all users may write to it; run 'chmod o-w {shown}', {_WAY_OUT}")


def _require_owner(status: os.stat_result, path: str) -> None:
    user = os.geteuid()
    if status.st_uid in {0, user}:
        return
    shown, me, owner = safe_line(path), _words.user_words(user), _words.user_words(status.st_uid)
    if stat.S_ISLNK(status.st_mode):
        what, command = f"it is a link of {owner}", "chown -h"
    else:
        what, command = f"it belongs to {owner}", "chown"
    raise ConfigError(
        f"{shown}: {what}, who may not configure a program of {me}; "
        f"run '{command} {user} {shown}' if you trust what is in it, {_WAY_OUT}"
    )


def _is_read_only(descriptor: int) -> bool:
    """Return whether the mount is read-only, as that of a Kubernetes ConfigMap is: then the mode does not count."""
    return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)


def _is_out_of_reach(descriptor: int) -> bool:
    """Return whether a folder above lets only root or this user in, so that no other user can write below it."""
    try:
        here = _folder_of(descriptor)
    except OSError:
        return False
    try:
        while True:
            status = os.fstat(here)
            # The bits of the group are also the limit of what an access control list allows.
            if status.st_uid in {0, os.geteuid()} and not status.st_mode & (stat.S_IXGRP | stat.S_IXOTH):
                return True
            above = os.open("..", _LOOK | os.O_DIRECTORY, dir_fd=here)
            here, before = above, here
            os.close(before)
            if os.path.samestat(status, os.fstat(here)):
                return False
    except OSError:
        return False
    finally:
        os.close(here)


def _folder_of(descriptor: int) -> int:
    """Open the folder that an opened file has its name in; a folder itself.

    Raises:
        OSError: It has no name any more.
    """
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        return os.open(".", _LOOK | os.O_DIRECTORY, dir_fd=descriptor)
    folder, name = os.path.split(os.readlink(f"/proc/self/fd/{descriptor}"))
    found = os.open(folder, _LOOK | os.O_DIRECTORY)
    try:
        # The path may lead elsewhere by now.
        if os.path.samestat(status, os.stat(name, dir_fd=found, follow_symlinks=False)):
            return found
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    except OSError:
        os.close(found)
        raise


@contextmanager
def opened(path: str, *, folder: int | None = None, is_folder: bool = False, check_links: bool = True) -> Iterator[int]:
    """Open a file or folder for reading, and close it again.

    A relative path begins in the opened folder; without one, in the current folder. With ``check_links``, each
    link that the last part of the path leads through must belong to root or to this user.

    Raises:
        ConfigError: A link belongs to another user.
        OSError: It can't be opened.
    """
    flags = _READ | (os.O_DIRECTORY if is_folder else 0)
    descriptor = _follow(path, flags, folder) if check_links else os.open(path, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _follow(path: str, flags: int, folder: int | None) -> int:
    """Open a path; what the links in its last part lead through is looked up here, link by link."""
    parent, name = os.path.split(path)
    if not name:
        return os.open(path, flags, dir_fd=folder)
    here = os.open(parent or ".", _LOOK & ~os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=folder)
    parts, links = [name], 0
    try:
        while True:
            part = parts.pop(0)
            link = _target(part, here, path)
            if link is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                parts = [*(["/"] if link.startswith("/") else []), *filter(None, link.split("/")), *parts]
            elif parts:
                here, before = os.open(part, _LOOK | os.O_DIRECTORY, dir_fd=here), here
                os.close(before)
            else:
                # A link that was put there since is not followed: an error.
                return os.open(part, flags | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


def _target(name: str, folder: int, path: str) -> str | None:
    """Return what a link in a folder leads to; None for what is no link."""
    descriptor = os.open(name, _LOOK, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISLNK(status.st_mode):
            return None
        _require_owner(status, path)
        # Of the opened link itself, whatever has its name by now.
        return os.readlink("", dir_fd=descriptor)
    finally:
        os.close(descriptor)
