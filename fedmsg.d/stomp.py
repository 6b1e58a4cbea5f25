# SPDX-License-Identifier: LGPL-2.1-or-later
"""A STOMP message broker in place of ZeroMQ, with zmq_enabled set to False in sockets.py."""

from __future__ import annotations

config = {
    # Host and port, several with commas between them: "stomp1.example.org:61613"
    #     "stomp_uri": None,
    #
    # Who we are there: by name and password ...
    #     "stomp_user": None,
    #     "stomp_pass": None,
    #
    # ... or by certificate and key, as paths of files.
    #     "stomp_ssl_crt": None,
    #     "stomp_ssl_key": None,
    #
    # What to read there, and how often both sides send a heartbeat, in milliseconds.
    #     "stomp_queue": None,
    #     "stomp_heartbeat": None,
}
