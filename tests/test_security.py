"""What somebody tries who means harm, and where no other module of tests has it already.

SECURITY.md names the measures and, for each, the tests that hold it.
"""

import ast
import asyncio
import inspect
import json
import re
import subprocess
import sys
import time
from email.message import Message
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest
import websocket

from chat import tokens
from chat.languages import Languages
from chat.tokens import operator_key
from tests.bare import Watched, handshake
from tests.house import ChatTestCase, in_time, settings
from tests.support import DEADLINE_S, ROOT, Client, ServerProcess
from tests.test_frames import closing, masked
from tests.test_http import HttpTestCase
from tests.visitor import Visitor, done, invite, path_of, token_of

# Pages of other sites


class StrangersTest(ChatTestCase):
    async def status(self, cookie: str, **headers: str) -> int:
        """How a handshake with a person's own cookie is answered."""
        raw = await self.connect()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        raw.writer.write(handshake("GET /ws?room=lounge HTTP/1.1", **{"Cookie": cookie, **names}))
        head = await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        raw.vanish()
        return int(head.split()[1])

    @in_time
    async def test_a_stolen_click_does_not_borrow_a_cookie(self) -> None:
        """With the victim's cookie: no site enters whose name begins, ends or looks like ours."""
        victim = await self.join("lounge")
        for host, origin in (
            ("mydomain.example", "https://notmydomain.example"),
            ("mydomain.example", "https://mydomain.example.evil.example"),
            ("mydomain.example", "https://evil.mydomain.example"),
            ("mydomain.example", "https://mydomain.examplE.evil"),
            ("mydomain.example", "https://mydomain.example@evil.example"),
            ("mydomain.example", "https://evil.example/mydomain.example"),
            ("mydomain.example", "https://evil.example#mydomain.example"),
            ("mydomain.example", "https://evil.example?mydomain.example"),
            ("mydomain.example", "https://mydomain.example:444"),
            ("mydomain.example", "https://mydomain.example%00.evil.example"),
            ("mydomain.example", "https://mydomain.example\\.evil.example"),
            ("mydomain.example", "https://mydomaın.example"),
            ("mydomain.example:8888", "https://mydomain.example"),
            ("mydomain.example", "null"),
            ("mydomain.example", ""),
            ("mydomain.example", "mydomain.example"),
            ("mydomain.example", "file://"),
            ("mydomain.example", "chrome-extension://mydomain"),
            ("mydomain.example", "*"),
        ):
            with self.subTest(host=host, origin=origin):
                latin = origin.encode().decode("latin1")
                self.assertEqual(await self.status(victim.cookie, Host=host, Origin=latin), 403)

    @in_time
    async def test_two_origins_are_none_of_ours(self) -> None:
        """Whichever comes first."""
        victim = await self.join("lounge")
        for first, second in ((self.origin, "http://evil.example"), ("http://evil.example", self.origin)):
            host = urlsplit(self.origin).netloc
            raw = await self.connect()
            raw.writer.write(
                handshake("GET /ws HTTP/1.1", f"Origin: {second}", Host=host, Origin=first, Cookie=victim.cookie)
            )
            head = await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
            self.assertIn(b" 403 ", head)

    @in_time
    async def test_a_page_that_came_by_http_does_not_enter_where_https_is_spoken(self) -> None:
        """Anybody on its way could have written it; our own pages, programs and those allowed may."""
        victim = await self.join("lounge")
        secure = {"Host": "chat.example", "X-Forwarded-Proto": "https"}
        for origin, status in (
            ("http://chat.example", 403),
            ("HTTP://chat.example", 403),
            ("https://chat.example", 101),
            (None, 101),
        ):
            with self.subTest(origin):
                headers = secure | ({"Origin": origin} if origin else {})
                self.assertEqual(await self.status(victim.cookie, **headers), status)
        self.assertEqual(await self.status(victim.cookie, Host="chat.example", Origin="http://chat.example"), 101)

    @in_time
    @settings(allowed_origins="http://friend.example")
    async def test_who_is_allowed_may_come_by_http(self) -> None:
        """It is the operator's word."""
        headers = {"Host": "chat.example", "X-Forwarded-Proto": "https", "Origin": "http://friend.example"}
        self.assertEqual(await self.status("", **headers), 101)

    @in_time
    async def test_browsers_that_say_where_a_page_is_from_are_believed_against_it(self) -> None:
        """`Sec-Fetch-Site` cannot be written by a page: not ours is not let in, though the Origin looks like ours."""
        victim = await self.join("lounge")
        host = urlsplit(self.origin).netloc
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 101), ("odd", 403)):
            with self.subTest(site):
                headers = {"Host": host, "Origin": self.origin, "Sec-Fetch-Site": site}
                self.assertEqual(await self.status(victim.cookie, **headers), status)

    @in_time
    async def test_a_program_shows_no_origin_and_may_show_a_cookie(self) -> None:
        """No browser sends a handshake without one."""
        somebody = await self.join("lounge")
        self.assertEqual(await self.status(somebody.cookie), 101)


