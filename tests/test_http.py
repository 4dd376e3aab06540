"""Plain HTTP: the pages, the static files, the history for programs, health and metrics."""

import asyncio
import gzip
import json
import re
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote

import segno
from tornado.httpclient import HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.testing import ExpectLog

from chat.limits import Turns
from tests.house import BAD_INTEGERS, BAD_ROOM_NAMES, PLAIN, ChatTestCase, filled, in_time, settings, until
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

POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'self'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
FILE_POLICY = ("default-src 'none'", "frame-ancestors 'self'")
FIRST_VIEW_BYTES = 100_000


class Markup(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.decode())
        self.close()

    def attributes(self, tag: str, **having: str) -> list[dict[str, str | None]]:
        """Those of every element `tag` that has all of `having`."""
        return [found for name, found in self.elements if name == tag and having.items() <= found.items()]

    def files(self) -> list[str]:
        """What a browser loads because of the page."""
        named = (
            found.get("src") or found.get("href") for tag, found in self.elements if tag in ("script", "link", "img")
        )
        return [name for name in named if name]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


class HttpTestCase(ChatTestCase):
    def assert_safe_answer(self, answer: HTTPResponse, code: int, rules: tuple[str, ...] = POLICY) -> None:
        """The status is right, the security headers are there, and nothing of our insides is."""
        self.assertEqual(answer.code, code)
        self.assertNotIn(b"Traceback", answer.body)
        self.assertNotIn(b"tornado", answer.body.lower())
        self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
        self.assertIn(answer.headers["Referrer-Policy"], ("no-referrer", "same-origin"))  # other sites learn nothing
        policy = answer.headers["Content-Security-Policy"]
        for rule in rules:
            self.assertIn(rule, policy.split("; "))
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("*", policy)

    async def bare(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPHeaders, bytes, int]:
        """What comes over the wire, not unpacked: the headers, the body and the bytes of it all."""
        raw = await self.connect()
        asked = {"Host": "127.0.0.1", **headers, "Connection": "close"}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in asked.items())
        raw.writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        answer = await asyncio.wait_for(raw.reader.read(), DEADLINE_S)
        head, _, body = answer.partition(b"\r\n\r\n")
        status, _, rest = head.decode("latin1").partition("\r\n")
        found = HTTPHeaders.parse(rest)
        found["Status"] = status.split()[1]
        return found, body, len(answer)

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
        for path in ("/", "/rooms", "/healthz", "/qr.svg?room=a", "/static/0123456789ab/app.js"):
            for encoding in ("gzip", "identity"):
                with self.subTest(path, encoding=encoding):
                    head, body, _ = await self.bare(path, "HEAD", Accept_Encoding=encoding)
                    got, _, _ = await self.bare(path, Accept_Encoding=encoding)
                    self.assertEqual((head["Status"], body), ("200", b""))
                    for name in ("Content-Type", "Content-Length", "Content-Encoding", "Cache-Control"):
                        self.assertEqual(head.get(name), got.get(name))

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
                self.assertEqual(int(morsel["max-age"]), 400 * 86400)
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
        """A form that is posted to a page without one changes nothing and is refused."""
        for path in ("/", "/nothing", "/healthz"):
            with self.subTest(path):
                answer = await self.get(path, method="POST", body="a=b")
                self.assert_readable(answer, 404 if path == "/nothing" else 405)

    @in_time
    async def test_an_error_hands_out_no_identity(self) -> None:
        """A form of another site comes without its person's cookie: the answer must not give him another one."""
        for path in ("/", "/rooms", "/door", "/admin", "/nothing", "/qr.svg"):
            with self.subTest(path):
                answer = await self.get(path, method="POST", body="a=b", headers={"Origin": "http://evil.example"})
                self.assertIn(answer.code, (403, 404, 405))
                self.assertNotIn("Set-Cookie", answer.headers)

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

    @in_time
    async def test_a_link_that_only_works_here_comes_with_one_for_others(self) -> None:
        """Who opened a page as this machine's own is told where others reach it; who is one of them needs no other."""
        self.app.settings["shared_origin"] = lambda: "http://192.0.2.2:8888"
        for host, share in (
            ("localhost:8888", "http://192.0.2.2:8888"),
            ("LOCALHOST", "http://192.0.2.2:8888"),
            ("chat.localhost", "http://192.0.2.2:8888"),
            ("127.0.0.1:1", "http://192.0.2.2:8888"),
            ("[::1]:8888", "http://192.0.2.2:8888"),
            ("192.0.2.2:8888", ""),
            ("localhost.example", ""),
            ("chat.example", ""),
        ):
            with self.subTest(host):
                page = Markup((await self.get("/", headers={"Host": host})).body)
                self.assertEqual(page.attributes("body")[0]["data-share"], share)


