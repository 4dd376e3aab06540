"""A room to take away: who may, what is in it, and that neither its length nor a slow reader costs memory."""

import asyncio
import base64
import gzip
import hashlib
import json
import re
from email.message import Message
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, unquote

from tornado.httpclient import HTTPResponse

from chat.export import MOST_AT_ONCE, PAGE_BYTES, Export, attachment
from tests.house import Member, contiguous, filled, in_time, until
from tests.support import DEADLINE_S
from tests.test_http import MARKUP_NAMES, HttpTestCase, Markup
from tests.visitor import Visitor, done

LONG_TEXT = "Tea? " * 700
HOSTILE = (
    *MARKUP_NAMES,
    "</style></p></article></main><script>alert(1)</script>",
    "<!-- rows -->",
    "<meta http-equiv=refresh content=0;url=http://evil.example>",
    "\u202egnp.exe\n\n  two  spaces",
)


class ExportTestCase(HttpTestCase):
    async def owner_of(self, room: str) -> tuple[Visitor, Member]:
        """Somebody who owns a room, as he was the first in it to say anything."""
        owner = Visitor(self)
        member = await owner.enter(room)
        member.say("mine")
        await member.hears("ack")
        return owner, member

    async def operator(self) -> Visitor:
        """Who may do all that an owner may, in every room."""
        operator = Visitor(self)
        with patch("chat.doors.is_operator_key", return_value=True):
            await operator.post("/admin", key=operator.address)
        return operator

    async def export(self, visitor: Visitor, room: str, format: str) -> HTTPResponse:
        return await visitor.get(f"/api/rooms/{quote(room, safe='')}/export?format={format}")

    async def lines(self, visitor: Visitor, room: str) -> list[Any]:
        answer = await self.export(visitor, room, "jsonl")
        self.assertEqual(answer.code, 200)
        self.assertTrue(answer.body.endswith(b"\n"))
        return [json.loads(line) for line in answer.body.splitlines()]

    async def page(self, visitor: Visitor, room: str) -> "Exported":
        answer = await self.export(visitor, room, "html")
        self.assertEqual(answer.code, 200)
        return Exported(answer.body)


class Exported(Markup):
    """A room's page: its elements, and the text of its messages."""

    def __init__(self, page: bytes) -> None:
        self.texts: list[str] = []
        self._open: list[str] = []
        super().__init__(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        self._open.append(dict(attrs).get("class") or "")
        if self._open[-1] == "text":
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "a", "article"):
            self._open.append("")

    def handle_data(self, data: str) -> None:
        super().handle_data(data)
        if self._open and self._open[-1] == "text":
            self.texts[-1] += data


