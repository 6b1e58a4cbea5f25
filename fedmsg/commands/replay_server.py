# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-replay``: send stored messages to listeners that missed them."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

from fedmsg._util.signals import StopSignals
from fedmsg.commands import BaseCommand, Declaration
from fedmsg.commands._options import flag
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError
from fedmsg.monitoring import systemd
from fedmsg.replay import ReplayContext

__all__ = ["ReplayServerCommand", "replay_server"]

# A query may take a while; a server that has not looked for the next one for so many seconds is stuck.
_STUCK_AFTER = 10.0


class ReplayServerCommand(BaseCommand):
    """Answer those who missed messages, at replay_endpoints[NAME], out of the persistent_store.

    The command runs in the foreground until it is stopped.
    """

    name = "fedmsg-replay"
    daemonizable = True
    needs_zmq = True
    unused_flags = frozenset({"topic_prefix", "post_init_sleep", "timeout", "high_water_mark"})
    extra_args: ClassVar[list[Declaration]] = [
        flag(
            "--name",
            metavar="NAME",
            help="Whose messages: a name in replay_endpoints. Not needed when that has only one.",
        ),
    ]

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            AddressInUse: Another process has the address.
            ConfigError: There is no store, no name or no address.
            StoreError: The database can't be used.
        """
        with StopSignals() as stop, ReplayContext(**{**self.config, "name": self._whose()}) as server:
            thread = threading.Thread(target=self._serve, args=(server,), name="fedmsg-replay", daemon=True)
            thread.start()
            self.log.info("serving messages of %s at %s", server.name, server.address)
            systemd.notify("READY=1")
            systemd.wait_and_watch(stop.wait, thread.is_alive, lambda: self._is_well(server))
            systemd.notify("STOPPING=1")
            server.stop()
            thread.join(float(settings.get(self.config, "stop_timeout")))
            self.log.info(
                "stopped after %d answers with %d messages", server.counts["answered"], server.counts["messages"]
            )
        if self._failure is not None:
            raise self._failure

    _failure: BaseException | None = None

    def _serve(self, server: ReplayContext) -> None:
        try:
            server.listen()
        except BaseException as error:  # noqa: BLE001 raised again in the main thread
            self._failure = error

    def _whose(self) -> str:
        named: dict[str, Any] = settings.get(self.config, "replay_endpoints") or {}
        name = self.config.get("name")
        if name:
            return str(name)
        if len(named) == 1:
            return next(iter(named))
        if not named:
            raise ConfigError("replay_endpoints is not set: add a name and an address, such as tcp://127.0.0.1:3100")
        raise ConfigError(f"replay_endpoints has several names; choose one with --name: {', '.join(map(str, named))}")

    @staticmethod
    def _is_well(server: ReplayContext) -> bool:
        if time.monotonic() - server.last_turn > _STUCK_AFTER:
            return False
        counts = server.counts
        systemd.notify(
            f"STATUS=serving messages of {server.name} at {server.address}, {counts['messages']} in "
            f"{counts['answered']} answers so far, {counts['rejected']} questions rejected"
        )
        return True


def replay_server() -> None:
    """Run the command: the entry point of ``fedmsg-replay``."""
    ReplayServerCommand().execute()
