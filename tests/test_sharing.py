"""Limits that several servers share: what is taken at one is taken at all, within a moment."""

import asyncio
import time

import msgspec
import pytest

from chat.limits import RateLimit
from chat.sharing import SharedRates
from tests.book import on_a_loop
from tests.house import until


class Server:
    """One with a limit of three at once; what it tells reaches all of `servers`."""

    def __init__(self, name: str, servers: list["Server"]) -> None:
        self.told: list[bytes] = []
        self.limit = RateLimit(0.001, 3)
        self.rates = SharedRates(name, self._tell)
        self.rates.share("says", self.limit)
        self._servers = servers
        servers.append(self)

    def _tell(self, payload: bytes) -> None:
        self.told.append(payload)
        for server in self._servers:
            server.rates.hear(payload)

    def takes(self, person_id: str = "ann") -> bool:
        return not self.limit.wait_s(person_id, time.monotonic())


@pytest.fixture
def two() -> list[Server]:
    servers: list[Server] = []
    return [Server("one", servers), Server("two", servers)]


@on_a_loop
async def test_what_one_server_gave_the_other_does_not_give_again(two: list[Server]) -> None:
    """All that was taken within a tenth of a second is told at once."""
    one, other = two
    assert one.takes() and one.takes() and one.takes("bo")
    await until(lambda: one.told)
    assert [other.takes(), other.takes()] == [True, False]
    assert [other.takes("bo"), other.takes("bo"), other.takes("bo")] == [True, True, False]
    assert len(one.told) == 1


@on_a_loop
async def test_what_was_taken_beyond_the_limit_is_waited_for_afterwards(two: list[Server]) -> None:
    """Two servers that are asked at the same moment give a burst each."""
    one, other = two
    assert all(each.takes() for each in (one, other) for _ in range(3))
    await until(lambda: one.told and other.told)
    assert one.limit.wait_s("ann", time.monotonic()) > 3000


@on_a_loop
async def test_a_refusal_and_no_limit_are_not_told(two: list[Server]) -> None:
    """Nor is anything told by a server that is alone."""
    one, _ = two
    alone = SharedRates("", one.told.append)
    limit, none = RateLimit(1, 1), RateLimit(0, 0)
    alone.share("says", limit)
    one.rates.share("asks", none)
    assert not limit.wait_s("ann", 1.0)
    assert not none.wait_s("ann", 1.0)
    none.charge("ann", 5, 1.0)
    assert not none.wait_s("ann", 1.0)
    while one.takes():
        pass
    await until(lambda: one.told)
    assert not one.takes()
    await asyncio.sleep(0)
    assert len(one.told) == 1
    assert b'"ann":3' in one.told[0]


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b'{"kind":"taken"}', b'{"kind":"taken","server":"x","taken":{"says":[]}}']
)
def test_what_no_server_tells_is_refused(payload: bytes, two: list[Server]) -> None:
    with pytest.raises(msgspec.DecodeError):
        two[0].rates.hear(payload)