class WhoMayTest(ExportTestCase):
    @in_time
    async def test_owners_and_the_operator_take_a_room_away(self) -> None:
        """And nobody else: not who talks there, not a moderator, not the owner of another room."""
        owner, member = await self.owner_of("lounge")
        other, _ = await self.owner_of("kitchen")
        guest, helper = Visitor(self), Visitor(self)
        await guest.enter("lounge")
        moderator = await helper.enter("lounge")
        await done(member, type="role", person=moderator.id, role="moderator")
        for who, code in ((owner, 200), (await self.operator(), 200), (guest, 403), (helper, 403), (other, 403)):
            for format in ("jsonl", "html"):
                answer = await self.export(who, "lounge", format)
                self.assertEqual(answer.code, code)
                if code == 403:
                    self.assert_json_error(answer, 403)
                    self.assertEqual(json.loads(answer.body)["code"], "forbidden")
        self.assert_json_error(await self.get("/api/rooms/lounge/export"), 403)

    @in_time
    async def test_who_was_an_owner_is_none_any_more(self) -> None:
        """What counts is the role he has now."""
        owner, member = await self.owner_of("lounge")
        heir = Visitor(self)
        second = await heir.enter("lounge")
        await done(member, type="role", person=second.id, role="owner")
        await done(second, type="role", person=member.id, role="")
        self.assertEqual((await self.export(owner, "lounge", "jsonl")).code, 403)
        self.assertEqual((await self.export(heir, "lounge", "jsonl")).code, 200)

    @in_time
    async def test_a_closed_room_is_exported_by_its_owner_and_hidden_from_others(self) -> None:
        """Who is in it but owns it not is told so; who is outside, that it is closed."""
        owner = Visitor(self)
        room = await owner.make_room("tea")
        member = await owner.enter(room)
        member.say("inside")
        await member.hears("ack")
        await done(member, type="password", password="open sesame")
        guest = Visitor(self)
        await guest.post("/door", room=room, password="open sesame")
        for who, code, why in ((owner, 200, None), (guest, 403, "forbidden"), (Visitor(self), 403, "closed")):
            answer = await self.export(who, room, "jsonl")
            self.assertEqual(answer.code, code)
            self.assertEqual(json.loads(answer.body.splitlines()[0]).get("code"), why)

    @in_time
    async def test_bad_questions_are_refused(self) -> None:
        """Another format, a bad room, another method; and asking too often."""
        owner, _ = await self.owner_of("lounge")
        for format in ("", "xml", "HTML", "jsonl,html", "../html", "%00"):
            self.assert_json_error(await self.export(owner, "lounge", format), 400)
        self.assert_json_error(await owner.get("/api/rooms/%ff/export"), 400)
        self.assert_json_error(await owner.get("/api/rooms/a%2fb/export"), 400)
        self.assert_json_error(await owner.post("/api/rooms/lounge/export"), 405)
        answers = [await self.export(owner, "lounge", "jsonl") for _ in range(30)]
        self.assert_json_error(answers[-1], 429)

    @in_time
    async def test_so_many_at_once_and_no_more(self) -> None:
        """503 beyond it, and after those are done it is given again."""
        owner, _ = await self.owner_of("lounge")
        with patch.object(Export, "under_way", MOST_AT_ONCE):
            answer = await self.export(owner, "lounge", "jsonl")
            self.assert_json_error(answer, 503)
            self.assertIn("Retry-After", answer.headers)
        self.assertEqual((await self.export(owner, "lounge", "jsonl")).code, 200)
        self.assertEqual(Export.under_way, 0)


class JsonLinesTest(ExportTestCase):
    @in_time
    @filled("default", 1234)
    async def test_the_lines_are_the_head_and_every_event(self) -> None:
        """Of a room of several pages, in order, none twice, as the API has them."""
        operator = await self.operator()
        head, *events = await self.lines(operator, "default")
        self.assertEqual(list(head), ["room", "epoch", "head", "exported_at"])
        self.assertEqual((head["room"], head["epoch"], head["head"]), ("default", self.app.event_log.epoch, 1234))
        self.assertEqual(len(events), 1234)
        self.assertTrue(contiguous(events, 0))
        page = json.loads((await operator.get("/api/rooms/default/messages?after=0&limit=200")).body)
        self.assertEqual(events[:200], page["events"])

    @in_time
    async def test_all_that_happened_is_in_it_and_what_was_removed_is_not(self) -> None:
        """Acts are events, too; a removed text is in no line."""
        owner, member = await self.owner_of("lounge")
        member.say("to be removed 4711")
        seq = (await member.hears("ack"))["seq"]
        await done(member, type="delete", message=seq)
        await done(member, type="rules", slow_s=0, announcement="Tea at five")
        head, *events = await self.lines(owner, "lounge")
        self.assertEqual([event["type"] for event in events], ["message", "removed", "delete", "rules"])
        self.assertTrue(contiguous(events, 0))
        self.assertEqual(head["head"], 4)
        self.assertNotIn("4711", json.dumps(events))

    @in_time
    async def test_an_unused_room_is_a_head_alone(self) -> None:
        """No error, and no room is made by asking."""
        head, *events = await self.lines(await self.operator(), "unused")
        self.assertEqual((head["head"], events), (0, []))
        self.assertEqual(await self.app.event_log.names(), [])

    @in_time
    @filled("default", 400)
    async def test_what_is_said_meanwhile_is_not_in_it(self) -> None:
        """The lines end at the head that the first one names, while the room goes on."""
        operator = await self.operator()
        ann = await self.join()
        after = self.app.event_log.after

        async def slowly(*arguments: Any) -> Any:
            ann.say("meanwhile")
            await ann.hears("ack")
            return await after(*arguments)

        with patch.object(self.app.event_log, "after", slowly):
            head, *events = await self.lines(operator, "default")
        self.assertEqual((head["head"], events[-1]["seq"], len(events)), (400, 400, 400))


