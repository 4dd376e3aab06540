"""Closed rooms: who makes one, who comes in and how, what stays hidden from all others, and the operator's door."""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlencode

from tornado.httpclient import HTTPResponse

from chat import passwords
from chat.doors import ANSWER_S, MAX_FORM_BYTES, Tries
from chat.identity import room_name
from chat.protocol import ProtocolError
from chat.tokens import invite_token, operator_key
from tests.house import Member, held, in_time, settings, until
from tests.support import DEADLINE_S
from tests.test_http import MARKUP_NAMES, HttpTestCase, Markup
from tests.visitor import Visitor, done, invite, path_of, room_of, token_of

NEVER_MADE = "~tea-zzzzzzzz"
ASKINGS = ("page", "messages", "invitation", "password")
FOREIGN = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:1.evil.example"},
    {"Origin": "http://[::1"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)


@contextmanager
def later(seconds: float) -> Iterator[None]:
    """So much time has passed, as far as the calendar goes."""
    time_ns, now = time.time_ns, time.time
    with patch("time.time_ns", lambda: time_ns() + int(seconds * 1e9)), patch("time.time", lambda: now() + seconds):
        yield


class DoorsTestCase(HttpTestCase):
    def visitor(self, address: str = "") -> Visitor:
        return Visitor(self, address)

    async def house_of(self, name: str = "tea") -> tuple[Visitor, str, Member]:
        """Somebody, the closed room that he made, and himself in it."""
        owner = self.visitor()
        room = await owner.make_room(name)
        return owner, room, await owner.enter(room)

    def assert_door(self, answer: HTTPResponse, code: int, room: str, sentence: str = "") -> None:
        """The page with the door of a room, which says why it stays shut."""
        self.assert_safe_answer(answer, code)
        page = Markup(answer.body)
        self.assertEqual(page.attributes("form")[0]["action"], "/door")
        self.assertEqual(page.attributes("input", name="room")[0]["value"], room)
        self.assertEqual(bool(page.attributes("p", role="alert")), bool(sentence))
        self.assertIn(sentence, " ".join(page.words))


class MakeRoomTest(DoorsTestCase):
    @in_time
    async def test_whoever_makes_a_closed_room_owns_it(self) -> None:
        """It is found under a name that nobody guesses, its maker is in and its owner, and nobody else is in."""
        owner, room, member = await self.house_of("tea")
        self.assertRegex(room, r"\A~tea-[a-z2-7]{8}\Z")
        self.assertEqual(member.welcome["you"]["role"], "owner")
        self.assertTrue(await owner.is_let_in(room))
        self.assertFalse(await self.visitor().is_let_in(room))

    @in_time
    async def test_one_name_makes_many_rooms(self) -> None:
        """Each is another one, so that nobody learns that there is one of this name."""
        maker = self.visitor()
        self.assertEqual(len({await maker.make_room("tea") for _ in range(5)}), 5)

    @in_time
    async def test_a_name_that_chance_gives_twice_is_not_taken_over(self) -> None:
        """Who makes a room never gets into somebody else's."""
        owner, room, _ = await self.house_of("tea")
        thief = self.visitor()
        with patch("chat.doors.closed_name", side_effect=[room, room, "~tea-22222222"]):
            self.assertEqual(await thief.make_room("tea"), "~tea-22222222")
        self.assertFalse(await thief.is_let_in(room))
        self.assertTrue(await owner.is_let_in(room))

    @in_time
    async def test_a_browser_without_a_cookie_is_given_one_and_owns_the_room(self) -> None:
        """Also a program that has never seen a page."""
        program = self.visitor()
        answer = await program.post("/rooms", name="tea")
        self.assertEqual((answer.code, len(answer.headers.get_list("Set-Cookie"))), (303, 1))
        member = await program.enter(room_of(answer))
        self.assertEqual(member.welcome["you"]["role"], "owner")

    @in_time
    async def test_whatever_a_room_may_be_called_a_closed_one_may(self) -> None:
        """Up to 50 characters; the address it is at is ours and leads to it."""
        for name in ("x" * 50, "\U0001f680" * 50, "two words", "100%", "a&room=b", "a#b", "~~", ".", *MARKUP_NAMES):
            with self.subTest(name):
                maker = self.visitor()
                if name == ".":
                    self.assertEqual((await maker.post("/rooms", name=name)).code, 400)
                    continue
                answer = await maker.post("/rooms", name=f" {name}\t")
                self.assertRegex(answer.headers["Location"], r"\A/\?room=[!-~]+\Z")
                room = room_of(answer)
                self.assertEqual(room[:-9], f"~{name}")
                self.assertEqual(room, room_name(room))
                self.assertTrue(await maker.is_let_in(room))

    @in_time
    async def test_bad_names_are_told_on_the_page(self) -> None:
        """With the sentence that fits, in the person's language; no room is made."""
        for name, sentence, chinese in (
            ("", "Please write a name.", "请写一个名字。"),
            (" \u3000", "Please write a name.", "请写一个名字。"),
            ("x" * 51, "at most 50 characters", "最多 50 个字符"),
            ("x" * 4000, "at most 50 characters", "最多 50 个字符"),
            ("a/b", "no slashes", "不能有斜杠"),
            ("a\\b", "no slashes", "不能有斜杠"),
            ("..", "more than dots", "不能只有点"),
            ("\u200d", "something to see", "看得见的字符"),
            ("a\r\nSet-Cookie: x=y", "something to see", "看得见的字符"),
            ("a\u202eb", "something to see", "看得见的字符"),
        ):
            for language, said in (("en", sentence), ("zh", chinese)):
                with self.subTest(name, language=language):
                    answer = await self.visitor().post("/rooms", {"Accept-Language": language}, name=name)
                    self.assert_safe_answer(answer, 400)
                    self.assertIn(said, " ".join(Markup(answer.body).words))
                    self.assertNotIn("x=y", str(answer.headers))
        self.assertEqual(await self.app.event_log.names(), [])

    @in_time
    async def test_a_room_that_cannot_be_stored_is_none(self) -> None:
        """The person is told to try again; nothing is left of it."""
        with patch("chat.acts.Acts.found", side_effect=ProtocolError("not_stored", "It could not be stored.")):
            answer = await self.visitor().post("/rooms", name="tea")
        self.assert_readable(answer, 503)
        self.assertIn("Retry-After", answer.headers)
        await until(lambda: not self.app.socket_class.rooms)


