"""Plain HTTP: the pages, the static files, the history for programs, health and metrics."""

import asyncio
import json
import re
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote

from tornado.httpclient import HTTPResponse
from tornado.testing import ExpectLog

from tests.house import BAD_INTEGERS, BAD_ROOM_NAMES, PLAIN, ChatTestCase, filled, in_time, settings
from tests.support import DEADLINE_S

BIG_TEXT = "\U0001f680" * 3500  # 14,000 bytes
MARKUP_NAMES = (
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'\" onmouseover=alert(1) x='",
    "<script>alert(1)<script>",
    "{{ 7*7 }}{% raw x %}",
    "javascript:alert(1)",
    "<b>&lt;b&gt;&amp;",
    "<!--",
    "]]>",
    "</title>".replace("/", "\u2215"),
)


class Markup(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


class HttpTestCase(ChatTestCase):
    def assert_safe_answer(self, answer: HTTPResponse, code: int) -> None:
        """The status is right, the security headers are there, and nothing of our insides is."""
        self.assertEqual(answer.code, code)
        self.assertNotIn(b"Traceback", answer.body)
        self.assertNotIn(b"tornado", answer.body.lower())
        self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(answer.headers["Referrer-Policy"], "no-referrer")
        policy = answer.headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("*", policy)

    def assert_readable(self, answer: HTTPResponse, code: int) -> None:
        """An error that a person can read."""
        self.assert_safe_answer(answer, code)
        self.assertTrue(answer.headers["Content-Type"].startswith("text/"))
        self.assertRegex(answer.body.decode(), r"[A-Za-z]{3,}")

    def assert_json_error(self, answer: HTTPResponse, code: int) -> None:
        """An error that a program can read."""
        self.assert_safe_answer(answer, code)
        self.assertTrue(answer.headers["Content-Type"].startswith("application/json"))
        self.assertRegex(json.loads(answer.body)["error"], r"[A-Za-z]{3,}")


class PagesTest(HttpTestCase):
    @in_time
    async def test_head_answers_as_get_does_without_a_body(self) -> None:
        """Link checkers and load balancers ask so: the same status and headers, and not a byte more."""
        for path in ("/", "/rooms", "/healthz"):
            with self.subTest(path):
                raw, got = await self.connect(), await self.get(path)
                raw.writer.write(f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await asyncio.wait_for(raw.reader.read(), DEADLINE_S)).partition(b"\r\n\r\n")
                self.assertEqual((head.split()[1], body), (b"200", b""))
                self.assertIn(f"Content-Type: {got.headers['Content-Type']}".encode(), head)

    @in_time
    async def test_pages_hand_out_an_identity_that_the_socket_knows(self) -> None:
        """The cookie of a page is the person on the socket; HttpOnly, SameSite=Lax, kept for long."""
        for path in ("/", "/?room=tea", "/rooms"):
            with self.subTest(path):
                answer = await self.get(path)
                self.assert_safe_answer(answer, 200)
                morsel = SimpleCookie(answer.headers["Set-Cookie"])["chatroom"]
                self.assertTrue(morsel["httponly"])
                self.assertEqual((morsel["samesite"], morsel["secure"], morsel["path"]), ("Lax", "", "/"))
                self.assertTrue(morsel["expires"])
                cookie = f"chatroom={morsel.coded_value}"
                first, second = await self.join(cookie=cookie), await self.join(cookie=cookie)
                self.assertEqual(first.id, second.id)

    @in_time
    async def test_a_page_lets_who_comes_again_keep_his_identity(self) -> None:
        """The cookie that a returning person gets is still his."""
        first = await self.join()
        answer = await self.get("/", headers={"Cookie": first.cookie})
        renewed = SimpleCookie(answer.headers["Set-Cookie"])["chatroom"].coded_value
        self.assertEqual((await self.join(cookie=f"chatroom={renewed}")).id, first.id)

    @in_time
    async def test_behind_https_the_cookie_is_secure(self) -> None:
        """A proxy on this machine that says https makes the cookie Secure; its last word counts."""
        for said, secure in (("https", True), ("http", False), ("https, http", False), ("", False)):
            with self.subTest(said):
                answer = await self.get("/", headers={"X-Forwarded-Proto": said})
                self.assertEqual("secure" in answer.headers["Set-Cookie"].lower(), secure)

    @in_time
    async def test_the_room_page_names_its_room_as_text(self) -> None:
        """Whatever a room is called, its page has the same elements and the name as it is."""
        plain = Markup((await self.get("/?room=plain")).body)
        for name in MARKUP_NAMES:
            with self.subTest(name):
                answer = await self.get(f"/?room={quote(name, safe='')}")
                self.assert_safe_answer(answer, 200)
                page = Markup(answer.body)
                self.assertEqual([tag for tag, _ in page.elements], [tag for tag, _ in plain.elements])
                body = next(attributes for tag, attributes in page.elements if tag == "body")
                self.assertEqual(body["data-room"], name)
                self.assertEqual(set(body), set(dict(plain.elements)["body"]))
                self.assertIn(name, page.words)

    @in_time
    async def test_without_a_room_the_page_is_of_default(self) -> None:
        """`/` is the room `default`."""
        page = Markup((await self.get("/")).body)
        self.assertEqual(dict(page.elements)["body"]["data-room"], "default")

    @in_time
    async def test_bad_rooms_get_a_readable_400(self) -> None:
        """The page says what is wrong with the name; markup in it stays text."""
        for name in (*BAD_ROOM_NAMES, "</title><script>alert(1)</script>"):
            with self.subTest(name):
                answer = await self.get(f"/?room={quote(name, safe='')}")
                self.assert_readable(answer, 400)
                self.assertIn(b"room name", answer.body)
                self.assertNotIn(b"<script>alert", answer.body)
        self.assert_readable(await self.get("/?room=%ff"), 400)

    @in_time
    async def test_what_is_not_there_is_a_readable_404(self) -> None:
        """A path that leads nowhere, and a static file that is not there, are told so."""
        page = await self.get("/rooms")
        static = re.search(rb"/static/[0-9a-f]{12}/", page.body)
        assert static is not None
        paths = ("/nothing", "/rooms/", "/%00", "/<script>", "/static/", "/static/x/app.js", "/wp-login.php?a=%ff")
        for path in (*paths, f"{static[0].decode()}nothing.js"):
            with self.subTest(path):
                self.assert_readable(await self.get(path), 404)

    @in_time
    async def test_other_methods_are_refused_readably(self) -> None:
        """A form that is posted to a page changes nothing and is refused."""
        for path in ("/", "/rooms", "/nothing", "/healthz"):
            with self.subTest(path):
                answer = await self.get(path, method="POST", body="a=b")
                self.assert_readable(answer, 404 if path == "/nothing" else 405)

    @in_time
    async def test_a_page_request_for_the_socket_is_told_what_it_is(self) -> None:
        """A browser that opens /ws as a page, and a WebSocket of an old version, get a readable error."""
        page = await self.get("/ws")
        self.assertIn(page.code, (400, 426))
        self.assert_readable(page, page.code)
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
        self.assert_readable(await self.get("/ws", headers={**upgrade, "Sec-WebSocket-Version": "8"}), 426)
        foreign = {**upgrade, "Sec-WebSocket-Version": "13", "Origin": "http://evil.example"}
        self.assert_readable(await self.get("/ws", headers=foreign), 403)
        bad_room = {**upgrade, "Sec-WebSocket-Version": "13"}
        self.assert_readable(await self.get("/ws?room=a/b", headers=bad_room), 400)

    @in_time
    async def test_the_policy_names_our_own_sockets_only(self) -> None:
        """A Host that is none does not get into the policy."""
        policy = (await self.get("/")).headers["Content-Security-Policy"]
        self.assertIn(f"ws://127.0.0.1:{self.get_http_port()} ", policy)
        raw = await self.connect()
        raw.writer.write(b"GET / HTTP/1.1\r\nHost: x; script-src *\r\nConnection: close\r\n\r\n")
        head = (await raw.reader.read()).partition(b"\r\n\r\n")[0]
        self.assertNotIn(b"script-src *", head)


class StaticTest(HttpTestCase):
    @in_time
    async def test_static_files_are_kept_for_ever_under_their_hash(self) -> None:
        """Every file that a page names is there, and browsers need not ask again."""
        for path in ("/", "/rooms"):
            page = Markup((await self.get(path)).body)
            named = [
                attributes.get("src") or attributes.get("href") or ""
                for tag, attributes in page.elements
                if tag in ("script", "link", "img")
            ]
            self.assertTrue(any(name.endswith(".js") for name in named))
            for name in named:
                with self.subTest(name):
                    self.assertRegex(name, r"^/static/[0-9a-f]{12}/")
                    answer = await self.get(name)
                    self.assert_safe_answer(answer, 200)
                    self.assertIn("immutable", answer.headers["Cache-Control"])

    @in_time
    async def test_files_under_an_old_hash_are_served_and_not_kept(self) -> None:
        """A page of an older version finds its files, without keeping what may not be of its version."""
        answer = await self.get("/static/0123456789ab/app.js")
        self.assert_safe_answer(answer, 200)
        self.assertEqual(answer.headers["Cache-Control"], "no-cache")

    @in_time
    async def test_nothing_outside_of_the_folder_is_served(self) -> None:
        """No way of writing a path leads out of the static files."""
        for path in ("../chatroom.py", "..%2fchatroom.py", "%2e%2e/chatroom.py", "/etc/passwd", "..", "%00"):
            with self.subTest(path), ExpectLog("tornado.general", ".*", required=False):
                answer = await self.get(f"/static/0123456789ab/{path}")
                self.assertIn(answer.code, (400, 403, 404))
                self.assertNotIn(b"import", answer.body)

    @in_time
    async def test_pages_and_answers_are_not_kept(self) -> None:
        """What changes, or belongs to one person, is not cached."""
        for path in ("/", "/rooms", "/api/rooms/x/messages", "/healthz", "/nothing"):
            with self.subTest(path):
                self.assertEqual((await self.get(path)).headers["Cache-Control"], "no-store")


class MessagesApiTest(HttpTestCase):
    people = 0

    async def ask(self, query: str, room: str = "default") -> HTTPResponse:
        """Ask as somebody who has not asked before: asking is limited by address."""
        self.people += 1
        address = f"192.0.2.{self.people}"
        return await self.get(f"/api/rooms/{quote(room, safe='')}/messages{query}", headers={"X-Real-Ip": address})

    async def page(self, query: str, room: str = "default") -> Any:
        answer = await self.ask(query, room)
        self.assert_safe_answer(answer, 200)
        self.assertTrue(answer.headers["Content-Type"].startswith("application/json"))
        return json.loads(answer.body)

    @in_time
    @filled("default", 250)
    async def test_pages_are_what_was_asked_for(self) -> None:
        """Oldest first, bounds exclusive, 50 unless said, `more` in the direction asked."""
        for query, first, last, more in (
            ("", 201, 250, True),
            ("?limit=200", 51, 250, True),
            ("?before=201", 151, 200, True),
            ("?before=11&limit=10", 1, 10, False),
            ("?before=12&limit=10", 2, 11, True),
            ("?before=9007199254740991&limit=1", 250, 250, True),
            ("?after=0", 1, 50, True),
            ("?after=240&limit=10", 241, 250, False),
            ("?after=239&limit=10", 240, 249, True),
        ):
            with self.subTest(query):
                page = await self.page(query)
                self.assertEqual(set(page), {"room", "epoch", "head", "events", "more"})
                self.assertEqual((page["room"], page["head"], page["more"]), ("default", 250, more))
                self.assertEqual(page["epoch"], self.app.event_log.epoch)
                self.assertEqual([event["seq"] for event in page["events"]], list(range(first, last + 1)))

    @in_time
    @filled("default", 5)
    async def test_beyond_the_ends_there_is_nothing(self) -> None:
        """Past either end the page is empty and there is no more in that direction."""
        for query in ("?after=5", "?after=9007199254740991", "?before=1", "?before=0"):
            with self.subTest(query):
                page = await self.page(query)
                self.assertEqual((page["events"], page["more"], page["head"]), ([], False, 5))

    @in_time
    async def test_an_unused_room_is_empty(self) -> None:
        """A room where nothing was said is no error, and asking does not make one."""
        page = await self.page("", "unused")
        self.assertEqual((page["room"], page["events"], page["head"], page["more"]), ("unused", [], 0, False))
        self.assertEqual(self.app.socket_class.rooms, {})

    @in_time
    @filled("default", 60, BIG_TEXT)
    async def test_large_pages_end_early_and_say_so(self) -> None:
        """However large the events are, an answer is bounded and reading on misses nothing."""
        seen: list[int] = []
        more = True
        while more:
            page = await self.page(f"?after={len(seen)}&limit=200")
            seen += [event["seq"] for event in page["events"]]
            more = page["more"]
            self.assertLess(len(page["events"]), 20)
        self.assertEqual(seen, list(range(1, 61)))

    @in_time
    async def test_bad_numbers_are_refused(self) -> None:
        """Both bounds, a limit beyond 1 to 200 and whatever is no integer in range get 400."""
        queries = [
            "?before=5&after=1",
            *(f"?limit={quote(bad)}" for bad in (*BAD_INTEGERS, "0", "201")),
            *(f"?{bound}={quote(bad)}" for bound in ("before", "after") for bad in BAD_INTEGERS),
            "?before=%ff",
        ]
        for query in queries:
            with self.subTest(query):
                self.assert_json_error(await self.ask(query), 400)

    @in_time
    async def test_bad_rooms_are_refused(self) -> None:
        """A bad room name is a 400 here, too; an unknown path under /api a 404, both as JSON."""
        for name in BAD_ROOM_NAMES:
            if name:
                with self.subTest(name):
                    self.assert_json_error(await self.ask("", name), 400)
        self.assert_json_error(await self.get("/api/rooms/%ff/messages"), 400)
        for path in ("/api", "/api/", "/api/rooms", "/api/rooms//messages", "/api/rooms/a/b/messages"):
            with self.subTest(path):
                self.assert_json_error(await self.get(path), 404)
        self.assert_json_error(await self.get("/api/rooms/a/messages", method="POST", body=""), 405)

    @in_time
    async def test_rooms_with_odd_names_are_asked_percent_encoded(self) -> None:
        """The room on the socket and the room of the API are one, whatever its name."""
        for name in ("100%", "a+b", "a?b", "a#b", "a&b=c", "two words", "\u00fc\U0001f680", *MARKUP_NAMES[:3]):
            with self.subTest(name):
                member = await self.join(name)
                member.say("here")
                event = await member.hears("message")
                page = await self.page("", name)
                self.assertEqual((page["room"], page["events"]), (name, [event]))

    @in_time
    async def test_asking_too_often_is_refused_with_429(self) -> None:
        """One address, or one person, cannot ask at any speed; another one can meanwhile."""
        answers = [await self.get("/api/rooms/default/messages") for _ in range(40)]
        refused = [answer for answer in answers if answer.code != 200]
        self.assertTrue(refused)
        self.assert_json_error(refused[0], 429)
        self.assertGreater(int(refused[0].headers["Retry-After"]), 0)
        self.assertEqual((await self.ask("")).code, 200)

    @in_time
    @settings(max_members=1)
    async def test_while_sockets_are_refused_so_is_the_api(self) -> None:
        """The refusal of the socket can be read here: status, Retry-After, JSON."""
        await self.join()
        self.assert_json_error(await self.get("/api/rooms/default/messages"), 503)


class HealthTest(HttpTestCase):
    @in_time
    async def test_a_server_that_can_store_is_well(self) -> None:
        """200 and `ok`."""
        answer = await self.get("/healthz")
        self.assert_safe_answer(answer, 200)
        self.assertEqual(answer.body.strip(), b"ok")


class MetricsTest(HttpTestCase):
    async def metrics(self) -> dict[str, float]:
        """What the server has counted, by name and labels."""
        answer = await self.get("/metrics")
        self.assert_safe_answer(answer, 200)
        self.assertTrue(answer.headers["Content-Type"].startswith("text/plain"))
        lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    @in_time
    async def test_what_happens_is_counted(self) -> None:
        """Members, rooms, events, deliveries, flushes, commits and refused frames are counted as they happen."""
        before = await self.metrics()
        ann, bob = await self.join("one"), await self.join("one")
        await self.join("two")
        for _ in range(3):
            ann.say("x")
            await ann.hears("ack")
        await bob.messages(3)
        ann.send(type="nope")
        await ann.hears("error")
        after = await self.metrics()
        for name, change in {
            "chatroom_members": 3,
            "chatroom_rooms": 2,
            "chatroom_events_total": 3,
            "chatroom_deliveries_total": 6,
            "chatroom_flush_seconds_count": 3,
            "chatroom_events_per_flush_count": 3,
            "chatroom_events_per_flush_sum": 3,
            "chatroom_commit_seconds_count": 3,
            'chatroom_refused_frames_total{code="unknown_type"}': 1,
        }.items():
            with self.subTest(name):
                self.assertEqual(after[name] - before.get(name, 0), change)

    @in_time
    @settings(max_members=2, connections_per_address=1)
    async def test_refused_handshakes_are_counted_by_reason(self) -> None:
        """Bad requests, foreign origins, too many of an address, a full and a draining server are told apart."""
        before = await self.metrics()
        await self.refusal(self.join(".."))
        await self.refusal(self.join(wire=["chat"]))
        await self.refusal(self.join(headers={"Origin": "http://evil.example"}))
        await self.refusal(self.join(headers={"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}))
        await self.refusal(self.join(headers={"Sec-Fetch-Site": "cross-site"}))
        await self.join()
        await self.refusal(self.join())
        await self.join(headers={"X-Real-Ip": "192.0.2.1"})
        await self.refusal(self.join(headers={"X-Real-Ip": "192.0.2.2"}))
        for member in self.here:
            member.vanish()
        await self.drain()
        await self.refusal(self.join())
        after = await self.metrics()
        for reason, change in {"bad_request": 2, "origin": 3, "address": 1, "full": 1, "draining": 1}.items():
            with self.subTest(reason):
                name = f'chatroom_refused_handshakes_total{{reason="{reason}"}}'
                self.assertEqual(after.get(name, 0) - before.get(name, 0), change)

    @in_time
    async def test_dropped_texts_of_the_plain_wire_are_counted(self) -> None:
        """What the plain wire drops without a word is counted."""
        before = await self.metrics()
        script = await self.join(wire=PLAIN)
        script.send_raw("")
        script.send_raw("end")
        while await script.next() != "end":
            pass
        name = "chatroom_dropped_plain_frames_total"
        self.assertEqual((await self.metrics())[name] - before[name], 1)
