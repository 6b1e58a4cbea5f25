# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stores the messages of a JSON file, and answers questions for them until its standard input is closed."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import sqlalchemy

from fedmsg.replay import ReplayContext
from fedmsg.replay.sqlstore import SqlStore

told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
store = SqlStore(sqlalchemy.create_engine(told["url"]))
for message in told["messages"]:
    print("STORED", json.dumps(store.add(message)), flush=True)
if told.get("by_line"):
    # Further messages come by standard input, so that two programs can write in turn.
    for line in sys.stdin:
        print("STORED", json.dumps(store.add(json.loads(line))), flush=True)
if told["config"]:
    context = ReplayContext(persistent_store=store, **told["config"])
    threading.Thread(target=context.listen, daemon=True).start()
    print("SERVING", flush=True)
    sys.stdin.read()
sys.stdout.flush()
os._exit(0)
