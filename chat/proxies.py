"""Whom a request came from, when proxies stand in between.

Owns which of them are believed. Knows nothing of rooms, people or pages. Invariant: an address that a header names
counts only if every hop between it and this server is a trusted proxy, so that no client can choose his own.
"""

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from tornado.httputil import HTTPServerRequest

log = logging.getLogger("chatroom")

Address = IPv4Address | IPv6Address


class Proxies:
    """The networks of the trusted proxies; all others are believed nothing."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = networks
        self._has_told = False

    def believe(self, request: HTTPServerRequest) -> None:
        """Let a request have the address and the scheme of its client, if trusted proxies tell them."""
        peer = _parsed(request.remote_ip or "")
        if peer is None:
            return
        if self._is_trusted(peer):
            request.remote_ip = str(self._client(peer, request.headers.get("X-Forwarded-For", "")))
            request.protocol = _scheme(request.headers.get("X-Forwarded-Proto", "")) or request.protocol
        else:
            request.remote_ip = str(peer)
            self._tell_once(request)

    def _client(self, peer: Address, forwarded_for: str) -> Address:
        """The nearest hop that is no trusted proxy, the farthest if all are; `peer` where a hop cannot be read."""
        client = peer
        for hop in _from_the_right(forwarded_for):
            if hop is None:
                return peer
            client = hop
            if not self._is_trusted(hop):
                break
        return client

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def _tell_once(self, request: HTTPServerRequest) -> None:
        if not self._has_told and "X-Forwarded-For" in request.headers:
            self._has_told = True
            log.info(
                "X-Forwarded-For of %s is not believed: a proxy is named with --trusted_proxies", request.remote_ip
            )


def _from_the_right(forwarded_for: str) -> Iterator[Address | None]:
    """The hops, nearest first: each proxy adds whom it was asked by at the end."""
    return (_parsed(hop) for hop in reversed(forwarded_for.split(",")) if forwarded_for.strip())


@lru_cache(maxsize=4096)
def _parsed(hop: str) -> Address | None:
    """An address as proxies write them, with a port or without; IPv4 in IPv6 is IPv4."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _scheme(forwarded_proto: str) -> str:
    """What the nearest proxy says it was asked by; "" if it says nothing that can be used."""
    said = forwarded_proto.rpartition(",")[2].strip().lower()
    return said if said in ("http", "https") else ""