class LanguageTest(HttpTestCase):
    @in_time
    async def test_a_page_is_in_the_language_the_browser_asks_for(self) -> None:
        """Pages, and the sentences their scripts speak, are of one language, and caches are told what it hangs on."""
        for asked, language, title in (("de, zh-CN;q=0.5", "zh-Hans", "房间"), ("en-GB", "en", "Rooms")):
            for path in ("/", "/rooms", "/nothing"):
                with self.subTest(path, language=language):
                    answer = await self.get(path, headers={"Accept-Language": asked})
                    page = Markup(answer.body)
                    self.assertEqual(page.attributes("html"), [{"lang": language}])
                    self.assertEqual(answer.headers["Content-Language"], language)
                    varies = {name.strip() for name in answer.headers["Vary"].split(",")}
                    self.assertEqual(varies, {"Accept-Language", "Cookie", "Accept-Encoding"})
            page = Markup((await self.get("/", headers={"Accept-Language": asked})).body)
            self.assertEqual(words_of(page)["rooms.title"], title)
            options = {one["value"]: "selected" in one for one in page.attributes("option")}
            self.assertEqual(options, {"en": language == "en", "zh-Hans": language == "zh-Hans"})

    @in_time
    async def test_a_persons_choice_wins(self) -> None:
        """The cookies that a page writes choose language and colours; what is no choice of ours counts as none."""
        for cookie, attributes in (
            ("language=zh-Hans", {"lang": "zh-Hans"}),
            ("theme=dark", {"lang": "en", "data-theme": "dark"}),
            ("theme=light; language=zh-Hans", {"lang": "zh-Hans", "data-theme": "light"}),
            ("theme=; language=", {"lang": "en"}),
            ('theme="x onload=y"; language=../en', {"lang": "en"}),
            ("theme=Dark; language=zh-hans", {"lang": "en"}),
        ):
            for path in ("/rooms", "/nothing"):
                with self.subTest(path, cookie=cookie):
                    page = Markup((await self.get(path, headers={"Cookie": cookie})).body)
                    self.assertEqual(page.attributes("html"), [attributes])

    @in_time
    async def test_errors_are_told_in_the_language(self) -> None:
        """English says what exactly is wrong, another language what kind of fault; programs get English."""
        chinese = {"Accept-Language": "zh"}
        for path, sentence in (("/nothing", "这个地址没有内容。"), ("/?room=a/b", "这个地址有错误。")):
            with self.subTest(path):
                page = Markup((await self.get(path, headers=chinese)).body)
                self.assertIn(sentence, page.words)
                self.assertNotIn("room name", " ".join(page.words))
        answer = await self.get("/api/rooms/a%2Fb/messages", headers=chinese)
        self.assertIn("room name", json.loads(answer.body)["error"])


def words_of(page: Markup) -> Any:
    """The sentences that the page hands to its scripts."""
    assert page.attributes("script", id="words") == [{"id": "words", "type": "application/json"}]
    return next(json.loads(text) for text in page.words if text.startswith('{"'))


class WireTest(HttpTestCase):
    @in_time
    async def test_the_first_view_is_small(self) -> None:
        """All that a browser must load before somebody can talk, headers and all, is under 100 kB."""
        packed = {"Accept-Encoding": "gzip, deflate", "Accept-Language": "zh"}
        _, body, total_bytes = await self.bare("/", **packed)
        page = Markup(gzip.decompress(body))
        named = page.files()
        self.assertEqual(len(named), len(set(named)))
        for path in named:
            headers, _, size_bytes = await self.bare(path, **packed)
            self.assertEqual(headers["Status"], "200", path)
            total_bytes += size_bytes
        self.assertGreater(len(named), 20)
        self.assertLess(total_bytes, FIRST_VIEW_BYTES)

    @in_time
    async def test_whoever_takes_gzip_gets_it(self) -> None:
        """Pages, files and history come compressed to who says so, and the same as they are to who does not."""
        member = await self.join()
        for _ in range(20):
            member.say("again and again")
        await member.messages(20)
        base = self.app.settings["assets"].base
        for path in (
            "/",
            "/rooms",
            f"{base}/app.js",
            f"{base}/style.css",
            "/api/rooms/default/messages",
        ):
            plain, body, _ = await self.bare(path)
            self.assertNotIn("Content-Encoding", plain)
            self.assertEqual(plain["Content-Length"], str(len(body)))
            for accepted, is_taken in (("gzip", True), ("br, gzip;q=0.5", True), ("br", False)):
                with self.subTest(path, accepted=accepted):
                    headers, sent, _ = await self.bare(path, Accept_Encoding=accepted)
                    self.assertEqual(headers.get("Content-Encoding"), "gzip" if is_taken else None)
                    self.assertIn("Accept-Encoding", headers["Vary"])
                    self.assertEqual(headers["Content-Length"], str(len(sent)))
                    self.assertEqual(gzip.decompress(sent) if is_taken else sent, body)

    @in_time
    async def test_the_handshake_and_health_stay_as_they_are(self) -> None:
        """What is asked of the server by programs that know nothing of gzip is not compressed."""
        member = await self.join(headers={"Accept-Encoding": "gzip"})
        assert member.socket.headers is not None
        self.assertNotIn("Content-Encoding", member.socket.headers)
        self.assertNotIn("Sec-Websocket-Extensions", member.socket.headers)
        headers, body, _ = await self.bare("/healthz", Accept_Encoding="gzip")
        self.assertNotIn("Content-Encoding", headers)
        self.assertEqual(body, b"ok\n")


