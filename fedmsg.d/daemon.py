# SPDX-License-Identifier: LGPL-2.1-or-later
"""Daemons in the background, for systems without a service manager. Under systemd, leave this alone."""

from __future__ import annotations

config = {
    # True makes a command that runs on and on leave the terminal. Needs: pip install 'fedmsg[daemon]'
    #     "daemon": False,
    #
    # The file in which it then writes its process number.
    #     "pidfile": None,
}
