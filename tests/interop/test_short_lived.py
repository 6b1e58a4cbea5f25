# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishers that start, publish once at their own address, and end: listeners that were there before miss none."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedmsg.testing import Process, free_address, wait_until
from tests.hubs import install
from tests.interop.sides import NAMES, Side, write_config

PUBLISHERS = 8
PLUGIN = """
import json, os
from fedmsg.consumers import FedmsgConsumer

class Words(FedmsgConsumer):
    topic = "org.fedoraproject.*"
    config_key = "words.enabled"
    def consume(self, message):
        os.write(1, (json.dumps({"word": message["body"]["msg"]["word"]}) + "\\n").encode())
"""


@pytest.mark.soak
@pytest.mark.timeout(3600)  # at full size 100 runs of 8 processes
@pytest.mark.parametrize("listener", ["tail-ours", "tail-peer", "hub-ours", "hub-peer"])
@pytest.mark.parametrize("publisher", NAMES, ids="from-{}".format)
def test_listener_hears_short_lived_publishers(
    sides: dict[str, Side], tmp_path: Path, publisher: str, listener: str, full_size: bool
) -> None:
    names = [f"app{number}.host" for number in range(PUBLISHERS)]
    write_config(
        tmp_path,
        {"endpoints": {name: [free_address()] for name in names}, "zmq_enabled": True, "words.enabled": True},
    )
    kind, side = listener.split("-")
    if kind == "tail":
        listening = sides[side].listen(tmp_path)
    else:
        points = {"moksha.consumer": ["hearing = hearing:Words"]}
        plugin = install(tmp_path / "plugin", "hearing", {"hearing.py": PLUGIN}, points)
        listening = sides[side].start(tmp_path, "hub.py", json.dumps([str(plugin)]))

    missing: list[str] = []

    def publish(name: str, word: str) -> None:
        ended = sides[publisher].run(
            tmp_path, "publish.py", json.dumps({"name": name}), "word", stdin=json.dumps({"word": word}) + "\n",
            timeout=150.0,  # eight at a time, on a machine with two cores
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr

    with listening, ThreadPoolExecutor(PUBLISHERS) as pool:
        # It is there once it has heard one that waits for it.
        with sides["ours"].bound(tmp_path, "word", names[0]) as speaker:
            speaker.say({"word": "first"})
            listening.wait_for(lambda line: '"first"' in line)
            speaker.finish()
        for number in range(100 if full_size else 2):
            words = [f"run {number} of {name}" for name in names]
            for done in [pool.submit(publish, *pair) for pair in zip(names, words, strict=True)]:
                done.result()
            missing += await_words(listening, words)
    if publisher == side == "peer":
        # The measure, of which nothing is ours: on a busy machine it loses some.
        assert len(missing) < PUBLISHERS
    else:
        assert missing == []


def await_words(listening: Process, words: list[str]) -> list[str]:
    """Wait until a listener has printed all of the words, or a few seconds; return those that it has not."""

    def missing() -> list[str]:
        printed = "\n".join(listening.out)
        return [word for word in words if f'"{word}"' not in printed]

    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not missing(), 5)
    return missing()
