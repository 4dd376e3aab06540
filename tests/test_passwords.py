"""Passwords: dear to guess, never on the loop, and the same to check whether there is one or not."""

import asyncio
import statistics
import time
from collections.abc import Iterator

import pytest

from chat import passwords
from chat.passwords import MAX_PASSWORD, hash_password, is_password
from chat.protocol import ProtocolError
from tests.house import held

KEPT = "$argon2id$v=19$m=19456,t=2,p=1$ohadyLn68WsH6lEtGSkIZg$JzpzQqvlZqlW3T5rMHQwpyuxg1sY2qshfEurDhigmG4"


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    """Whatever a test had computed is done."""
    yield
    assert passwords._Line.waiting == 0


def test_what_is_kept_is_argon2id_with_a_salt_of_its_own() -> None:
    """19 MiB and two passes at least, and never twice the same."""
    kept = asyncio.run(hash_password("open sesame"))
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "sesame" not in kept
    assert kept != KEPT


@pytest.mark.parametrize(
    ("password", "opens"),
    [
        ("open sesame", True),
        ("\uff4fpen sesame", True),  # another keyboard's o
        ("Open sesame", False),
        ("open sesame ", False),
        ("", False),
        ("\0", False),
        (KEPT, False),
    ],
)
def test_only_the_password_opens(password: str, opens: bool) -> None:
    """In any spelling that Unicode holds for the same, and in no other."""
    assert asyncio.run(is_password(password, KEPT)) is opens


@pytest.mark.parametrize("kept", ["", "open sesame", "$argon2id$", "$argon2id$v=19$m=1,t=1,p=1$AAAA$AAAA"])
def test_without_something_kept_nothing_opens(kept: str) -> None:
    """No password, not even none, and whatever stands in its place."""
    for password in ("", "open sesame", "\0" * 32):
        assert asyncio.run(is_password(password, kept)) is False


def test_too_long_is_wrong_before_it_is_computed() -> None:
    """A novel costs nothing, and the longest that is allowed is a password."""
    longest = "x" * MAX_PASSWORD
    kept = asyncio.run(hash_password(longest))
    assert asyncio.run(is_password(longest, kept))
    with held(passwords._thread):
        assert asyncio.run(is_password(longest + "x", kept)) is False


def test_checking_without_a_password_takes_as_long() -> None:
    """Nobody learns by the time whether a room has one."""
    times: dict[str, list[float]] = {KEPT: [], "": []}
    for _ in range(7):
        for kept, taken in times.items():
            began_s = time.perf_counter()
            asyncio.run(is_password("wrong", kept))
            taken.append(time.perf_counter() - began_s)
    wrong_s, none_s = (statistics.median(taken) for taken in times.values())
    assert 0.2 < none_s / wrong_s < 5


def test_the_loop_goes_on_and_one_is_computed_at_a_time() -> None:
    """Others are served while passwords wait in line; beyond the line they are refused, and then taken again."""

    async def crowd() -> list[bool | ProtocolError]:
        with held(passwords._thread):
            asked = [asyncio.ensure_future(is_password("open sesame", KEPT)) for _ in range(passwords._MOST_WAITING)]
            await asyncio.sleep(0)
            with pytest.raises(ProtocolError) as refused:
                await is_password("open sesame", KEPT)
            assert refused.value.code == "rate_limited"
            with pytest.raises(ProtocolError):
                await hash_password("another")
            assert not any(each.done() for each in asked)
        return list(await asyncio.gather(*asked, return_exceptions=True))  # type: ignore[arg-type]

    assert asyncio.run(crowd()) == [True] * passwords._MOST_WAITING
    assert passwords._thread._max_workers == 1
    assert asyncio.run(is_password("open sesame", KEPT))