class InvitationTest(DoorsTestCase):
    @in_time
    async def test_who_is_invited_comes_in_by_a_button(self) -> None:
        """The link shows the door; its button lets him in, by page and by socket, and he stays in."""
        _, room, owner = await self.house_of()
        made = await invite(owner)
        guest = self.visitor()
        self.assertFalse(await guest.is_let_in(room))
        door = await guest.get(made["path"])
        self.assert_door(door, 200, room)
        fields = {found["name"]: found["value"] for found in Markup(door.body).attributes("input")}
        answer = await guest.post("/door", **fields)
        self.assertEqual((answer.code, room_of(answer)), (303, room))
        self.assertTrue(await guest.is_let_in(room))
        member = await guest.enter(room)
        self.assertNotIn("role", member.welcome["you"])

    @in_time
    async def test_looking_at_a_link_uses_nothing_up(self) -> None:
        """Neither previews nor the person himself, however often."""
        _, room, owner = await self.house_of()
        made = await invite(owner)
        for _ in range(5):
            self.assert_door(await self.visitor().get(made["path"]), 200, room)
            await self.visitor().get(made["path"], method="HEAD")
        guest = self.visitor()
        self.assertEqual((await guest.post("/door", room=room, invite=token_of(made["path"]))).code, 303)

    @in_time
    async def test_an_invitation_is_good_for_its_uses(self) -> None:
        """Who is in already takes none, however often he comes by it; the next beyond them stays outside."""
        _, room, owner = await self.house_of()
        token = token_of((await invite(owner, uses=2))["path"])
        guests = [self.visitor() for _ in range(3)]
        for guest, code in ((0, 303), (0, 303), (0, 303), (1, 303), (2, 403), (0, 303)):
            self.assertEqual((await guests[guest].post("/door", room=room, invite=token)).code, code)
        self.assertEqual([await guest.is_let_in(room) for guest in guests], [True, True, False])

    @in_time
    async def test_of_many_at_once_one_takes_the_last_use(self) -> None:
        """Whoever comes first; exactly as many are in as were invited."""
        _, room, owner = await self.house_of()
        for uses in (1, 3):
            token = token_of((await invite(owner, uses=uses))["path"])
            guests = [self.visitor() for _ in range(12)]
            answers = await asyncio.gather(*(guest.post("/door", room=room, invite=token) for guest in guests))
            self.assertEqual(sorted(answer.code for answer in answers), [303] * uses + [403] * (12 - uses))
            self.assertEqual([await guest.is_let_in(room) for guest in guests].count(True), uses)

    @in_time
    async def test_one_person_in_many_windows_takes_one_use(self) -> None:
        """A double click is one coming in."""
        _, room, owner = await self.house_of()
        token = token_of((await invite(owner, uses=2))["path"])
        guest = self.visitor()
        await guest.get("/rooms")
        await asyncio.gather(*(guest.post("/door", room=room, invite=token) for _ in range(5)))
        self.assertEqual((await self.visitor().post("/door", room=room, invite=token)).code, 303)
        self.assertEqual((await self.visitor().post("/door", room=room, invite=token)).code, 403)

    @in_time
    async def test_every_invitation_that_is_not_good_is_refused_alike(self) -> None:
        """Forged, of another room, used up, revoked, expired: the same page, and nobody learns which it was."""
        _, room, owner = await self.house_of()
        _, _, other = await self.house_of()
        used, revoked, expired = [await invite(owner) for _ in range(3)]
        await self.visitor().post("/door", room=room, invite=token_of(used["path"]))
        await done(owner, type="revoke", invite=revoked["invite"]["id"])
        good = token_of((await invite(owner, seconds=86400))["path"])
        bad = {
            "used": token_of(used["path"]),
            "revoked": token_of(revoked["path"]),
            "expired": token_of(expired["path"]),
            "another room's": token_of((await invite(other))["path"]),
            "changed": good[:-1] + ("A" if good[-1] != "A" else "B"),
            "another server's": invite_token("t" * 64, room, good.partition(".")[0]),
            "never made": invite_token(self.app.socket_class.secret, room, "abcdefghijkl"),
            "nonsense": "x",
            "long": "x" * 3000,
        }
        bodies = set()
        with later(7200):
            for why, token in bad.items():
                with self.subTest(why):
                    guest = self.visitor()
                    answer = await guest.post("/door", room=room, invite=token)
                    self.assert_door(answer, 403, room, "This invitation is not valid any more.")
                    self.assertGreaterEqual(answer.request_time, ANSWER_S * 0.9)
                    self.assertFalse(await guest.is_let_in(room))
                    bodies.add(answer.body)
            self.assertEqual((await self.visitor().post("/door", room=room, invite=good)).code, 303)
        self.assertEqual(len(bodies), 1)

    @in_time
    async def test_who_came_by_a_revoked_invitation_may_be_put_out(self) -> None:
        """His socket closes, and outside he finds what everybody finds."""
        _, room, owner = await self.house_of()
        made = await invite(owner, uses=5)
        guest = self.visitor()
        await guest.post("/door", room=room, invite=token_of(made["path"]))
        member = await guest.enter(room)
        await done(owner, type="revoke", invite=made["invite"]["id"], put_out=True)
        self.assertEqual((await member.hears("out"))["why"], "revoke")
        self.assertEqual(await member.closed(), 1008)
        self.assert_door(await guest.get(path_of(room)), 403, room)
        self.assert_door(
            await guest.post("/door", room=room, invite=token_of(made["path"])),
            403,
            room,
            "This invitation is not valid any more.",
        )

    @in_time
    async def test_an_owners_link_hands_the_room_on(self) -> None:
        """Also of an open room: whoever follows it is its owner, too."""
        first = self.visitor()
        opener = await first.enter("lounge")
        opener.say("mine")
        await opener.hears("ack")
        for room, owner in (("lounge", opener), (await self.house_of())[1:]):
            with self.subTest(room):
                made = await invite(owner, role="owner")
                heir = self.visitor()
                self.assert_door(await heir.get(made["path"]), 200, room)
                self.assertEqual((await heir.post("/door", room=room, invite=token_of(made["path"]))).code, 303)
                self.assertEqual((await heir.enter(room)).welcome["you"]["role"], "owner")

    @in_time
    async def test_an_open_room_has_no_door(self) -> None:
        """Who asks for it without an invitation is led into the room."""
        answer = await self.visitor().get("/door?room=a%20b%26c")
        self.assertEqual((answer.code, room_of(answer)), (302, "a b&c"))

    @in_time
    async def test_the_banned_do_not_come_in_by_an_invitation(self) -> None:
        """Neither is a use of it taken."""
        _, room, owner = await self.house_of()
        token = token_of((await invite(owner, uses=2))["path"])
        guest = self.visitor()
        await guest.post("/door", room=room, invite=token)
        member = await guest.enter(room)
        await done(owner, type="ban", person=member.id)
        self.assertEqual((await guest.post("/door", room=room, invite=token)).code, 403)
        self.assertFalse(await guest.is_let_in(room))
        self.assertEqual((await self.visitor().post("/door", room=room, invite=token)).code, 303)