# Guessing, and what is handed out


class SecretsTest(HttpTestCase):
    def visitor(self, address: str = "") -> Visitor:
        return Visitor(self, address)

    @in_time
    async def test_guessing_the_operators_key_is_limited(self) -> None:
        """One address has forty tries and one a second after that, with a cookie or without."""
        guesser = self.visitor("192.0.2.99")
        codes = []
        for number in range(60):
            guesser.cookies.clear()
            codes.append((await guesser.post("/admin", key=f"1700000000.{number:016x}.AAAAAAAAAAAAAAAAAAAAAA")).code)
        self.assertEqual(codes[:40], [403] * 40)
        self.assertGreaterEqual(codes.count(429), 15)
        self.assertEqual((await self.visitor().post("/admin", key="x")).code, 403)

    @in_time
    async def test_guessing_an_invitation_is_limited(self) -> None:
        """As guessing a password is."""
        guesser = self.visitor("192.0.2.98")
        codes = []
        for number in range(60):
            guesser.cookies.clear()
            codes.append((await guesser.post("/door", room="lounge", invite=f"{number:012d}.{'A' * 22}")).code)
        self.assertEqual(set(codes[:40]), {403})
        self.assertGreaterEqual(codes.count(429), 10)

    @in_time
    async def test_a_bigger_allowance_is_not_had_by_naming_another_address(self) -> None:
        """What a client writes in front of its own address in X-Forwarded-For changes nothing."""
        codes = []
        for number in range(60):
            forged = {"X-Forwarded-For": f"198.51.100.{number}, 192.0.2.97", "X-Real-Ip": f"198.51.100.{number}"}
            body = urlencode({"key": "x"})
            codes.append((await self.get("/admin", method="POST", headers=forged, body=body)).code)
        self.assertIn(429, codes)

    @in_time
    async def test_every_cookie_is_out_of_reach_of_scripts_and_other_sites(self) -> None:
        """HttpOnly, SameSite=Lax, the path alone and no domain; Secure wherever https is spoken."""
        for secure in (False, True):
            headers = {"X-Forwarded-Proto": "https"} if secure else {}
            guest, key = self.visitor(), operator_key(self.app.socket_class.secret, time.time())
            member = await self.join(headers=headers)
            assert member.socket.headers is not None
            answers = [
                member.socket.headers,
                *[
                    (await guest.get(path, headers=headers)).headers
                    for path in ("/", "/rooms", "/door?room=~a-bcdefghi")
                ],
                (await self.visitor().post("/rooms", headers, name="tea")).headers,
                (await guest.post("/admin", headers, key=key)).headers,
            ]
            cookies = [line for answer in answers for line in answer.get_list("Set-Cookie")]
            self.assertEqual({line.partition("=")[0] for line in cookies}, {"chatroom", "chatroom_operator"})
            self.assertGreaterEqual(len(cookies), 6)
            for line in cookies:
                attributes = {part.strip().lower() for part in line.split(";")[1:]}
                self.assertLessEqual({"httponly", "samesite=lax", "path=/"}, attributes)
                self.assertEqual("secure" in attributes, secure)
                self.assertFalse([each for each in attributes if each.startswith("domain")])

    @in_time
    async def test_no_public_word_is_a_secret(self) -> None:
        """What everybody in a room hears names nobody's token, address or key."""
        owner = self.visitor()
        room = await owner.make_room()
        ann = await owner.enter(room)
        link = await invite(ann, uses=5)
        guest = self.visitor("192.0.2.55")
        await guest.post("/door", room=room, invite=token_of(link["path"]))
        bob = await self.join(room, cookie=guest.cookie, headers={"X-Forwarded-For": "192.0.2.55"}, name="Bob")
        ann.say("hello")
        await bob.hears("message")
        bob.send(type="people", ref=1)
        heard = json.dumps([bob.welcome, await bob.hears("people", ref=1)])
        for answer in (f"/api/rooms/{quote(room)}/messages", path_of(room)):
            heard += (await guest.get(answer)).body.decode()
        heard += (await self.get("/metrics")).body.decode()
        for secret in (
            owner.cookies["chatroom"].split("|")[-2].partition(":")[2],
            token_of(link["path"]),
            self.app.socket_class.secret,
            "192.0.2.55",
        ):
            self.assertNotIn(secret, heard)

    @in_time
    async def test_metrics_name_no_room_and_no_person(self) -> None:
        """They are for everybody: numbers, and labels that are the same on every server."""
        ann = await self.join("a room nobody should know of", name="Annabel Lee")
        ann.send(type="a type nobody should know of")
        await ann.hears("error")
        await self.refusal(self.join("/etc"))
        labels = set(re.findall(r'="([^"]*)"', (await self.get("/metrics")).body.decode()))
        self.assertFalse({label for label in labels if re.search(r"nobody|Annabel|etc", label)})


