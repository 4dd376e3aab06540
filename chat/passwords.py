"""Passwords of closed rooms: argon2id, computed beside the loop, one at a time.

Owns how dear a guess is and how many may wait. Knows no room. Invariant: checking takes as long where there is no
password as where it is wrong.
"""

import asyncio
import base64
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chat.protocol import ProtocolError

MAX_PASSWORD = 128  # code points

# OWASP's least for argon2id: 19 MiB and 55 ms of one core; the library's own choice takes 64 MiB and four threads.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_thread = ThreadPoolExecutor(1, "passwords")
_MOST_WAITING = 16

T = TypeVar("T")


def _empty(size_bytes: int) -> str:
    return base64.b64encode(bytes(size_bytes)).decode().rstrip("=")


# What no password has: to compare with it costs what comparing costs.
_NOBODYS = f"$argon2id$v=19$m={19 * 1024},t=2,p=1${_empty(16)}${_empty(32)}"


class _Line:
    """How many wait for the one thread."""

    waiting = 0


async def hash_password(password: str) -> str:
    """What may be kept of a password; raises ProtocolError `rate_limited` when too many wait."""
    return await _computed(_hasher.hash, _spelled(password))


async def is_password(password: str, kept: str) -> bool:
    """Whether this is the password of which `kept` was kept; "" is nobody's. Raises ProtocolError `rate_limited`."""
    if len(password) > MAX_PASSWORD:
        return False
    return await _computed(_verify, kept or _NOBODYS, _spelled(password))


def _verify(kept: str, password: str) -> bool:
    try:
        return _hasher.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False


def _spelled(password: str) -> str:
    """One spelling, whichever keyboard it comes from."""
    return unicodedata.normalize("NFKC", password)


async def _computed(compute: Callable[..., T], *arguments: str) -> T:
    if _Line.waiting >= _MOST_WAITING:
        sentence = "Too many passwords are being checked; try again in a moment."
        raise ProtocolError("rate_limited", sentence, retry_after=2)
    _Line.waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_thread, compute, *arguments)
    finally:
        _Line.waiting -= 1
