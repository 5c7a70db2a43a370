"""Addresses of callers, as they are counted. Knows no Django: the server's protocol is loaded before it."""

import ipaddress

IPV6_PREFIX = 64
"""One household or machine has as many addresses as it likes within it."""


def network_of(address: str) -> str:
    """The address that is counted: itself, or the network of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