class PasswordTest(DoorsTestCase):
    async def locked_house(self, password: str = "open sesame") -> tuple[str, Member]:
        _, room, owner = await self.house_of()
        await done(owner, type="password", password=password)
        return room, owner

    @in_time
    async def test_who_knows_the_password_comes_in(self) -> None:
        """And who does not is told on the page and stays outside."""
        room, _ = await self.locked_house("open sésame")
        for password, code in (("open sésame", 303), ("open se\u0301same", 303), ("Open sésame", 403), ("", 403)):
            with self.subTest(password):
                guest = self.visitor()
                answer = await guest.post("/door", room=room, password=password)
                self.assertEqual(answer.code, code)
                self.assertEqual(await guest.is_let_in(room), code == 303)
                if code == 403:
                    self.assert_door(answer, 403, room, "This does not open the door.")

    @in_time
    async def test_a_password_that_was_changed_or_taken_away_opens_no_more(self) -> None:
        """The new one does; without one nothing does."""
        room, owner = await self.locked_house("first")
        await done(owner, type="password", password="second")
        for password, code in (("first", 403), ("second", 303)):
            self.assertEqual((await self.visitor().post("/door", room=room, password=password)).code, code)
        await done(owner, type="password", password="")
        for password in ("second", "", "first"):
            self.assertEqual((await self.visitor().post("/door", room=room, password=password)).code, 403)

    @in_time
    async def test_a_password_that_is_changed_meanwhile_does_not_open(self) -> None:
        """What counts is the room's password when it is found to be right, not when it was typed."""
        room, owner = await self.locked_house()
        for another in ("another", ""):
            guest = self.visitor()
            with held(passwords._thread):
                owner.send(type="password", password=another, ref="p")
                await until(lambda: passwords._Line.waiting == bool(another))  # noqa: B023
                asked = asyncio.ensure_future(guest.post("/door", room=room, password="open sesame"))
                await until(lambda: passwords._Line.waiting == bool(another) + 1)  # noqa: B023
            await owner.hears("done", ref="p")
            self.assertEqual((await asked).code, 403)
            self.assertFalse(await guest.is_let_in(room))
            await done(owner, type="password", password="open sesame")

    @in_time
    async def test_while_too_many_wait_others_are_told_to_come_back(self) -> None:
        """503, whether there is such a room or not, and the room goes on meanwhile."""
        room, owner = await self.locked_house()
        with held(passwords._thread):
            line = [asyncio.ensure_future(passwords.is_password("x", "")) for _ in range(passwords._MOST_WAITING)]
            await until(lambda: passwords._Line.waiting == passwords._MOST_WAITING)
            for name in (room, NEVER_MADE):
                refused = await self.visitor().post("/door", room=name, password="open sesame")
                self.assert_readable(refused, 503)
                self.assertIn("Retry-After", refused.headers)
            owner.say("going on")
            await owner.hears("ack")
        self.assertEqual(set(await asyncio.gather(*line)), {False})
        self.assertEqual((await self.visitor().post("/door", room=room, password="open sesame")).code, 303)

    @in_time
    async def test_no_password_is_kept_as_it_is(self) -> None:
        """Nothing of it is in the file."""
        await self.locked_house("open sesame 4711")
        await self.app.event_log.settled()
        self.assertEqual([path for path in files_of(self.database) if b"open sesame 4711" in path.read_bytes()], [])


