# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of moksha that plugins of 1.x import. In a hub's process they are always ours."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from fedmsg.hub.consumer import Consumer
from fedmsg.hub.handling import ZMQMessage
from fedmsg.hub.producer import MonitoringProducer, PollingProducer, Producer
from fedmsg.hub.reactor import Reactor

__all__ = ["MODULES", "REACTOR", "clear_running", "register", "set_running"]

#: The one reactor of the process.
REACTOR = Reactor()


def asbool(value: Any) -> bool:
    """Read a switch as moksha's configuration files write it.

    Raises:
        ValueError: It is none.
    """
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
    """Put the modules where ``import`` finds them; a second call does nothing.

    Args:
        hub: The class of hubs.
        running_hub: The class of hubs that run as soon as they are made, as moksha's does.
    """
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