class StaticTest(HttpTestCase):
    @in_time
    async def test_a_page_asks_for_all_its_modules_at_once(self) -> None:
        """The module in the page and all that it imports are named in the page, each once."""
        assets = self.app.settings["assets"]
        page = Markup((await self.get("/")).body)
        named = [found["href"] for found in page.attributes("link", rel="modulepreload")]
        self.assertEqual(named, [f"{assets.base}/{name}" for name in assets.modules])
        self.assertEqual(page.attributes("script", type="module")[0]["src"], f"{assets.base}/app.js")

    @in_time
    async def test_files_have_their_types(self) -> None:
        """Browsers that may not sniff take a file for what it is said to be."""
        for name, type in (
            ("app.js", "text/javascript"),
            ("style.css", "text/css; charset=UTF-8"),
            ("icon.svg", "image/svg+xml"),
        ):
            self.assertEqual((await self.get(f"/static/0123456789ab/{name}")).headers["Content-Type"], type)

    @in_time
    async def test_a_file_that_is_there_already_is_not_sent_again(self) -> None:
        """Asked with the tag of what it has, in either form, a browser gets 304 and no body."""
        for encoding in ("gzip", "identity"):
            with self.subTest(encoding):
                path = "/static/0123456789ab/app.js"
                first, body, _ = await self.bare(path, Accept_Encoding=encoding)
                again, nothing, _ = await self.bare(path, Accept_Encoding=encoding, If_None_Match=first["Etag"])
                self.assertEqual((again["Status"], nothing), ("304", b""))
                self.assertEqual(again["Cache-Control"], "no-cache")
                other, same, _ = await self.bare(path, Accept_Encoding=encoding, If_None_Match='W/"0"')
                self.assertEqual((other["Status"], same), ("200", body))

    @in_time
    async def test_static_files_are_kept_for_ever_under_their_hash(self) -> None:
        """Every file that a page names is there, and browsers need not ask again."""
        for path in ("/", "/rooms"):
            page = Markup((await self.get(path)).body)
            named = page.files()
            self.assertTrue(any(name.endswith(".js") for name in named))
            for name in named:
                with self.subTest(name):
                    self.assertRegex(name, r"^/static/[0-9a-f]{12}/")
                    answer = await self.get(name)
                    self.assert_safe_answer(answer, 200, FILE_POLICY)
                    self.assertIn("immutable", answer.headers["Cache-Control"])

    @in_time
    async def test_files_under_an_old_hash_are_served_and_not_kept(self) -> None:
        """A page of an older version finds its files, without keeping what may not be of its version."""
        answer = await self.get("/static/0123456789ab/app.js")
        self.assert_safe_answer(answer, 200, FILE_POLICY)
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


