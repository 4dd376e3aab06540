"""Words that the server signs and later knows again, and the address of a person in a form that may be kept.

Owns how an invitation's link and the operator's key are written. Knows no request, no storage and no clock.
Invariant: what is signed for one purpose is good for no other, and comparing takes the same time whatever is wrong.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
from functools import lru_cache

OPERATOR_KEY_S = 600
_SIGNATURE_BYTES = 16  # nobody guesses 128 bits, and a link stays short enough for a QR code


def invite_token(secret: str, room: str, invite_id: str) -> str:
    """What stands in an invitation's link: its id, signed for this room."""
    return f"{invite_id}.{_signature(secret, 'invitation', room, invite_id)}"


def invite_of(secret: str, room: str, token: str) -> str | None:
    """The id of the invitation whose link this is, if we have signed it for this room."""
    invite_id, _, signature = token.partition(".")
    return invite_id if _is_signed(signature, secret, "invitation", room, invite_id) else None


def operator_key(secret: str, now_s: float) -> str:
    """A key that makes a browser the operator's, for ten minutes; each is another one."""
    until_s, nonce = str(int(now_s) + OPERATOR_KEY_S), secrets.token_hex(8)
    return f"{until_s}.{nonce}.{_signature(secret, 'operator', until_s, nonce)}"


def is_operator_key(secret: str, key: str, now_s: float) -> bool:
    """Whether we made this key less than ten minutes ago."""
    found = re.fullmatch(r"([0-9]{1,16})\.([0-9a-f]{16})\.([A-Za-z0-9_-]{1,64})", key)
    if found is None or not _is_signed(found[3], secret, "operator", found[1], found[2]):
        return False
    return 0 <= int(found[1]) - now_s <= OPERATOR_KEY_S


@lru_cache(maxsize=4096)
def address_key(secret: str, address: str) -> str:
    """One of an IPv4 address, or of a whole IPv6 network (/64); without the secret it tells nothing of it."""
    return _signature(secret, "address", address_block(address))


def address_block(address: str) -> str:
    """What one person has of addresses, at least: one of IPv4, a /64 of IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address  # a socket of another kind: it has a name
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _signature(secret: str, *parts: str) -> str:
    """Of parts that have no NUL in them; the first says what it is for."""
    digest = hmac.digest(secret.encode(), "\0".join(("chatroom", *parts)).encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:_SIGNATURE_BYTES]).decode().rstrip("=")


def _is_signed(signature: str, secret: str, *parts: str) -> bool:
    return hmac.compare_digest(signature.encode(), _signature(secret, *parts).encode())
