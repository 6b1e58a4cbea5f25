# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-relay with ``daemon``: it leaves the terminal, works, and ends like one in the foreground."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from fedmsg.testing import Bus


def test_it_relays_in_the_background() -> None:
    pidfile, log = Path("relay.pid").absolute(), Path("relay.log").absolute()
    handler = {"class": "logging.FileHandler", "filename": str(log), "formatter": "bare"}
    logging = {"handlers": {"file": handler}, "loggers": {"fedmsg": {"handlers": ["file"]}}}
    with Bus({"daemon": True, "pidfile": str(pidfile), "logging": logging, "timeout": 20}) as bus:
        started = bus.run("fedmsg-relay")
        assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
        # Whoever publishes waits until it is there.
        assert bus.run("fedmsg-logger", "--message", "to the background").returncode == 0
        pid = int(pidfile.read_text(encoding="ascii"))
        descriptor = os.pidfd_open(pid)
        try:
            assert os.getsid(pid) != os.getsid(0)
            with bus.tail("--json") as tail:
                assert bus.run("fedmsg-logger", "--message", "and out again").returncode == 0
                tail.wait_for("and out again")
            os.kill(pid, signal.SIGTERM)
            assert select.select([descriptor], [], [], 20)[0], "it goes on"
        except BaseException:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            raise
        finally:
            os.close(descriptor)
    assert not pidfile.exists()
    first, *_, last = log.read_text(encoding="utf-8").splitlines()
    assert f"relaying from {bus.config['relay_inbound'][0]}" in first
    assert "stopped after" in last