class PageTest(ExportTestCase):
    @in_time
    async def test_the_page_shows_what_was_said(self) -> None:
        """Names, times, answers with a link to what they answer, edits, reactions; what was removed is left out."""
        owner, member = await self.owner_of("lounge")
        guest = await self.join("lounge", name="Bo")
        member.say("the first draft")
        first = (await member.hears("ack"))["seq"]
        await done(member, type="edit", message=first, text="the second draft")
        guest.say("an answer", reply_to=first)
        await guest.hears("ack")
        guest.say("to be removed 4711")
        removed = (await guest.hears("ack"))["seq"]
        await done(guest, type="react", message=first, kind="\N{PARTY POPPER}")
        await done(member, type="delete", message=removed)
        page = await self.page(owner, "lounge")
        self.assertEqual(page.texts, ["mine", "the second draft", "an answer"])
        links = [found["href"] for found in page.attributes("a")]
        self.assertEqual(links, [f"#m{first}"])
        self.assertTrue(page.attributes("article", id=f"m{first}"))
        words = " ".join(page.words)
        for said in ("Bo", "edited", "\N{PARTY POPPER} 1", "the second draft", "UTC"):
            self.assertIn(said, words)
        self.assertNotIn("4711", words)
        self.assertEqual(words.count("edited"), 1)

    @in_time
    @filled("default", 3, "x", 1_790_000_000_000 - 1_790_000_000_000 % 86_400_000 + 86_400_000 - 2)
    async def test_days_and_times_are_those_of_utc(self) -> None:
        """A heading a day, and on each message its moment, for people and for programs."""
        page = await self.page(await self.operator(), "default")
        self.assertEqual(len(page.attributes("h2")), 2)
        times = [found["datetime"] for found in page.attributes("time")]
        self.assertEqual(
            times, ["2026-09-21", "2026-09-21T23:59:59Z", "2026-09-22", "2026-09-22T00:00:00Z", "2026-09-22T00:00:00Z"]
        )

    @in_time
    async def test_whatever_is_said_is_text(self) -> None:
        """No name, no text and no room makes an element; white space is as it was."""
        owner = Visitor(self)
        name = '"><script>alert(1)<script>'
        member = await owner.enter(name)
        for text in HOSTILE:
            member.say(text)
            await member.hears("ack")
        answer = await self.export(owner, name, "html")
        page = Exported(answer.body)
        self.assertEqual(page.texts, [text.strip() for text in HOSTILE])
        tags = {tag for tag, _ in page.elements}
        self.assertLessEqual(
            tags,
            {*("html", "head", "meta", "title", "style", "body", "header", "main", "article")}
            | {*("h1", "h2", "p", "b", "bdi", "time", "a")},
        )
        self.assertNotIn(b"<script", answer.body)
        self.assertIn(name, page.words)

    @in_time
    async def test_the_page_needs_nothing_and_can_do_nothing(self) -> None:
        """Its own policy, which stays with it on a disk, allows the style in it and not a thing besides."""
        owner, _ = await self.owner_of("lounge")
        answer = await self.export(owner, "lounge", "html")
        page = Exported(answer.body)
        self.assertEqual(page.files(), [])
        style = re.search(rb"<style>(.*)</style>", answer.body, re.DOTALL)
        assert style is not None
        allowed = base64.b64encode(hashlib.sha256(style[1]).digest()).decode()
        policies = page.attributes("meta", **{"http-equiv": "Content-Security-Policy"})
        self.assertEqual(
            [found["content"] for found in policies], [f"default-src 'none'; style-src 'sha256-{allowed}'"]
        )
        self.assertLess(answer.body.index(b"http-equiv"), answer.body.index(b"<style"))
        for word in (b"url(", b"@import", b"http:", b"https:", b"//"):
            self.assertNotIn(word, style[1])

    @in_time
    async def test_the_page_is_in_the_persons_language(self) -> None:
        """As the page it was asked from."""
        owner, member = await self.owner_of("lounge")
        first = 1
        await done(member, type="edit", message=first, text="other")
        owner.cookies["language"] = "zh-Hans"
        page = await self.page(owner, "lounge")
        self.assertEqual(page.attributes("html"), [{"lang": "zh-Hans"}])
        self.assertIn("已编辑", " ".join(page.words))

    @in_time
    @filled("default", 1234)
    async def test_a_long_room_is_one_page(self) -> None:
        """Every message once, in order, with a link that stays."""
        page = await self.page(await self.operator(), "default")
        self.assertEqual([found["id"] for found in page.attributes("article")], [f"m{seq}" for seq in range(1, 1235)])

    @in_time
    @filled("default", 1100)
    async def test_an_answer_to_something_far_above_still_links_to_it(self) -> None:
        """Without its beginning, which nobody keeps in memory."""
        operator = await self.operator()
        ann = await self.join()
        for answered in (1, 1100):
            ann.say("an answer", reply_to=answered)
            await ann.hears("ack")
        page = await self.page(operator, "default")
        self.assertEqual([found["href"] for found in page.attributes("a")], ["#m1", "#m1100"])
        self.assertIn("An earlier message", page.words)
        self.assertIn("Past: x", page.words)


