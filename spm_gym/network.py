"""Network addresses."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Check whether an address is reached from this computer only; of names only localhost is.

    Names are not resolved: who answers for a name may change between the check and the use.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
