# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a consumer remembers from one start to the next, and what it does with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedmsg.config import settings
from fedmsg.consumers.backlog import CatchUp, Datagrepper, Topics
from fedmsg.consumers.status import POST, StatusFile

__all__ = ["Memory"]


class Memory:
    """The status file of a consumer, and the datagrepper that it is caught up from.

    Args:
        config: The configuration: ``status_directory``, ``datagrepper_url``, ``skip_last_message``.
        name: The class name of the consumer.
        topics: What it listens to.
        log: Where it tells what it does.

    Attributes:
        status: The status file; None where none is kept.

    Raises:
        ConfigError: There can't be files in ``status_directory``.
    """

    def __init__(self, config: Mapping[str, Any], name: str, topics: str | Iterable[str], log: logging.Logger) -> None:
        directory, url = settings.get(config, "status_directory"), settings.get(config, "datagrepper_url")
        matching = Topics(topics, strict=settings.get(config, "zmq_strict"))
        self.status = StatusFile(directory, name, log, remember=bool(url)) if directory else None
        self._datagrepper = Datagrepper(url, matching, log=log) if url else None
        # Before the first message replaces it.
        self._text = self.status.read_text() if self.status is not None else None
        self._catch_up: CatchUp | None = None
        if self.status is not None:
            self._catch_up = CatchUp(
                name,
                self.status,
                self._datagrepper.results if self._datagrepper is not None else None,
                skip_last=bool(settings.get(config, "skip_last_message")),
                log=log,
            )

    def missed(self) -> Iterator[dict[str, Any]]:
        """Give the envelopes that passed since the last status, and the one that was in work then."""
        return self.since(self._text)

    def since(self, text: str | bytes | None) -> Iterator[dict[str, Any]]:
        """Give the same for the text of a status file."""
        return self._catch_up.messages(text) if self._catch_up is not None else iter(())

    def results(self, then: float, now: float) -> Iterator[dict[str, Any]]:
        """Give what the datagrepper has of a time, in seconds since the epoch."""
        return self._datagrepper.results(then, now) if self._datagrepper is not None else iter(())

    def has_brought(self, envelope: Mapping[str, Any]) -> bool:
        """Say whether the catch-up has brought a message that now came by itself."""
        msg_id = envelope.get("msg_id")
        return self._catch_up is not None and isinstance(msg_id, str) and self._catch_up.seen(msg_id)

    def save(self, data: Mapping[str, Any]) -> None:
        """Replace the status file, where there is one."""
        if self.status is None:
            return
        self.status.save(data)
        if data.get("status") == POST and isinstance(data["message"]["body"], Mapping):
            self.forget(data["message"]["body"])

    def forget(self, envelope: Mapping[str, Any]) -> None:
        """Note that nothing more is to be done with a message that the catch-up may have brought."""
        msg_id = envelope.get("msg_id")
        if self._catch_up is not None and isinstance(msg_id, str):
            self._catch_up.handled(msg_id)

    @property
    def lock(self) -> threading.Lock:
        """What is held while the status file is written."""
        return self.status.lock if self.status is not None else threading.Lock()

    def end(self) -> None:
        """Ask for nothing more."""
        if self._datagrepper is not None:
            self._datagrepper.stop()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        self.end()
        if self._catch_up is not None:
            self._catch_up.close()
        if self.status is not None:
            self.status.close()