def files_of(database: str) -> list[Path]:
    """The database and whatever lies beside it."""
    found = list(Path(database).parent.glob("*"))
    assert len(found) > 1
    return found


class OutsideTest(DoorsTestCase):
    """To whoever is outside, a closed room is as one that does not exist."""

    async def outsiders(self) -> dict[str, tuple[Visitor, str]]:
        """Rooms that somebody is outside of, each for another reason, by that reason."""
        _, full, member = await self.house_of()
        _, quiet, quiet_owner = await self.house_of()
        quiet_owner.vanish()
        _, with_password, other = await self.house_of()
        await done(other, type="password", password="open sesame")
        for _ in range(50):
            other.say("x" * 1000)
            await other.hears("ack")
        guest = self.visitor()
        await guest.post("/door", room=full, invite=token_of((await invite(member, uses=9))["path"]))
        inside = await guest.enter(full)
        await done(member, type="ban", person=inside.id, address=True, seconds=3600)
        _, locked, locking = await self.house_of()
        await done(locking, type="rules", locked=True)
        return {
            "people in it": (self.visitor(), full),
            "nobody in it": (self.visitor(), quiet),
            "a password and messages": (self.visitor(), with_password),
            "banned": (guest, full),
            "of a banned address": (self.visitor(guest.address), full),
            "locked": (self.visitor(), locked),
        }

    def likeness(self, answer: HTTPResponse, room: str) -> Any:
        """All that an answer says, but for the name that was asked for and the moment."""
        of_their_own = ("Date", "Set-Cookie", "Etag")  # the last is the body's
        headers = [(name, value) for name, value in answer.headers.get_all() if name not in of_their_own]
        morsels = [SimpleCookie(line) for line in answer.headers.get_list("Set-Cookie")]
        handed_out = [
            (name, sorted(key for key, value in morsel.items() if value), morsel["path"], morsel["samesite"])
            for cookies in morsels
            for name, morsel in cookies.items()
        ]
        body = answer.body.replace(room.encode(), b"ROOM").replace(quote(room, safe="").encode(), b"ROOM")
        return answer.code, answer.reason, headers, handed_out, body

    async def knock_at(self, visitor: Visitor, room: str) -> dict[str, Any]:
        """Whatever an outsider can ask of a room."""
        name = quote(room, safe="")
        socket = await self.refusal(visitor.enter(room))
        answers = {
            "page": await visitor.get(f"/?room={name}"),
            "head": await visitor.get(f"/?room={name}", method="HEAD"),
            "door": await visitor.get(f"/door?room={name}"),
            "door with a bad link": await visitor.get(f"/door?room={name}&invite=x.y"),
            "wrong password": await visitor.post("/door", room=room, password="wrong"),
            "no password": await visitor.post("/door", room=room),
            "bad invitation": await visitor.post("/door", room=room, invite="abcdefghijkl.AAAAAAAAAAAAAAAAAAAAAA"),
            "messages": await visitor.get(f"/api/rooms/{name}/messages"),
            "old messages": await visitor.get(f"/api/rooms/{name}/messages?after=0&limit=1"),
            "export": await visitor.get(f"/api/rooms/{name}/export?format=html"),
            "socket": socket,
            "code": await visitor.get(f"/qr.svg?room={name}"),
        }
        return {how: self.likeness(answer, room) for how, answer in answers.items() if how != "code"}

    @in_time
    async def test_a_closed_room_answers_as_one_that_does_not_exist(self) -> None:
        """Status, headers and body, by every way there is, for whoever is outside for whatever reason."""
        for why, (visitor, room) in (await self.outsiders()).items():
            await visitor.get("/rooms")
            real = await self.knock_at(visitor, room)
            none = await self.knock_at(visitor, NEVER_MADE)
            for how in real:
                with self.subTest(why, how=how):
                    self.assertEqual(real[how], none[how])
                    self.assertEqual(real[how][0], 200 if how.startswith("door") else 403)

    @in_time
    async def test_somebody_new_is_answered_alike_too(self) -> None:
        """Who has no cookie yet gets one for either."""
        _, room, _ = await self.house_of()
        for path in ("/?room={}", "/api/rooms/{}/messages", "/door?room={}"):
            with self.subTest(path):
                real, none = [await self.visitor().get(path.format(name)) for name in (room, NEVER_MADE)]
                self.assertEqual(self.likeness(real, room), self.likeness(none, NEVER_MADE))

    @in_time
    async def test_no_refusal_comes_before_its_time(self) -> None:
        """Each comes a fixed time after it was asked for, at the earliest; there is nothing to be read from it."""
        _, room, owner = await self.house_of()
        await done(owner, type="password", password="open sesame")
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(30):
            for name in random.sample((room, NEVER_MADE), 2):
                for how, took_s in zip(ASKINGS, await asyncio.gather(*self.askings(name)), strict=True):
                    times.setdefault((how, name), []).append(took_s)
        for how in ASKINGS:
            real_s, none_s = (statistics.median(times[how, name]) for name in (room, NEVER_MADE))
            print(f"{how}: closed {real_s * 1000:.1f} ms, none {none_s * 1000:.1f} ms (medians of 30)")
            self.assertGreaterEqual(min(times[how, room] + times[how, NEVER_MADE]), ANSWER_S * 0.99)

    def askings(self, room: str) -> list[Awaitable[float]]:
        """Four outsiders at once, each with the seconds that it takes until he is refused."""
        return [
            self.refused_after_s(self.visitor().get(path_of(room))),
            self.refused_after_s(self.visitor().get(f"/api/rooms/{room}/messages")),
            self.refused_after_s(self.visitor().post("/door", room=room, invite="abcdefghijkl.AAAAAAAAAAAAAAAAAAAAAA")),
            self.refused_after_s(self.visitor().post("/door", room=room, password="wrong")),
        ]

    async def refused_after_s(self, asking: Awaitable[HTTPResponse]) -> float:
        began_s = time.perf_counter()
        self.assertEqual((await asking).code, 403)
        return time.perf_counter() - began_s

    @in_time
    async def test_asking_makes_no_room(self) -> None:
        """Nothing is stored for a name that was only asked for, and nothing stays in memory."""
        visitor = self.visitor()
        await visitor.get("/rooms")
        await self.knock_at(visitor, NEVER_MADE)
        self.assertEqual(await self.app.event_log.names(), [])
        self.assertEqual(self.app.socket_class.rooms, {})

    @in_time
    async def test_not_even_the_operator_is_in_a_room_that_nobody_made(self) -> None:
        """Who may enter every room finds the same door there."""
        operator = self.visitor()
        await operator.post("/admin", key=operator_key(self.app.socket_class.secret, time.time()))
        self.assertFalse(await operator.is_let_in(NEVER_MADE))
        self.assertEqual((await self.refusal(operator.enter(NEVER_MADE))).code, 403)

    @in_time
    async def test_programs_are_told_why(self) -> None:
        """A closed room, a ban with its end and reason, a lock: each with a code and a sentence."""
        _, closed, _ = await self.house_of()
        opener = await self.visitor().enter("lounge")
        opener.say("mine")
        await opener.hears("ack")
        guest, forever = self.visitor(), self.visitor()
        banned, gone = await guest.enter("lounge"), await forever.enter("lounge")
        await done(opener, type="ban", person=banned.id, seconds=3600, reason="100 % spam")
        await done(opener, type="ban", person=gone.id)
        await done(opener, type="rules", locked=True)
        for visitor, room, code, more in (
            (self.visitor(), closed, "closed", set()),
            (guest, "lounge", "banned", {"until", "reason"}),
            (forever, "lounge", "banned", set()),
            (self.visitor(), "lounge", "locked", set()),
        ):
            with self.subTest(room, code=code):
                answer = await visitor.get(f"/api/rooms/{room}/messages")
                self.assert_safe_answer(answer, 403)
                body = json.loads(answer.body)
                self.assertEqual((body["code"], set(body)), (code, {"error", "code", *more}))
                self.assertRegex(body["error"], r"\A[A-Z][^%]+\.\Z")
                if more:
                    self.assertEqual(body["reason"], "100 % spam")
                    self.assertAlmostEqual(body["until"] / 1000, time.time() + 3600, delta=DEADLINE_S)
                self.assertEqual((await self.refusal(visitor.enter(room))).code, 403)