def test_what_was_signed_is_compared_in_constant_time() -> None:
    """By hmac.compare_digest, and no signature by anything else."""
    with patch("hmac.compare_digest", wraps=__import__("hmac").compare_digest) as compared:
        assert not tokens.is_operator_key("s" * 32, operator_key("t" * 32, 1_700_000_000), 1_700_000_000)
        assert tokens.invite_of("s" * 32, "~a", tokens.invite_token("t" * 32, "~a", "x")) is None
        assert compared.call_count == 2
    compares = [node for node in ast.walk(ast.parse(inspect.getsource(tokens))) if isinstance(node, ast.Compare)]
    assert not [each for each in compares if "signature" in ast.unparse(each)]


# What gets into the log

ESCAPES = "\x1b[31mred\x1b[0m\x07\x9b2J\r\n2026-01-01 00:00:00,000 ERROR forged\u2028\u202eevil"
PASSWORD = "correct horse battery staple"


class NoRedirects(HTTPRedirectHandler):
    """Whoever is sent elsewhere stays."""

    def redirect_request(self, *_: Any) -> None:
        return None


def asked(url: str, cookie: str = "", **form: str) -> Message:
    """The headers of the answer to a page or a form, whatever its status."""
    data = urlencode(form).encode() if form else None
    request = Request(url, data, {"Cookie": cookie, "Referer": url})
    try:
        with build_opener(NoRedirects).open(request, timeout=DEADLINE_S) as answer:
            return answer.headers
    except HTTPError as error:
        with error:
            return error.headers


def token_in(headers: Message) -> str:
    """The secret part of the cookie that was handed out."""
    return headers["Set-Cookie"].split(";")[0].split("|")[-2].partition(":")[2]


def used_in_forms(url: str, room: str, token: str, key: str) -> str:
    """Use each secret once as it is and once wrong; returns the token of whom the invitation let in."""
    guest = asked(f"{url}/door", room=room, invite=token)
    asked(f"{url}/door", room=room, invite=token[:-1] + "~")
    asked(f"{url}/door", room=room, password=PASSWORD)
    asked(f"{url}/door", room=room, password=PASSWORD + "!")
    for right_or_wrong in (key + "x", key, key):
        asked(f"{url}/admin?key={right_or_wrong}")
        asked(f"{url}/admin", key=right_or_wrong)
    return token_in(guest)