class DownloadTest(ExportTestCase):
    @in_time
    async def test_it_is_kept_under_a_name_that_is_safe(self) -> None:
        """Never shown in place of the page; whatever a room is called, the header is one line and the name a file's."""
        operator = await self.operator()
        for room in (
            "tea",
            "a b",
            "..\u2215x",
            '"; filename="x.exe',
            "a;b=c",
            "\u00fc\U0001f680",
            "CON",
            "a:b*?<>|",
            "%0d%0a",
        ):
            for format in ("jsonl", "html"):
                with self.subTest(room, format=format):
                    operator.address = f"198.51.100.{len(room)}"
                    header = (await self.export(operator, room, format)).headers["Content-Disposition"]
                    self.assertRegex(header, r"\A[ -~]+\Z")
                    parsed = Message()
                    parsed["Content-Disposition"] = header
                    self.assertEqual(parsed.get_content_disposition(), "attachment")
                    plain = re.search(r'filename="([^"]*)"', header)
                    encoded = re.search(r"filename\*=UTF-8''([!#$&+.^_`|~0-9A-Za-z%-]+)\Z", header)
                    assert plain is not None and encoded is not None
                    for name in (plain[1], unquote(encoded[1])):
                        self.assertRegex(name, rf'\Achatroom-[^/\\:*?"<>|\x00-\x1f]+-\d{{4}}-\d\d-\d\d\.{format}\Z')
            operator.cookies.pop("language", None)
            self.app.socket_class.asks.forget_full(float("inf"))

    def test_the_name_of_the_room_is_in_the_name_of_the_file(self) -> None:
        """In letters that every system takes, and in its own for those that can."""
        self.assertEqual(
            attachment("caf\u00e9 1.html"),
            "attachment; filename=\"chatroom-caf--1.html\"; filename*=UTF-8''chatroom-caf%C3%A9%201.html",
        )

    @in_time
    @filled("default", 600, LONG_TEXT)
    async def test_it_is_packed_as_it_goes(self) -> None:
        """The page by gzip for who takes it, piece by piece, and the same as without."""
        operator = await self.operator()
        path = "/api/rooms/default/export?format=html"
        plain, body, _ = await self.bare(path, Cookie=operator.cookie)
        packed, sent, _ = await self.bare(path, Cookie=operator.cookie, Accept_Encoding="gzip")
        self.assertEqual((packed["Content-Encoding"], packed["Transfer-Encoding"]), ("gzip", "chunked"))
        self.assertNotIn("Content-Encoding", plain)
        at = re.compile(rb"\d\d\d\d-\d\d-\d\d \d\d:\d\d UTC")
        self.assertEqual(at.sub(b"", gzip.decompress(unchunked(sent))), at.sub(b"", unchunked(body)))
        self.assertGreater(sent.count(b"\r\n"), 600 * len(LONG_TEXT) // PAGE_BYTES)

    @in_time
    @filled("default", 3000, LONG_TEXT)
    async def test_a_reader_who_does_not_read_holds_up_nobody_and_costs_a_page(self) -> None:
        """Nothing more is read from the log than the network takes, and when he reads on he gets all of it."""
        operator = await self.operator()
        reads, after = [0], self.app.event_log.after

        async def counted(*arguments: Any) -> Any:
            reads[0] += 1
            return await after(*arguments)

        with patch.object(self.app.event_log, "after", counted):
            raw = await self.connect(receive_bytes=16384)
            raw.writer.write(
                b"GET /api/rooms/default/export HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: "
                + operator.cookie.encode()
                + b"\r\n\r\n"
            )
            await until(lambda: reads[0])
            ann = await self.join()
            before = -1
            while before != reads[0]:  # until the kernel takes no more
                before = reads[0]
                for _ in range(20):
                    ann.say("going on")
                    await ann.hears("ack")
            self.assertLess(reads[0] * PAGE_BYTES, 8 * 1024 * 1024)
            waiting = [connection.stream._write_buffer for connection in self.http_server._connections]
            self.assertLess(max(len(buffer) for buffer in waiting), 2 * PAGE_BYTES)
            answer = await asyncio.wait_for(raw.reader.read(), 4 * DEADLINE_S)
        lines = unchunked(answer.partition(b"\r\n\r\n")[2]).splitlines()
        self.assertEqual(len(lines), 3001)
        self.assertEqual(Export.under_way, 0)

    @in_time
    @filled("default", 3000, LONG_TEXT)
    async def test_who_goes_away_half_way_leaves_nothing(self) -> None:
        """No fault is told, nothing goes on."""
        operator = await self.operator()
        raw = await self.connect(receive_bytes=16384)
        raw.writer.write(
            b"GET /api/rooms/default/export?format=html HTTP/1.1\r\nHost: x\r\nCookie: "
            + operator.cookie.encode()
            + b"\r\n\r\n"
        )
        await raw.reader.readexactly(100_000)
        self.assertEqual(Export.under_way, 1)
        raw.vanish()
        await until(lambda: Export.under_way == 0)

    @in_time
    @filled("default", 600, LONG_TEXT)
    async def test_what_breaks_off_does_not_look_whole(self) -> None:
        """When the log cannot be read any more, the last chunk does not come, and the fault is told once."""
        operator = await self.operator()
        after = self.app.event_log.after

        async def failing(room: str, seq: int, *more: Any) -> Any:
            if seq > 100:
                raise OSError("the disk is gone")
            return await after(room, seq, *more)

        with patch.object(self.app.event_log, "after", failing), self.assertLogs("chatroom", "ERROR") as told:
            _, body, _ = await self.bare("/api/rooms/default/export", Cookie=operator.cookie)
        self.assertGreater(len(body), PAGE_BYTES)
        self.assertFalse(body.endswith(b"0\r\n\r\n"))
        self.assertEqual(len([line for line in told.output if "the disk is gone" in line]), 1)
        self.assertEqual(Export.under_way, 0)

    @in_time
    async def test_what_fails_before_it_begins_is_a_readable_error(self) -> None:
        """As of any other question."""
        operator = await self.operator()
        with (
            patch.object(self.app.event_log, "head", side_effect=OSError("the disk is gone")),
            self.assertLogs("chatroom", "ERROR"),
        ):
            self.assert_json_error(await self.export(operator, "default", "html"), 500)


def unchunked(body: bytes) -> bytes:
    """What came in chunks, which have to end with the last one."""
    whole = bytearray()
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            assert body == b"\r\n"
            return bytes(whole)
        whole += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
