# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom a configuration may come from: root and the user that the process runs as, nobody else.

A configuration file is code, and any configuration can send messages elsewhere. So that
nobody runs somebody else's by standing in the wrong folder, what is opened is looked at
before it is read: the descriptor, not the path, which could lead elsewhere a moment later.
"""

from __future__ import annotations

import os
import stat

from fedmsg.config import _words
from fedmsg.exceptions import ConfigError

__all__ = ["ALLOW_INSECURE", "insecure_is_allowed", "require_trusted"]

ALLOW_INSECURE = "FEDMSG_ALLOW_INSECURE_CONFIG"

_WAY_OUT = f"or allow it with {ALLOW_INSECURE}=1 or --allow-insecure-config"


def insecure_is_allowed() -> bool:
    """Say whether the environment lifts the rule."""
    return os.environ.get(ALLOW_INSECURE) == "1"


def require_trusted(descriptor: int, path: str) -> None:
    """Refuse a file or folder that others than root and this user can change.

    Args:
        descriptor: The opened file or folder.
        path: Its path, for the message.

    Raises:
        ConfigError: It belongs to somebody else, or everybody may write to it.
    """
    status = os.fstat(descriptor)
    user = os.geteuid()
    shown = _words.path_words(path)
    if status.st_uid not in (0, user):
        me, owner = _words.user_words(user), _words.user_words(status.st_uid)
        raise ConfigError(
            f"{shown}: it belongs to {owner}, who may not configure a program of {me}; "
            f"run 'chown {user} {shown}' if you trust what is in it, {_WAY_OUT}"
        )
    if status.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{shown}: everybody may write to it; run 'chmod o-w {shown}', {_WAY_OUT}")
