# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of moksha that plugins of 1.x import, and of Twisted's reactor. In a hub's process they are always ours."""

from __future__ import annotations

import importlib.machinery
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from fedmsg._util.service import ServiceThread, start_thread
from fedmsg.hub.consumer import Consumer
from fedmsg.hub.forking import ForkGuard
from fedmsg.hub.hooks import ZMQMessage
from fedmsg.hub.producer import MonitoringProducer, PollingProducer, Producer

__all__ = ["MODULES", "REACTOR", "Reactor", "clear_running", "register", "set_running"]

log = logging.getLogger("fedmsg.hub")


class _Call:
    """A call that is made at its time, unless it is cancelled before."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function

    def cancel(self) -> None:
        """Cancel the call."""
        self._function = None

    def active(self) -> bool:
        """Return whether the call is still to be made."""
        return self._function is not None

    def make(self) -> None:
        """Make the call, unless it was cancelled."""
        function, self._function = self._function, None
        if function is not None:
            function()


class _CallThread(ServiceThread):
    """Makes calls one after the other, each at its time."""

    def __init__(self) -> None:
        super().__init__("fedmsg-calls")
        # Few plugins ask for it.
        import sched

        self._calls = sched.scheduler(time.monotonic)

    def add(self, due: float, call: _Call) -> None:
        """Make a call at a time on the clock of `time.monotonic`; those due at the same time stay in their order."""
        self._calls.enterabs(due, 0, call.make)
        self.waker.wake()

    def run(self) -> None:
        """Make calls until the end."""
        self.ready()
        while not self.stopping:
            self.waker.clear()
            self.waker.poll(self._calls.run(blocking=False))


class Reactor:
    """What plugins use of Twisted's reactor: calls that are made later or in threads; what they raise is logged."""

    def __init__(self) -> None:
        self.hubs: list[Any] = []
        self._lock = threading.Lock()
        self._thread: _CallThread | None = None

    def callInThread(self, function: Callable[..., object], *args: Any, **kw: Any) -> None:  # noqa: N802 - Twisted's name
        """Call a function in a thread of its own."""
        start_thread(_guarded(function, args, kw), "fedmsg-call")

    def callFromThread(self, function: Callable[..., object], *args: Any, **kw: Any) -> None:  # noqa: N802 - Twisted's name
        """Call a function in the one thread that makes all such calls, one after the other."""
        self.callLater(0.0, function, *args, **kw)

    def callLater(self, delay: float, function: Callable[..., object], *args: Any, **kw: Any) -> _Call:  # noqa: N802 - Twisted's name
        """Call a function in so many seconds, in that thread; return something with ``cancel()`` and ``active()``."""
        call = _Call(_guarded(function, args, kw))
        with self._lock:
            if self._thread is None:
                thread = _CallThread()
                thread.start()
                self._thread = thread
        self._thread.add(time.monotonic() + float(delay), call)
        return call

    def stop(self) -> None:
        """Stop all hubs of this process; `fedmsg-hub` ends with its hub."""
        for hub in list(self.hubs):
            hub.on_stop_request()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"reactor.{name} is Twisted's, and this hub runs without it: it has callInThread, callLater, "
            "callFromThread, stop"
        )


def _guarded(function: Callable[..., object], args: tuple[Any, ...], kw: dict[str, Any]) -> Callable[[], None]:
    def call() -> None:
        guard = ForkGuard()
        try:
            function(*args, **kw)
        except BaseException as error:
            guard.check(error)
            # The thread that makes the calls goes on, whatever one of them does.
            log.exception("a call of %r failed", function)
        guard.check()

    return call


#: The one reactor of the process.
REACTOR = Reactor()


def asbool(value: Any) -> bool:
    """Read a switch as moksha's configuration files write it; a ValueError where it is none."""
    if not isinstance(value, str):
        return bool(value)
    word = value.strip().lower()
    if word in {"true", "yes", "on", "y", "t", "1"}:
        return True
    if word in {"false", "no", "off", "n", "f", "0"}:
        return False
    raise ValueError(f"String is not true/false: {value!r}")


#: What each module has; :mod:`fedmsg.hub.daemon` adds ``main``. Those that have others inside are packages.
MODULES: dict[str, dict[str, Any]] = {
    "moksha": {},
    "moksha.common": {},
    "moksha.common.lib": {},
    "moksha.common.lib.converters": {"asbool": asbool},
    "moksha.hub": {"_hub": None},
    "moksha.hub.api": {"Consumer": Consumer, "Producer": Producer, "PollingProducer": PollingProducer},
    "moksha.hub.api.consumer": {"Consumer": Consumer},
    "moksha.hub.api.producer": {"Producer": Producer, "PollingProducer": PollingProducer},
    "moksha.hub.hub": {},
    "moksha.hub.monitoring": {"MonitoringProducer": MonitoringProducer},
    "moksha.hub.reactor": {"reactor": REACTOR},
    "moksha.hub.zeromq": {},
    "moksha.hub.zeromq.zeromq": {"ZMQMessage": ZMQMessage},
}


class _OtherNames:
    """Reports every other name of moksha as missing, even if moksha is installed."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG004 - the signature is Python's
        target: ModuleType | None = None,  # noqa: ARG004 - the same
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] == "moksha":
            raise ModuleNotFoundError(
                f"{name} needs moksha and Twisted, and this hub runs without them: it has {', '.join(MODULES)}",
                name=name,
            )
        return None


def register(hub: type, running_hub: type) -> None:
    """Put the modules where ``import`` finds them, with the class of hubs and that of hubs that run when made."""
    if _OtherNames in sys.meta_path:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "moksha"]:
        del sys.modules[name]
    made: dict[str, ModuleType] = {}
    for name, names in MODULES.items():
        made[name] = module = ModuleType(name, f"What fedmsg's own hub has under the name of {name}.")
        module.__path__ = []
        vars(module).update(names)
        if name in {"moksha.hub", "moksha.hub.hub"}:
            vars(module).update(MokshaHub=hub, CentralMokshaHub=running_hub)
        elif name == "moksha.hub.api":
            vars(module).update(MokshaHub=hub)
        above, _, last = name.rpartition(".")
        if above:
            setattr(made[above], last, module)
    sys.modules.update(made)
    sys.meta_path.insert(0, _OtherNames)


def set_running(hub: Any) -> None:
    """Make a hub that runs known as ``moksha.hub._hub``, which ``reactor.stop`` stops."""
    vars(sys.modules["moksha.hub"])["_hub"] = hub
    REACTOR.hubs.append(hub)


def clear_running(hub: Any) -> None:
    """Forget a hub that stops; one that did not run makes no difference."""
    if hub in REACTOR.hubs:
        REACTOR.hubs.remove(hub)
    module = vars(sys.modules["moksha.hub"])
    if module.get("_hub") is hub:
        module["_hub"] = REACTOR.hubs[-1] if REACTOR.hubs else None
