"""Whom a request came from: who is believed, and that nobody chooses his own address."""

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from chat.proxies import Proxies
from chat.settings import Settings, networks
from tests.house import ChatTestCase, in_time, settings

START = RequestStartLine("GET", "/", "HTTP/1.1")
TRUSTED = "127.0.0.1, 10.0.0.0/8, ::1, fd00::/8"


class Connection:
    """What Tornado makes a request of."""

    def __init__(self, peer: str, protocol: str) -> None:
        self.context = self
        self.remote_ip = peer
        self.protocol = protocol


def believed(
    peer: str, *forwarded_for: str, trusted: str = TRUSTED, scheme: str = "", tls: bool = False
) -> tuple[str, str]:
    """The address and the scheme that a request has in the end."""
    headers = HTTPHeaders({"Host": "chat.example"})
    for line in forwarded_for:
        headers.add("X-Forwarded-For", line)
    if scheme:
        headers.add("X-Forwarded-Proto", scheme)
    connection = Connection(peer, "https" if tls else "http")
    request = HTTPServerRequest(start_line=START, headers=headers, connection=connection)  # type: ignore[arg-type]
    Proxies(networks(Settings(trusted_proxies=trusted))).believe(request)
    return str(request.remote_ip), request.protocol


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("127.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        # What the client wrote himself stands on the left.
        ("127.0.0.1", ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["rubbish, 203.0.113.7"], "203.0.113.7"),
        # Several proxies in a row.
        ("127.0.0.1", ["203.0.113.7, 10.1.2.3"], "203.0.113.7"),
        ("10.9.9.9", ["198.51.100.1, 203.0.113.7, 10.1.2.3,fd00::5"], "203.0.113.7"),
        # Nobody but proxies: the one that was asked first.
        ("127.0.0.1", ["10.1.2.3, 10.4.5.6"], "10.1.2.3"),
        # What cannot be read.
        ("127.0.0.1", ["rubbish"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7, rubbish"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7,, 10.1.2.3"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7, ,10.1.2.3"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7,"], "127.0.0.1"),
        ("127.0.0.1", ["256.1.1.1"], "127.0.0.1"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        # Other spellings.
        ("127.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("127.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("127.0.0.1", ["[2001:db8::7]"], "2001:db8::7"),
        ("::1", ["2001:DB8:0:0::7"], "2001:db8::7"),
        ("::1", ["::ffff:203.0.113.7"], "203.0.113.7"),
        ("::ffff:127.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        # From anybody else nothing is believed.
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("11.0.0.1", ["198.51.100.1"], "11.0.0.1"),
        ("::2", ["198.51.100.1"], "::2"),
        ("::ffff:203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("fe80::1%eth0", ["198.51.100.1"], "fe80::1%eth0"),
    ],
)
def test_the_address_is_that_of_the_nearest_who_is_no_trusted_proxy(
    peer: str, forwarded_for: list[str], client: str
) -> None:
    """Read from the right, as each proxy adds whom it was asked by at the end."""
    assert believed(peer, *forwarded_for)[0] == client


@bounded(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="latin-1", exclude_categories=("Cc",)), max_size=60))
def test_nothing_a_client_writes_into_the_header_counts(rubbish: str) -> None:
    """With an honest proxy behind him a client has the address he has; without one, too."""
    rubbish = rubbish.strip()
    assert believed("127.0.0.1", f"{rubbish}, 203.0.113.7")[0] == "203.0.113.7"
    assert believed("203.0.113.7", rubbish)[0] == "203.0.113.7"
    assert believed("127.0.0.1", rubbish, trusted="")[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "scheme", "tls", "protocol"),
    [
        ("127.0.0.1", "https", False, "https"),
        ("127.0.0.1", "HTTPS", False, "https"),
        ("127.0.0.1", "http", True, "http"),
        ("127.0.0.1", "https, http", False, "http"),
        ("127.0.0.1", "http,https", False, "https"),
        ("127.0.0.1", "", False, "http"),
        ("127.0.0.1", "", True, "https"),
        ("127.0.0.1", "gopher", True, "https"),
        ("203.0.113.7", "https", False, "http"),
        ("203.0.113.7", "http", True, "https"),
    ],
)
def test_the_scheme_is_what_the_nearest_proxy_says(peer: str, scheme: str, tls: bool, protocol: str) -> None:
    """And that of the connection where nobody who is trusted says one."""
    assert believed(peer, scheme=scheme, tls=tls)[1] == protocol


class LimitsBehindAProxyTest(ChatTestCase):
    """What is counted by address."""

    @in_time
    @settings(connections_per_address=1, trusted_proxies="127.0.0.1")
    async def test_sockets_are_counted_by_the_address_the_proxy_names(self) -> None:
        """Two people behind one proxy do not stand in each other's way, and one does not become two by writing."""
        await self.join(headers={"X-Forwarded-For": "203.0.113.1"})
        await self.join(headers={"X-Forwarded-For": "203.0.113.2"})
        for forged in ("203.0.113.1", "198.51.100.9, 203.0.113.1", "203.0.113.3,203.0.113.2"):
            refused = await self.refusal(self.join(headers={"X-Forwarded-For": forged}))
            self.assertEqual(refused.code, 429, forged)

    @in_time
    @settings(connections_per_address=1, trusted_proxies="")
    async def test_by_itself_nobody_is_believed(self) -> None:
        """Without trusted proxies another address every time is the same address; the log says so once."""
        with self.assertLogs("chatroom", "INFO") as logs:
            await self.join(headers={"X-Forwarded-For": "203.0.113.1"})
            for number in range(2, 5):
                refused = await self.refusal(self.join(headers={"X-Forwarded-For": f"203.0.113.{number}"}))
                self.assertEqual(refused.code, 429)
        told = [line for line in logs.output if "X-Forwarded-For of 127.0.0.1 is not believed" in line]
        self.assertEqual(len(told), 1)
        answer = await self.get("/", headers={"X-Forwarded-Proto": "https"})
        self.assertNotIn("secure", answer.headers["Set-Cookie"].lower())