class FormTest(DoorsTestCase):
    """What holds for every form: whose it is, how often it may be sent, and what may stand in it."""

    async def forms(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Every form with what would be taken."""
        _, room, owner = await self.house_of()
        return {
            "invitation": ("/door", {"room": room, "invite": token_of((await invite(owner, uses=99))["path"])}),
            "room": ("/rooms", {"name": "tea"}),
            "operator": ("/admin", {"key": operator_key(self.app.socket_class.secret, time.time())}),
        }

    @in_time
    async def test_pages_of_other_sites_send_no_form(self) -> None:
        """403, and nothing has happened: nobody is let in, no room is made, no key is used up."""
        forms = await self.forms()
        rooms = await self.app.event_log.names()
        for name, (path, fields) in forms.items():
            for headers in FOREIGN:
                with self.subTest(name, headers=headers):
                    guest = self.visitor()
                    self.assert_readable(await guest.post(path, headers, **fields), 403)
                    self.assertEqual(guest.cookies, {})
        self.assertEqual(await self.app.event_log.names(), rooms)
        for path, fields in forms.values():
            self.assertEqual((await self.visitor().post(path, **fields)).code, 303)

    @in_time
    @settings(allowed_origins="http://friend.example")
    async def test_our_own_pages_and_programs_may(self) -> None:
        """And pages of a site that the operator allows."""
        for headers in (
            {},
            {"Origin": self.origin},
            {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "http://friend.example"},
            {"Origin": "http://friend.example", "Sec-Fetch-Site": "cross-site"},
        ):
            with self.subTest(headers=headers):
                self.assertEqual((await self.visitor().post("/rooms", headers, name="tea")).code, 303)

    @in_time
    async def test_pages_with_a_form_let_it_say_where_it_comes_from(self) -> None:
        """With no-referrer a browser would send `Origin: null`; other sites are told nothing all the same."""
        for path in ("/", "/rooms", f"/?room={NEVER_MADE}", f"/door?room={NEVER_MADE}", "/admin?key=x"):
            with self.subTest(path):
                self.assertEqual((await self.get(path)).headers["Referrer-Policy"], "same-origin")

    @in_time
    async def test_trying_is_limited_for_a_person(self) -> None:
        """From however many addresses; 429 comes before anything is computed, whether there is such a room or not."""
        _, room, _ = await self.house_of()
        for name in (room, NEVER_MADE):
            guesser = self.visitor()
            await guesser.get("/rooms")
            with held(passwords._thread), patch("chat.doors.is_password") as computed:
                computed.return_value = False
                answers = []
                for number in range(15):
                    guesser.address = f"192.0.2.{number}"
                    answers.append(await guesser.post("/door", room=name, password=str(number)))
            codes = [answer.code for answer in answers]
            self.assertEqual((codes[:10], codes[-1]), ([403] * 10, 429))
            self.assertEqual(computed.call_count, codes.count(403))
            self.assert_readable(answers[-1], 429)
            self.assertGreater(int(answers[-1].headers["Retry-After"]), 0)

    @in_time
    async def test_trying_is_limited_for_an_address(self) -> None:
        """Under however many names, and of IPv6 for the whole network; others go on."""
        for addresses in (["192.0.2.7"], [f"2001:db8::{number:x}" for number in range(50)]):
            with patch("chat.doors.is_password", return_value=False):
                codes = [
                    (await self.visitor(addresses[number % len(addresses)]).post("/door", room=NEVER_MADE)).code
                    for number in range(50)
                ]
                self.assertEqual(codes[:40], [403] * 40)
                self.assertIn(429, codes[40:])
                self.assertEqual((await self.visitor().post("/door", room=NEVER_MADE)).code, 403)

    @in_time
    async def test_making_rooms_is_limited(self) -> None:
        """A flood of forms makes no more rooms than the limit lets it."""
        maker = self.visitor()
        await maker.get("/rooms")
        answers = await asyncio.gather(*(maker.post("/rooms", name="tea") for _ in range(30)))
        made = [answer.code for answer in answers].count(303)
        self.assertLess(made, 15)
        self.assertEqual(len(await self.app.event_log.names()), made)

    @in_time
    async def test_long_forms_are_refused(self) -> None:
        """Before anything is looked up; one of the largest that is needed is taken."""
        _, room, owner = await self.house_of("\U0001f680" * 50)
        await done(owner, type="password", password="\U0001f680" * 128)
        fields = {"room": room, "password": "\U0001f680" * 128}
        self.assertLess(len(urlencode(fields)), MAX_FORM_BYTES)
        self.assertEqual((await self.visitor().post("/door", **fields)).code, 303)
        for path in ("/door", "/rooms", "/admin"):
            with self.subTest(path):
                self.assert_readable(await self.visitor().post(path, junk="x" * MAX_FORM_BYTES), 413)

    @in_time
    async def test_forms_that_are_none_are_refused(self) -> None:
        """Other types, bad encodings, missing and odd fields: a readable 4xx and no fault."""
        for type, body in (
            ("application/json", b'{"name": "tea", "room": "~x"}'),
            ("application/x-www-form-urlencoded", b"name=%ff&room=%ff&key=%ff"),
            ("application/x-www-form-urlencoded", b"name=%00&room=%0d%0aX:%20y&key=%00"),
            ("application/x-www-form-urlencoded", b"name[]=tea&room[]=a"),
            ("application/x-www-form-urlencoded", b"&&&==="),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=name"),
            ("multipart/form-data", b"x"),
            ("", b""),
        ):
            for path in ("/door", "/rooms", "/admin"):
                with self.subTest(path, type=type, body=body):
                    answer = await self.get(path, method="POST", body=body, headers={"Content-Type": type})
                    self.assertIn(answer.code, (400, 403))
                    self.assertNotIn(b"Traceback", answer.body)
                    self.assertNotIn("X", answer.headers)
        self.assertEqual(await self.app.event_log.names(), [])

    @in_time
    async def test_bad_rooms_have_no_door(self) -> None:
        """A name that no room can have is a readable 400, by GET and by POST."""
        for name in ("", "a/b", "~" + "x" * 64, "~\r\nSet-Cookie: x=y", "~a\u202eb"):
            with self.subTest(name):
                self.assert_readable(await self.visitor().get(f"/door?room={quote(name, safe='')}"), 400)
                answer = await self.visitor().post("/door", room=name, invite="x.y")
                self.assert_readable(answer, 400)
                self.assertNotIn("x=y", str(answer.headers))

    @in_time
    async def test_doors_name_their_room_as_text(self) -> None:
        """Whatever it is called, and whatever stands in the link."""
        plain = Markup((await self.get("/door?room=~plain&invite=x")).body)
        for name in MARKUP_NAMES:
            with self.subTest(name):
                answer = await self.get(f"/door?room={quote('~' + name, safe='')}&invite={quote(name, safe='')}")
                self.assert_safe_answer(answer, 200)
                page = Markup(answer.body)
                self.assertEqual([tag for tag, _ in page.elements], [tag for tag, _ in plain.elements])
                self.assertIn(f"~{name}", page.words)
                self.assertEqual(page.attributes("input", name="invite")[0]["value"], name)

    def test_tries_are_forgotten_when_they_are_over(self) -> None:
        """However many people try, what is kept of them goes again."""
        now_s = [0.0]
        tries = Tries(lambda: now_s[0])
        for number in range(5000):
            now_s[0] += 1
            tries.wait_s(f"person{number}", f"2001:db8:{number:x}::1")
        self.assertLess(len(tries.people._full_at_s) + len(tries.addresses._full_at_s), 2100)


class OperatorTest(DoorsTestCase):
    def key(self) -> str:
        return operator_key(self.app.socket_class.secret, time.time())

    async def role_of(self, visitor: Visitor, room: str = "lounge") -> str | None:
        member = await visitor.enter(room)
        role: str | None = member.welcome["you"].get("role")
        member.vanish()
        return role

    @in_time
    async def test_the_operators_link_makes_a_browser_the_operators(self) -> None:
        """After a button was pressed: an operator in open rooms and in closed ones, for as long as the cookie lasts."""
        _, closed, _ = await self.house_of()
        operator, key = self.visitor(), self.key()
        page = Markup((await operator.get(f"/admin?key={key}")).body)
        self.assertEqual(page.attributes("form")[0], {"class": "stack", "action": "/admin", "method": "post"})
        self.assertEqual(page.attributes("input", name="key")[0]["value"], key)
        self.assertNotIn("chatroom_operator", operator.cookies)
        answer = await operator.post("/admin", key=key)
        self.assertEqual((answer.code, answer.headers["Location"]), (303, "/rooms"))
        morsel = SimpleCookie(answer.headers["Set-Cookie"])["chatroom_operator"]
        self.assertEqual((bool(morsel["httponly"]), morsel["samesite"], morsel["path"]), (True, "Lax", "/"))
        for room in ("lounge", closed):
            self.assertEqual(await self.role_of(operator, room), "operator")
            self.assertTrue(await operator.is_let_in(room))

    @in_time
    async def test_behind_https_the_operators_cookie_is_secure(self) -> None:
        """As the person's is."""
        answer = await self.visitor().post("/admin", {"X-Forwarded-Proto": "https"}, key=self.key())
        cookies = answer.headers.get_list("Set-Cookie")
        self.assertEqual([("secure" in cookie.lower()) for cookie in cookies], [True, True])

    @in_time
    async def test_looking_at_the_link_uses_nothing_up_and_the_button_does(self) -> None:
        """Once pressed it is used up, for whoever shows it again."""
        key = self.key()
        for _ in range(3):
            self.assertEqual((await self.visitor().get(f"/admin?key={key}")).code, 200)
            await self.visitor().get(f"/admin?key={key}", method="HEAD")
        codes = [
            answer.code for answer in await asyncio.gather(*(self.visitor().post("/admin", key=key) for _ in range(8)))
        ]
        self.assertEqual(sorted(codes), [303] + [403] * 7)
        self.assertEqual((await self.visitor().get(f"/admin?key={key}")).code, 403)

    @in_time
    async def test_keys_that_are_not_good_make_nobody_the_operator(self) -> None:
        """Expired, of another server, changed, none: told so, by GET and by POST."""
        good = self.key()
        for key in (
            operator_key(self.app.socket_class.secret, time.time() - 601),
            operator_key(self.app.socket_class.secret, time.time() + 3600),
            operator_key("t" * 64, time.time()),
            good[:-1] + ("A" if good[-1] != "A" else "B"),
            good.upper(),
            *("", "x", "a.b.c", "<script>", "\u0663"),
        ):
            with self.subTest(key):
                guest = self.visitor()
                for answer in (
                    await guest.get(f"/admin?key={quote(key)}"),
                    await guest.post("/admin", key=key),
                ):
                    self.assert_safe_answer(answer, 403)
                    self.assertIn("This link is not valid any more", " ".join(Markup(answer.body).words))
                    self.assertEqual(Markup(answer.body).attributes("form"), [])
                self.assertNotIn("chatroom_operator", guest.cookies)

    @in_time
    async def test_the_operators_cookie_is_good_for_one_person(self) -> None:
        """Who copies it without the person's own cookie is nobody; so is who writes one himself."""
        operator, thief = self.visitor(), self.visitor()
        await operator.post("/admin", key=self.key())
        first = await self.visitor().enter("lounge")
        first.say("mine")
        await first.hears("ack")
        await thief.get("/rooms")
        thief.cookies["chatroom_operator"] = operator.cookies["chatroom_operator"]
        self.assertIsNone(await self.role_of(thief))
        for forged in (
            "",
            "x",
            thief.cookies["chatroom"],
            operator.cookies["chatroom"],
            "2|1:0|10:1|17:chatroom_operator|0:|x",
        ):
            thief.cookies["chatroom_operator"] = forged
            self.assertIsNone(await self.role_of(thief))
        alone = self.visitor()
        alone.cookies["chatroom_operator"] = operator.cookies["chatroom_operator"]
        self.assertIsNone(await self.role_of(alone))
        self.assertEqual(await self.role_of(operator), "operator")

    @in_time
    async def test_an_operator_is_one_for_thirty_days(self) -> None:
        """Whatever the browser thinks of its cookie."""
        operator = self.visitor()
        await operator.post("/admin", key=self.key())
        _, closed, _ = await self.house_of()
        for days, is_one in ((29, True), (31, False)):
            with later(days * 86400):
                self.assertEqual(await operator.is_let_in(closed), is_one)
