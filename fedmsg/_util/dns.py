# SPDX-License-Identifier: LGPL-2.1-or-later
"""Endpoints from the DNS: what wraps dnspython. Reach it by ``_plugins.lazy("dns")``."""

from __future__ import annotations

import dns.exception
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

__all__ = ["LookupFailed", "service_addresses"]


class LookupFailed(Exception):
    """The DNS has no answer, or none that is of use."""


def service_addresses(domain: str) -> list[str]:
    """Return the addresses in the SRV records of ``_fedmsg._tcp`` of a domain, those with the best priority first.

    Raises:
        LookupFailed: No answer, or nothing in it.
    """
    try:
        answer = dns.resolver.resolve(f"_fedmsg._tcp.{domain}", dns.rdatatype.SRV, search=False)
    # The second comes from names that no encoding of the DNS can hold.
    except (dns.exception.DNSException, UnicodeError) as error:
        raise LookupFailed(str(error) or type(error).__name__) from error
    records = [record for record in answer if isinstance(record, SRV)]
    records.sort(key=lambda record: (record.priority, -record.weight, record.target, record.port))
    # RFC 2782: the root as a target says that there is no such service.
    found = [f"tcp://{record.target.to_text(True)}:{record.port}" for record in records if len(record.target) > 1]
    if not found:
        raise LookupFailed("the domain says that it has no such service")
    return found