class QrCodeTest(HttpTestCase):
    @in_time
    async def test_the_code_is_the_link_of_the_room(self) -> None:
        """Whatever the room is called and however it was reached, the code says where it was asked for."""
        for host, proxied, name, link in (
            ("chat.example", {}, "tea", "http://chat.example/?room=tea"),
            ("192.0.2.2:8888", {}, "a b&c=d#e?f%!", "http://192.0.2.2:8888/?room=a%20b%26c%3Dd%23e%3Ff%25!"),
            ("[2001:db8::1]:80", {}, "'*(~._-)", "http://[2001:db8::1]:80/?room='*(~._-)"),
            ("chat.example", {"X-Forwarded-Proto": "https"}, "\u00fc", "https://chat.example/?room=%C3%BC"),
            ("chat.example", {}, "\U0001f680" * 64, f"http://chat.example/?room={'%F0%9F%9A%80' * 64}"),
        ):
            with self.subTest(link):
                answer = await self.get(f"/qr.svg?room={quote(name, safe='')}", headers={"Host": host, **proxied})
                self.assert_safe_answer(answer, 200)
                self.assertEqual(answer.headers["Content-Type"], "image/svg+xml")
                self.assertEqual(answer.headers["Cache-Control"], "private, max-age=600")
                self.assertEqual(dots(answer.body), [list(row) for row in segno.make_qr(link).matrix_iter(border=4)])

    @in_time
    async def test_a_code_for_others_says_where_they_reach_the_room(self) -> None:
        """With `share=1` a page of this machine's own gets the address of others; any other page its own."""
        self.app.settings["shared_origin"] = lambda: "http://192.0.2.2:8888"
        for host, share, origin in (
            ("localhost:8888", "1", "http://192.0.2.2:8888"),
            ("localhost:8888", "0", "http://localhost:8888"),
            ("chat.example", "1", "http://chat.example"),
        ):
            with self.subTest(host, share=share):
                answer = await self.get(f"/qr.svg?room=a&share={share}", headers={"Host": host})
                link = f"{origin}/?room=a"
                self.assertEqual(dots(answer.body), [list(row) for row in segno.make_qr(link).matrix_iter(border=4)])

    @in_time
    async def test_what_can_be_no_link_is_refused(self) -> None:
        """A bad room, and a host that is none."""
        for name in BAD_ROOM_NAMES:
            with self.subTest(name):
                self.assert_readable(await self.get(f"/qr.svg?room={quote(name, safe='')}"), 400)
        for host in ("a b", "a/b", "a?b", "<script>", "x" * 256):
            with self.subTest(host):
                headers, _, _ = await self.bare("/qr.svg?room=a", Host=host)
                self.assertEqual(headers["Status"], "400")

    @in_time
    async def test_codes_are_limited_as_asking_is(self) -> None:
        """Drawing is work: one address cannot have it done at any speed."""
        answers = [await self.get("/qr.svg?room=a") for _ in range(40)]
        refused = [answer for answer in answers if answer.code != 200]
        self.assertTrue(refused)
        self.assert_readable(refused[0], 429)
        self.assertGreater(int(refused[0].headers["Retry-After"]), 0)


def dots(svg: bytes) -> list[list[int]]:
    """The dots of a QR code's SVG, row by row: its dark path draws runs of them from left to right."""
    view = re.search(rb'viewBox="0 0 (\d+) \1"', svg)
    path = re.search(rb'<path stroke="#000" d="([^"]*)"', svg)
    assert view and path
    rows = [[0] * int(view[1]) for _ in range(int(view[1]))]
    x = y = 0.0
    for order, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?: (-?[\d.]+))?", path[1].decode()):
        if order == "h":
            rows[int(y)][int(x) : int(x) + int(first)] = [1] * int(first)
            x += float(first)
        else:
            x, y = (float(first), float(second)) if order == "M" else (x + float(first), y + float(second))
    return rows


class MessagesApiTest(HttpTestCase):
    people = 0

    async def ask(self, query: str, room: str = "default") -> HTTPResponse:
        """Ask as somebody who has not asked before: asking is limited by address."""
        self.people += 1
        address = f"192.0.2.{self.people}"
        return await self.get(
            f"/api/rooms/{quote(room, safe='')}/messages{query}", headers={"X-Forwarded-For": address}
        )

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
        """Bad requests, foreign origins, too many of an address or at once, full, draining: all told apart."""
        before = await self.metrics()
        await self.refusal(self.join(".."))
        await self.refusal(self.join(wire=["chat"]))
        await self.refusal(self.join(headers={"Origin": "http://evil.example"}))
        await self.refusal(self.join(headers={"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}))
        await self.refusal(self.join(headers={"Sec-Fetch-Site": "cross-site"}))
        await self.join()
        await self.refusal(self.join())
        await self.join(headers={"X-Forwarded-For": "192.0.2.1"})
        await self.refusal(self.join(headers={"X-Forwarded-For": "192.0.2.2"}))
        for member in self.here:
            member.vanish()
        await until(lambda: not self.app.socket_class.sockets)
        self.app.socket_class.turns = Turns(1, 1)
        await self.join()
        await self.refusal(self.join(headers={"X-Forwarded-For": "192.0.2.3"}))
        await self.drain()
        await self.refusal(self.join())
        after = await self.metrics()
        reasons = {"bad_request": 2, "origin": 3, "address": 1, "full": 1, "crowd": 1, "draining": 1}
        for reason, change in reasons.items():
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
