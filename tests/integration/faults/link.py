# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network between two ends that can be cut without either of them being told."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from types import TracebackType

_CHUNK = 65536


class Link:
    """Listens at an address of its own and passes on, both ways, what comes for another one.

    While it is cut it reads nothing and answers nothing, as if the cable were out: who
    connects is left hanging, and what is sent waits with the sender. Mended, it goes on with the
    connections that both ends still want.

    Args:
        target: The ``tcp`` address behind it.
        sent: Gets what those who connect send, where it is of interest.

    Attributes:
        address: Its own.
    """

    def __init__(self, target: str, sent: bytearray | None = None) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._sent = sent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = os.pipe()
        self._whole = threading.Event()
        self._whole.set()
        self._closing = self._dropping = False
        self._selector.register(self._waker, selectors.EVENT_READ, None)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self) -> None:
        """Pass nothing on from now on."""
        self._whole.clear()

    def mend(self) -> None:
        """Pass everything on again."""
        self._whole.set()

    def drop(self) -> None:
        """End the connections that there are; those who connect again get through."""
        self._dropping = True
        os.write(self._wake, b"x")

    def _run(self) -> None:
        while not self._closing:
            ready = self._selector.select()
            self._whole.wait()
            for key, _ in ready:
                if key.fileobj == self._waker:
                    os.read(self._waker, 1)
                    if self._dropping:
                        self._drop()
                    break
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj.fileno() >= 0:
                    self._pass_on(key.fileobj, *key.data)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._target, 5)
        except OSError:
            near.close()
            return
        for one, other, record in ((near, far, self._sent), (far, near, None)):
            one.settimeout(5)
            self._selector.register(one, selectors.EVENT_READ, (other, record))

    def _pass_on(self, source: socket.socket, sink: socket.socket, record: bytearray | None) -> None:
        try:
            content = source.recv(_CHUNK)
            if record is not None:
                record += content
            if content:
                sink.sendall(content)
                return
        except OSError:
            # One of them has gone, and so the other has nobody to talk to.
            pass
        for one in (source, sink):
            self._selector.unregister(one)
            one.close()

    def _drop(self) -> None:
        self._dropping = False
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket) and key.fileobj is not self._listener:
                self._selector.unregister(key.fileobj)
                key.fileobj.close()

    def close(self) -> None:
        """End all connections."""
        self._closing = True
        self._whole.set()
        os.write(self._wake, b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        os.close(self._wake)
        os.close(self._waker)

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
