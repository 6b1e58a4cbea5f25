# SPDX-License-Identifier: LGPL-2.1-or-later
"""The least that a relay or a gateway can be: libzmq's own loop between two sockets."""

from __future__ import annotations

import sys

import zmq


def main(way: str, inbound: str, outbound: str, receive_limit: str, send_limit: str) -> None:
    """Pass on, until killed, what is published at ``inbound`` to who subscribes at ``outbound``.

    Args:
        way: ``bind`` as a relay does at ``inbound``, or ``connect`` as a gateway does.
        inbound: Where messages come from.
        outbound: Where they go to.
        receive_limit: How many may wait to be passed on.
        send_limit: How many may wait for one subscriber.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    taking, giving = context.socket(zmq.XSUB), context.socket(zmq.PUB)
    taking.set_hwm(int(receive_limit))
    giving.set_hwm(int(send_limit))
    if way == "bind":
        taking.bind(inbound)
    else:
        taking.connect(inbound)
    giving.bind(outbound)
    taking.send(b"\x01")
    zmq.proxy(taking, giving)


main(*sys.argv[1:])