def used_in_addresses(url: str, room: str, token: str, key: str) -> None:
    """Secrets where they do not belong: in the addresses of pages, errors and handshakes."""
    query = f"invite={token}&key={key}&password={quote(PASSWORD)}&cookie={token}"
    for path in ("/nowhere", "/api/rooms/%2e%2e/messages", "/ws", "/static/000000000000/x", "/rooms", "/qr.svg"):
        asked(f"{url}{path}?{query}")
    for more in ("", "&epoch=x", "&room=.."):
        with pytest.raises(websocket.WebSocketBadStatusException):
            websocket.create_connection(f"{url.replace('http', 'ws')}/ws?room={quote(room)}&{query}{more}")


def used_in_frames(owner: Client, token: str) -> None:
    """In what is said, and in frames for which one is put out: that is told in the log."""
    owner.say(f"come in by {token}, or with {PASSWORD}")
    owner.hear("message")
    for _ in range(20):
        owner.send(type=token, text=PASSWORD)
    while owner.socket.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
        pass


def test_no_secret_gets_into_the_log(tmp_path: Path) -> None:
    """Invitations, passwords, keys and cookies, used well and badly, in addresses, forms and frames."""
    with ServerProcess(tmp_path / "chatroom.db", message_rate=0, secret="s" * 40) as server:
        made = asked(f"{server.url}/rooms", name="tea")
        room, key = parse_qs(urlsplit(made["Location"]).query)["room"][0], operator_key("s" * 40, time.time())
        with Client(server.url, room, cookie=made["Set-Cookie"].split(";")[0]) as owner:
            owner.send(type="invite", seconds=3600, uses=2)
            token = token_of(owner.hear("invite")["path"])
            owner.send(type="password", password=PASSWORD)
            owner.hear("done")
            guest = used_in_forms(server.url, room, token, key)
            used_in_addresses(server.url, room, token, key)
            used_in_frames(owner, token)
        assert server.terminate() == 0
    log = "\n".join(server.log)
    assert "too many bad frames" in log
    secrets = [token_in(made), guest, token, key, PASSWORD, quote(PASSWORD), "s" * 40]
    assert [secret for secret in secrets if secret in log] == []
    assert not re.search("ERROR|Traceback", log)


def test_no_control_character_gets_into_the_log(tmp_path: Path) -> None:
    """Rooms, names, paths, agents, origins and frames with ANSI and line ends write no line and colour none."""
    with Watched(tmp_path) as chat:
        quoted = quote(ESCAPES)
        raw = ESCAPES.encode("utf-8").decode("latin1").replace("\r", "").replace("\n", "")
        clean = re.sub(r"[\x00-\x1f\x7f]", "", raw)
        for target in (f"/ws?room={quoted}", f"/ws?name={quoted}", f"/{quoted}", f"/api/rooms/{quoted}/messages"):
            with chat.bare(
                handshake(
                    f"GET {target} HTTP/1.1", f"User-Agent: {clean}", f"Referer: {clean}", Origin=f"http://{clean}"
                )
            ) as peer:
                assert peer.status() in (400, 403, 404)
            with chat.bare(handshake(f"GET {target} HTTP/1.1", f"User-Agent: {clean}")) as peer:
                assert peer.status() in (101, 400, 404)
        with Client(chat.server.url, "room \u00fc \U0001f680 [31m", name="R\u00e9d") as member:
            for _ in range(20):
                member.send(type=ESCAPES, ref=ESCAPES)
            while member.socket.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
                pass
        with chat.bare(handshake() + closing(1000, ESCAPES.encode()) + masked(0x8A, ESCAPES.encode())) as peer:
            assert (peer.status(), peer.close_code()) == (101, 1000)
    assert [line for line in chat.server.log if "too many bad frames" in line]
    assert [line for line in chat.server.log if not re.fullmatch(r"[ -~]+", line) or "forged" in line] == []


# Texts that make parsers slow

_SLOW_TEXTS = """
from chat import identity, protocol
from chat.filter import TextFilter, check_patterns, folded, has_link
from chat.languages import Languages
from chat.protocol import Pattern, ProtocolError, encode
pieces = (
    "@", "@ ", "(", "((", ")(", "[", "![](", "a.", "a.a.", "http://", "http://a.", "//", ":", "www.", "-", "a-", "*_",
    "`", "\\\\", " ", "\\n", "\\t ", "\\u0301", "\\u0301\\u0323", "\\u200d", "\\u202e", "\\U0001f680\\u200d",
    "\\u0e33", "\\ufdfa", "1.1.1.1:", "x@a.",
)
texts = [(piece * 65536)[:65536] for piece in pieces]
patterns = [Pattern(line, True) for line in (r"(a|a.)+$", r"(@+)+b", r"([(]*)*x", r"\\w+@\\w+\\.\\w+", r"^(.*)*x$")]
check_patterns(patterns)
languages = Languages()
for text in texts:
    has_link(text)
    TextFilter([*patterns, Pattern("scam"), Pattern("a.a.b"), Pattern("@@b")]).found(text[:4000])
    TextFilter(patterns).found(text)
    languages.choose(None, text)
    for read in (identity.room_name, identity.display_name, protocol.checked_text, protocol.decode,
                 lambda text: protocol.decode('{"type":"say","client_id":' + encode(text).decode() + ',"text":"x"}'),
                 lambda text: protocol.decode('{"type":' + encode(text).decode() + '}'),
                 lambda text: protocol.decode('{"type":"people","query":' + encode(text).decode() + '}')):
        try:
            read(text)
        except ProtocolError:
            pass
print("done")
"""


def test_64_kb_of_signs_take_no_time_to_speak_of() -> None:
    """Mentions, brackets, dots, marks: whatever looks for something in a text comes to its end."""
    command = [sys.executable, "-c", _SLOW_TEXTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_of_languages_that_are_asked_for_the_first_fifty_count() -> None:
    """A header of 15 kB has room for 8,000 of them, each of which would be compared with each of ours."""
    languages = Languages()
    assert languages.choose(None, "xx," * 49 + "zh") == "zh-Hans"
    assert languages.choose(None, "xx," * 50 + "zh") == "en"


# Resuming with what one never had


class ForgedPastTest(ChatTestCase):
    @in_time
    async def test_no_forged_past_costs_or_tells_more_than_a_newcomers(self) -> None:
        """An epoch of another server or of nobody, a seq beyond the head: `reset`, and the newest events."""
        ann = await self.join("one")
        for number in range(60):
            ann.say(str(number))
        await ann.messages(60)
        epoch = ann.welcome["epoch"]
        for past in (
            {"epoch": epoch, "after": 61},
            {"epoch": epoch, "after": 2**53 - 1},
            {"epoch": epoch.lower() + "x", "after": 5},
            {"epoch": "' OR 1=1 --", "after": 0},
            {"epoch": "\0", "after": 0},
            {"epoch": "x" * 10_000, "after": 0},
            {"epoch": "\U0001f680", "after": 1},
        ):
            with self.subTest(str(past)[:60]):
                back = await self.join("one", **past)
                self.assertEqual(back.welcome["resumed"], "reset")
                self.assertEqual([event["seq"] for event in await back.messages(50)], list(range(11, 61)))

    @in_time
    async def test_a_past_opens_no_closed_room(self) -> None:
        """Who was put out knows epoch and seq, and that is all he knows."""
        owner, guest = Visitor(self), Visitor(self)
        room = await owner.make_room()
        ann = await owner.enter(room)
        await guest.post("/door", room=room, invite=token_of((await invite(ann))["path"]))
        bob = await guest.enter(room)
        ann.say("before")
        seen = await bob.hears("message")
        await done(ann, type="ban", person=bob.id)
        self.assertEqual(await bob.closed(), 1008)
        past = {"epoch": bob.welcome["epoch"], "after": seen["seq"] - 1}
        answer = await self.refusal(self.join(room, cookie=guest.cookie, **past))
        self.assertEqual(answer.code, 403)
        self.assertNotIn(b"before", answer.body)
        for path in (f"after={past['after']}", "before=999", ""):
            answer = await guest.get(f"/api/rooms/{quote(room, safe='')}/messages?{path}")
            self.assertEqual(answer.code, 403)


def test_every_test_that_security_names_is_there() -> None:
    """SECURITY.md promises nothing that is not held."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text("utf-8")))
    there = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    assert len(named) > 40
    assert named - there == set()
