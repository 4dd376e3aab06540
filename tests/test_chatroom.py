"""The socket from outside: the handshake, what is said on both wires, and the going down of a server."""

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import quote

from tornado.testing import ExpectLog

from chat import serving
from chat.limits import Turns
from chatroom import Settings, make_app
from tests.house import (
    BAD_INTEGERS,
    BAD_ROOM_NAMES,
    NEWCOMER,
    ChatTestCase,
    Member,
    contiguous,
    filled,
    handshake_in,
    in_time,
    ping,
    settings,
    until,
)
from tests.support import DEADLINE_S

TOO_MUCH_TEXT = "x" * 4001


class HandshakeTest(ChatTestCase):
    @in_time
    async def test_without_a_room_the_handshake_leads_to_default(self) -> None:
        """`default` is the room of a handshake that names none."""
        self.assertEqual((await self.join(None)).welcome["room"], "default")

    @in_time
    async def test_bad_rooms_and_pasts_are_refused_with_400(self) -> None:
        """A bad room name, half a past and an `after` that is no integer in 0…2^53−1 are refused."""
        bad_rooms = {
            **{repr(name): f"room={quote(name, safe='')}" for name in BAD_ROOM_NAMES},
            "not UTF-8": "room=%ff",
        }
        bad_pasts = {
            "epoch alone": "epoch=abc",
            "after alone": "after=5",
            **{f"after {bad!r}": f"epoch=abc&after={quote(bad)}" for bad in BAD_INTEGERS},
        }
        for what, query in (bad_rooms | bad_pasts).items():
            with self.subTest(what):
                answer = await self.refusal(self.knock(f"/ws?{query}"))
                self.assertEqual(answer.code, 400)
                self.assertNotIn(b"Traceback", answer.body)

    @in_time
    async def test_odd_but_good_rooms_are_taken_in_their_one_spelling(self) -> None:
        """64 code points, joiners, spaces within and any script are a room name, normalised to NFC."""
        for wished, room in GOOD_ROOM_NAMES.items():
            with self.subTest(wished):
                self.assertEqual((await self.join(wished)).welcome["room"], room)

    @in_time
    async def test_the_largest_after_is_an_integer_like_others(self) -> None:
        """2^53−1 is within the range of `after`."""
        member = await self.join(epoch="unknown", after=2**53 - 1)
        self.assertEqual(member.welcome["resumed"], "reset")

    @in_time
    async def test_only_unknown_subprotocols_are_refused(self) -> None:
        """A client that names subprotocols, but none of ours, is refused with 400."""
        for wire in (["chat"], ["chatroom.v2", "CHATROOM.V1"]):
            with self.subTest(wire):
                self.assertEqual((await self.refusal(self.join(wire=wire))).code, 400)

    @in_time
    async def test_the_known_one_of_several_subprotocols_is_chosen(self) -> None:
        """Among several subprotocols the one we speak is chosen, wherever it stands."""
        for wire in (["chatroom.v1", "chat"], ["chat", "chatroom.v1"]):
            with self.subTest(wire):
                member = await self.join(wire=wire)
                self.assertEqual(member.socket.selected_subprotocol, "chatroom.v1")

    @in_time
    @settings(allowed_origins="https://friend.example, https://other.example:8443")
    async def test_foreign_origins_are_refused_with_403(self) -> None:
        """Only the page's own origin and the allowed ones may connect; look-alikes of them may not."""
        port = self.get_http_port()
        for origin in (
            "http://evil.example",
            "http://[",
            "null",
            f"http://127.0.0.1.evil.example:{port}",
            f"http://evil-127.0.0.1:{port}",
            f"http://127.0.0.1:{port}@evil.example",
            f"http://127.0.0.1:{port + 1}",
            f"http://localhost:{port}",
            "http://127.0.0.1",
            "http://friend.example",
            "https://friend.example.evil.example",
            "https://evilfriend.example",
            "https://other.example",
        ):
            with self.subTest(origin):
                self.assertEqual((await self.refusal(self.join(headers={"Origin": origin}))).code, 403)

    @in_time
    @settings(allowed_origins="https://friend.example, https://other.example:8443")
    async def test_own_origin_allowed_origins_and_none_are_welcome(self) -> None:
        """The page itself, the allowed origins and programs, which send none, may connect."""
        await self.join()
        for origin in (self.origin, "https://friend.example", "https://other.example:8443"):
            with self.subTest(origin):
                await self.join(headers={"Origin": origin})

    @in_time
    @settings(connections_per_address=2)
    async def test_too_many_sockets_of_one_address_are_refused_with_429(self) -> None:
        """The third socket of an address is refused until one closes; other addresses are not concerned."""
        here = {"X-Forwarded-For": "192.0.2.1"}
        first, _ = await self.join(headers=here), await self.join(headers=here)
        self.assertEqual((await self.refusal(self.join(headers=here))).code, 429)
        self.assertEqual((await self.get("/api/rooms/default/messages", headers=here)).code, 429)
        await self.join(headers={"X-Forwarded-For": "192.0.2.2"})
        first.socket.close()
        await until(lambda: len(self.app.socket_class.sockets) == 2)
        await self.join(headers=here)

    @in_time
    @settings(max_members=2)
    async def test_a_full_server_refuses_with_503_and_the_api_tells_the_same(self) -> None:
        """A full server answers 503 with Retry-After, on the socket and in the API, until somebody goes."""
        first, _ = await self.join(), await self.join()
        for answer in (await self.refusal(self.join()), await self.get("/api/rooms/default/messages")):
            self.assertEqual(answer.code, 503)
            self.assertGreater(int(answer.headers["Retry-After"]), 0)
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(answer.headers["Cache-Control"], "no-store")
        first.vanish()
        await until(lambda: len(self.app.socket_class.sockets) == 1)
        self.assertEqual((await self.get("/api/rooms/default/messages")).code, 200)
        await self.join()

    @in_time
    async def test_above_the_rate_of_newcomers_handshakes_are_refused_and_the_api_tells_the_same(self) -> None:
        """Who is too many is answered 503 with Retry-After, and comes in when it is over; who is in stays and talks."""
        self.app.socket_class.turns = Turns(2, 2)
        ann, _ = await self.join(), await self.join()
        for answer in (await self.refusal(self.join()), await self.get("/api/rooms/default/messages")):
            self.assertEqual(answer.code, 503)
            self.assertGreater(int(answer.headers["Retry-After"]), 0)
        ann.send(type="say", client_id="c1", text="still here")
        await ann.hears("ack")
        await until(lambda: not self.app.socket_class.turns.wait_s(time.monotonic()))
        self.assertEqual((await self.get("/api/rooms/default/messages")).code, 200)
        await self.join()

    @in_time
    @handshake_in(0.3)
    async def test_half_open_handshakes_hinder_nobody_and_are_dropped(self) -> None:
        """A hundred unfinished handshakes are dropped when their time is over; a real one gets through meanwhile."""
        unfinished = [await self.connect() for _ in range(100)]
        for number, raw in enumerate(unfinished):
            raw.writer.write(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n"[: number % 40])
        member = await self.join()
        member.say("through")
        await member.hears("message", text="through")
        for raw in unfinished:
            self.assertEqual(await asyncio.wait_for(raw.reader.read(), DEADLINE_S), b"")

    @in_time
    async def test_each_app_has_its_own_rooms(self) -> None:
        """The registry of rooms is of the class, and every server has a class of its own."""
        other = make_app(Settings(database=":memory:"))
        await self.join("mine")
        self.assertEqual(list(self.app.socket_class.rooms), ["mine"])
        self.assertEqual(other.socket_class.rooms, {})
        await other.event_log.close()


GOOD_ROOM_NAMES = {
    "x" * 64: "x" * 64,
    "e\u0301" * 64: "\u00e9" * 64,
    "\U0001f469\u200d\U0001f680": "\U0001f469\u200d\U0001f680",
    "می\u200cخواهم": "می\u200cخواهم",
    "two words": "two words",
    "100%+&=#?": "100%+&=#?",
    "...": "...",
}


class IdentityTest(ChatTestCase):
    @in_time
    async def test_the_handshake_hands_out_an_identity(self) -> None:
        """Who has no cookie gets one with the 101 answer: for this site's pages only, not for scripts."""
        morsel = (await self.join()).morsel
        self.assertTrue(morsel["httponly"])
        self.assertEqual(morsel["samesite"], "Lax")
        self.assertFalse(morsel["secure"])

    @in_time
    async def test_under_https_the_identity_is_sent_over_https_only(self) -> None:
        """A proxy on this machine that says https makes the cookie Secure."""
        member = await self.join(headers={"X-Forwarded-Proto": "https"})
        self.assertTrue(member.morsel["secure"])

    @in_time
    async def test_the_cookie_makes_the_person(self) -> None:
        """With the cookie one is the same person again, and none is handed out anew; without it another."""
        first = await self.join()
        again, other = await self.join(cookie=first.cookie), await self.join()
        self.assertEqual(again.id, first.id)
        self.assertNotEqual(other.id, first.id)
        self.assertNotIn("Set-Cookie", again.socket.headers)

    @in_time
    async def test_the_public_id_lets_nobody_be_that_person(self) -> None:
        """The id is not the token, nor a part of it, and is no cookie."""
        first = await self.join()
        self.assertNotIn(first.id, first.cookie)
        self.assertNotEqual((await self.join(cookie=f"chatroom={first.id}")).id, first.id)

    @in_time
    async def test_a_forged_cookie_makes_a_new_person(self) -> None:
        """Whoever changes a cookie, or makes one up, is a new person with a new cookie."""
        first = await self.join()
        value = first.morsel.coded_value.strip('"')
        fields = value.split("|")
        other_token = "|".join([*fields[:-2], "8:b3RoZXI=", fields[-1]])
        for cookie in (
            other_token,
            value[:-1] + ("0" if value[-1] != "0" else "1"),
            value[:20],
            "",
            "x" * 3000,
            "2|1:",
        ):
            with self.subTest(cookie), ExpectLog("tornado.general", "Invalid cookie signature", required=False):
                member = await self.join(cookie=f'chatroom="{cookie}"')
                self.assertNotEqual(member.id, first.id)
                self.assertTrue(member.cookie)

    @in_time
    @settings(secret="s" * 32)
    async def test_a_bad_cookie_is_nothing_to_warn_of(self) -> None:
        """Anybody can send a garbled cookie: neither it nor a warning about it goes to the log."""
        for cookie in ("2|1:0|10:1700000000|8:chatroom|4:eHh4|0000", "eHh4|1700000000|0000"):
            with self.subTest(cookie):
                self.assertTrue((await self.join(cookie=f'chatroom="{cookie}"')).cookie)

    @in_time
    async def test_a_bad_name_is_answered_with_one_of_ours(self) -> None:
        """Without a name, or with a bad one, the server gives one."""
        for name in (None, "", " ", "x" * 33, "a\nb", "a\u202eb", "a/b", "\u200d"):
            with self.subTest(name):
                member = await self.join(**({} if name is None else {"name": name}))
                self.assertTrue(1 <= len(member.name) <= 32)
                self.assertNotEqual(member.name, name)

    @in_time
    async def test_a_name_is_taken_in_its_one_spelling(self) -> None:
        """Display names are normalised to NFKC."""
        self.assertEqual((await self.join(name="\uff21nn\u2460")).name, "Ann1")

    @in_time
    async def test_look_alike_names_get_a_number_and_are_told(self) -> None:
        """Of two people whose names look alike the later one is told the name he got, in his welcome."""
        await self.join(name="Admin")
        for name in ("Admin", "admin", "\u0410dmin", "Adm\u0456n", "A\u200ddmin"):
            with self.subTest(name):
                got = (await self.join(name=name)).name
                self.assertNotEqual(got, name)
                self.assertRegex(got, r" \d+$")

    @in_time
    async def test_a_name_is_free_again_when_its_person_is_gone(self) -> None:
        """The last socket of a person frees his name, not the first; other rooms are not concerned."""
        ann = await self.join(name="Ann")
        tab = await self.join(cookie=ann.cookie)
        self.assertEqual(tab.name, "Ann")
        self.assertEqual((await self.join("elsewhere", name="Ann")).name, "Ann")
        watcher = await self.join()
        ann.vanish()
        await until(lambda: len(self.app.socket_class.sockets) == 3)
        self.assertNotEqual((await self.join(name="Ann")).name, "Ann")
        tab.vanish()
        while ann.id not in (await watcher.hears("presence"))["left"]:
            pass
        self.assertEqual((await self.join(name="Ann")).name, "Ann")


class SayTest(ChatTestCase):
    @in_time
    async def test_welcome_tells_all_there_is_to_know(self) -> None:
        """The first frame has exactly the fields of the contract."""
        before_ms = time.time() * 1000
        welcome = (await self.join(name="Ann")).welcome
        ann = {"id": self.here[0].id, "name": "Ann", "role": "owner"}
        self.assertTrue(before_ms - 1 <= welcome["now"] <= time.time() * 1000)
        self.assertEqual(
            welcome,
            {
                "type": "welcome",
                "room": "default",
                "epoch": self.app.event_log.epoch,
                "head": 0,
                "now": welcome["now"],
                "you": ann,
                "present": 1,
                "limits": {"text": 4000, "frame": 65536, "rate": 0, "burst": 0, "history": 50},
                "rules": {},
                "roles": [ann],
            },
        )

    @in_time
    @settings(message_rate=3.0, history=7)
    async def test_welcome_tells_the_limits_of_this_server(self) -> None:
        """The rate, its burst of four times that, and the history are the server's own."""
        limits = (await self.join()).welcome["limits"]
        self.assertEqual((limits["rate"], limits["burst"], limits["history"]), (3, 12, 7))

    @in_time
    async def test_a_message_has_exactly_its_fields(self) -> None:
        """A message says who, when and what; `reply_to` only if it is a reply."""
        ann, bob = await self.join(name="Ann"), await self.join(name="Bob")
        ann.say("  first \n")
        message = await bob.hears("message")
        self.assertEqual(
            message,
            {
                "type": "message",
                "seq": 1,
                "at": message["at"],
                "by": {"id": ann.id, "name": "Ann"},
                "text": "first",
            },
        )
        bob.say("second", reply_to=1)
        self.assertEqual((await ann.hears("message", seq=2))["reply_to"], 1)

    @in_time
    async def test_the_ack_comes_before_the_event_and_only_to_the_socket_that_asked(self) -> None:
        """The asking socket hears the ack, then the event; the speaker's other tab only the event."""
        ann = await self.join(name="Ann")
        tab, bob = await self.join(cookie=ann.cookie), await self.join(name="Bob")
        ann.say("hello", "c1")
        heard = [frame for frame in await ann.hears_until("message") if frame["type"] != "presence"]
        self.assertEqual(heard[0], {"type": "ack", "client_id": "c1", "seq": 1})
        self.assertEqual(heard[1]["seq"], 1)
        for other in (tab, bob):
            self.assertNotIn("ack", [frame["type"] for frame in await other.hears_until("message")])

    @in_time
    async def test_every_member_hears_the_same_events_in_the_same_order(self) -> None:
        """Ten speakers at once: one order for all, contiguous, each speaker's own words in his order."""
        members = [await self.join(name=f"Member {number}") for number in range(10)]
        for number in range(50):
            for member in members:
                member.say(f"{member.name}: {number}")
        heard = [await member.messages(500) for member in members]
        self.assertTrue(contiguous(heard[0], 0))
        for events in heard:
            self.assertEqual(events, heard[0])
        for member in members:
            said = [event["text"] for event in heard[0] if event["by"]["id"] == member.id]
            self.assertEqual(said, [f"{member.name}: {number}" for number in range(50)])
        times = [event["at"] for event in heard[0]]
        self.assertEqual(times, sorted(times))

    @in_time
    @filled("default", 3, at=2**42)
    async def test_time_never_goes_back_within_a_room(self) -> None:
        """After an event of the future (a clock that was wrong) the next one is not earlier."""
        ann = await self.join()
        ann.say("later")
        self.assertGreaterEqual((await ann.hears("message", text="later"))["at"], 2**42)

    @in_time
    async def test_saying_the_same_again_acks_the_first_seq_and_stores_nothing(self) -> None:
        """A retry is safe, at once, from another tab and with another text; it is the person's and the room's."""
        ann, bob, witness = await self.join(), await self.join(), await self.join()
        tab, elsewhere = await self.join(cookie=ann.cookie), await self.join("elsewhere", cookie=ann.cookie)
        for member, text in ((ann, "once"), (ann, "once"), (tab, "once more")):
            member.say(text, "same")
            self.assertEqual((await member.hears("ack"))["seq"], 1)
        bob.say("mine", "same")
        self.assertEqual((await bob.hears("ack"))["seq"], 2)
        elsewhere.say("there", "same")
        self.assertEqual((await elsewhere.hears("ack"))["seq"], 1)
        ann.say("last")
        self.assertEqual([event["text"] for event in await witness.messages(3)], ["once", "mine", "last"])

    @in_time
    async def test_the_same_said_at_once_from_two_tabs_is_stored_once(self) -> None:
        """Whether retries meet in one commit or in several, there is one event, and each asker has his ack."""
        ann, witness = await self.join(), await self.join()
        tab = await self.join(cookie=ann.cookie)
        for _ in range(20):
            ann.say("once", "same")
            tab.say("once", "same")
        for member in (ann, tab):
            self.assertEqual({(await member.hears("ack"))["seq"] for _ in range(20)}, {1})
        ann.say("last")
        self.assertEqual([event["text"] for event in await witness.messages(2)], ["once", "last"])

    @in_time
    async def test_a_reply_needs_a_message_of_this_room(self) -> None:
        """`reply_to` is the seq of a message here, also of one just said; anything else is `not_found`."""
        ann, elsewhere = await self.join(), await self.join("elsewhere")
        for number in range(3):
            elsewhere.say(f"there {number}")
        await elsewhere.messages(3)
        ann.say("first", "c1")
        ann.say("second", "c2", reply_to=1)
        self.assertEqual((await ann.hears("ack", client_id="c2"))["seq"], 2)
        for seq in (3, 2**53 - 1):
            with self.subTest(seq):
                ann.say("to nobody", f"r{seq}", reply_to=seq)
                self.assertEqual((await ann.hears("error", client_id=f"r{seq}"))["code"], "not_found")
        ann.say("third", "c3")
        self.assertEqual((await ann.hears("ack", client_id="c3"))["seq"], 3)

    @in_time
    async def test_a_reply_to_0_is_a_reply_to_nothing(self) -> None:
        """0 is the seq of no message, so that a reply to it is `not_found` and not stored as no reply."""
        ann = await self.join()
        ann.say("to nobody", "c0", reply_to=0)
        ann.say("last", "c1")
        heard = await ann.hears_until("ack", client_id="c1")
        self.assertEqual([frame["code"] for frame in heard if frame["type"] == "error"], ["not_found"])

    @in_time
    async def test_five_hundred_says_in_flight_are_stored_and_acked_in_order(self) -> None:
        """More than 64 says of one socket at once are read a little later; none is lost or overtaken."""
        ann, bob = await self.join(), await self.join()
        for number in range(500):
            ann.say(f"{number}", f"c{number}")
        acks = [await ann.hears("ack") for _ in range(500)]
        self.assertEqual([(ack["client_id"], ack["seq"]) for ack in acks], [(f"c{n}", n + 1) for n in range(500)])
        self.assertEqual([event["text"] for event in await bob.messages(500)], [str(n) for n in range(500)])

    @in_time
    async def test_a_socket_has_at_most_64_says_in_flight(self) -> None:
        """While the disk is slow, what one socket says waits in its own connection, not in the server's memory."""
        ann, bob = await self.join(), await self.join()
        with self.writing_held():
            for number in range(500):
                ann.say(f"{number}", f"c{number}")
            in_flight = next(each for each in self.app.socket_class.sockets if each.person_id == ann.id)
            await until(lambda: in_flight._says_in_flight >= 64)
            for number in range(5):
                bob.send(type="people", ref=number)
                await bob.hears("people", ref=number)
            self.assertEqual(in_flight._says_in_flight, 64)
        self.assertTrue(contiguous(await bob.messages(500), 0))

    @in_time
    async def test_the_longest_text_is_said_as_it_is(self) -> None:
        """4,000 code points of any script are a text; quotes, markup and control characters stay what they are."""
        ann, bob = await self.join(), await self.join()
        for text in ("\U0001f680" * 4000, "\u0001" * 4000, "<script>alert('\"&')</script>\u2028\0\u202e", "x\n\ny"):
            with self.subTest(text[:20]):
                ann.say(text)
                self.assertEqual((await bob.hears("message"))["text"], text)

    @in_time
    async def test_nobody_speaks_as_someone_else(self) -> None:
        """`by`, `seq` and `at` are the server's, whatever the client sends."""
        ann, bob = await self.join(name="Ann"), await self.join(name="Bob")
        ann.say("hello", by={"id": bob.id, "name": "Bob"}, seq=99, at=1)
        message = await bob.hears("message")
        self.assertEqual((message["by"], message["seq"]), ({"id": ann.id, "name": "Ann"}, 1))
        self.assertGreater(message["at"], 1_600_000_000_000)


class RateTest(ChatTestCase):
    @in_time
    @settings(message_rate=5.0)
    async def test_who_is_too_fast_is_told_when_to_try_again(self) -> None:
        """Four times the rate goes through at once; then `retry_after` says when the next one will."""
        ann = await self.join()
        for number in range(60):
            ann.say("x", f"c{number}")
        refused = await ann.hears("error")
        self.assertEqual(refused["code"], "rate_limited")
        self.assertGreaterEqual(int(refused["client_id"][1:]), 20)
        self.assertTrue(0 < refused["retry_after"] <= 0.21)
        last = await ann.hears("error", client_id="c59")
        await asyncio.sleep(last["retry_after"])
        ann.say("x", "again")
        await ann.hears("ack", client_id="again")

    @in_time
    @settings(message_rate=0.1)
    async def test_the_rate_is_the_persons_over_all_his_tabs(self) -> None:
        """A second tab has no rate of its own; another person has."""
        ann = await self.join()
        tab, bob = await self.join(cookie=ann.cookie), await self.join()
        ann.say("x")
        await ann.hears("ack")
        tab.say("x")
        self.assertEqual((await tab.hears("error"))["code"], "rate_limited")
        bob.say("x")
        await bob.hears("ack")

    @in_time
    async def test_asking_is_limited_too(self) -> None:
        """History and people are asked for at a bounded rate, with `ref` and `retry_after` in the refusal."""
        ann, bob = await self.join(), await self.join()
        for asking in ({"type": "history", "before": 1}, {"type": "people"}):
            with self.subTest(asking["type"]):
                for number in range(60):
                    ann.send(**asking, ref=number)
                refused = await ann.hears("error")
                self.assertEqual(refused["code"], "rate_limited")
                self.assertIsInstance(refused["ref"], int)
                self.assertGreater(refused["retry_after"], 0)
        bob.send(type="people")
        await bob.hears("people")

    @in_time
    async def test_a_rate_of_0_is_no_limit(self) -> None:
        """With `message_rate` 0 a thousand messages go through at once."""
        ann = await self.join()
        for _ in range(1000):
            ann.say("x")
        self.assertTrue(contiguous(await ann.messages(1000), 0))


BAD_FRAMES: dict[str, tuple[str | bytes, str]] = {
    # what is wrong: the frame, and what the message must name
    "not JSON": ("{", ""),
    "a bare word": ("hello", ""),
    "empty": ("", ""),
    "an array": ('[{"type": "typing"}]', ""),
    "a string": ('"typing"', ""),
    "null": ("null", ""),
    "two objects": ('{"type": "typing"} {"type": "typing"}', ""),
    "binary": (b'{"type": "typing"}', ""),
    "no type": ("{}", "type"),
    "type a number": ('{"type": 5}', "type"),
    "NaN": ('{"type": "say", "client_id": "a", "text": NaN}', ""),
    "a lone surrogate": ('{"type": "say", "client_id": "a", "text": "\\ud800"}', ""),
    "half a surrogate pair": ('{"type": "say", "client_id": "a", "text": "\\ud83d x"}', ""),
    "deeply nested": ("[" * 60000, ""),
    "deeply nested and whole": ('{"type": "typing", "x": ' + "[" * 30000 + "]" * 30000 + "}", ""),
    "objects nested": ('{"a":' * 12000, ""),
    "no client_id": ('{"type": "say", "text": "x"}', "client_id"),
    "no text": ('{"type": "say", "client_id": "a"}', "text"),
    "text a number": ('{"type": "say", "client_id": "a", "text": 5}', "text"),
    "text null": ('{"type": "say", "client_id": "a", "text": null}', "text"),
    "client_id empty": ('{"type": "say", "client_id": "", "text": "x"}', "client_id"),
    "client_id too long": ('{"type": "say", "client_id": "%s", "text": "x"}' % ("a" * 65), "client_id"),
    "client_id with a space": ('{"type": "say", "client_id": "a b", "text": "x"}', "client_id"),
    "client_id with a newline": ('{"type": "say", "client_id": "a\\n", "text": "x"}', "client_id"),
    "client_id not ASCII": ('{"type": "say", "client_id": "\u00e4", "text": "x"}', "client_id"),
    "client_id a long number": ('{"type": "say", "client_id": %s, "text": "x"}' % ("9" * 5000), "client_id"),
    "reply_to negative": ('{"type": "say", "client_id": "a", "text": "x", "reply_to": -1}', "reply_to"),
    "reply_to 2^53": ('{"type": "say", "client_id": "a", "text": "x", "reply_to": 9007199254740992}', "reply_to"),
    "reply_to 2^64": ('{"type": "say", "client_id": "a", "text": "x", "reply_to": 18446744073709551616}', "reply_to"),
    "reply_to a string": ('{"type": "say", "client_id": "a", "text": "x", "reply_to": "1"}', "reply_to"),
    "reply_to null": ('{"type": "say", "client_id": "a", "text": "x", "reply_to": null}', "reply_to"),
    "history of nothing": ('{"type": "history"}', "before"),
    "history of two bounds": ('{"type": "history", "before": 5, "after": 1}', "before"),
    "before negative": ('{"type": "history", "before": -1}', "before"),
    "at 1.5": ('{"type": "history", "at": 1.5}', "at"),
    "limit 0": ('{"type": "history", "before": 5, "limit": 0}', "limit"),
    "limit 201": ('{"type": "history", "before": 5, "limit": 201}', "limit"),
    "limit a string": ('{"type": "history", "before": 5, "limit": "5"}', "limit"),
    "ref an object": ('{"type": "history", "before": 5, "ref": {}}', "ref"),
    "ref a long number": ('{"type": "history", "before": 5, "ref": %s}' % ("9" * 5000), "ref"),
    "ref beyond floats": ('{"type": "history", "before": 5, "ref": 1e999}', ""),
    "people limit 101": ('{"type": "people", "limit": 101}', "limit"),
    "people offset negative": ('{"type": "people", "offset": -1}', "offset"),
    "people query a number": ('{"type": "people", "query": 5}', "query"),
    "no name": ('{"type": "rename"}', "name"),
    "name a list": ('{"type": "rename", "name": ["x"]}', "name"),
}
REFUSED_FRAMES: dict[str, tuple[str, str]] = {
    "an unknown type": ('{"type": "nope"}', "unknown_type"),
    "an empty type": ('{"type": ""}', "unknown_type"),
    "a type of the server": ('{"type": "message", "text": "x"}', "unknown_type"),
    "a type in capitals": ('{"type": "SAY", "client_id": "a", "text": "x"}', "unknown_type"),
    "no text": ('{"type": "say", "client_id": "a", "text": ""}', "empty_text"),
    "white space alone": ('{"type": "say", "client_id": "a", "text": " \\n\\t\u00a0\u2003\u3000"}', "empty_text"),
    "4,001 characters": (json.dumps({"type": "say", "client_id": "a", "text": TOO_MUCH_TEXT}), "text_too_long"),
    "4,001 emoji": (json.dumps({"type": "say", "client_id": "a", "text": "\U0001f680" * 4001}), "text_too_long"),
    "an empty name": ('{"type": "rename", "name": ""}', "bad_name"),
    "a long name": (json.dumps({"type": "rename", "name": "x" * 33}), "bad_name"),
    "a name with a direction": ('{"type": "rename", "name": "a\\u202eb"}', "bad_name"),
    "a name with a newline": ('{"type": "rename", "name": "a\\nb"}', "bad_name"),
    "a reply to nothing": ('{"type": "say", "client_id": "a", "text": "x", "reply_to": 77}', "not_found"),
    "around nothing": ('{"type": "history", "around": 77}', "not_found"),
}


class RefusedFramesTest(ChatTestCase):
    async def assert_refused(self, frame: str | bytes, code: str) -> Any:
        """A frame is answered with one `error`; the socket stays open and the others are undisturbed."""
        sender = await self.join("table", name="Sender")
        sender.send_raw(frame)
        error = await sender.hears("error")
        self.assertEqual(error["code"], code)
        self.assertTrue(error["message"])
        self.assertNotIn("Traceback", error["message"])
        sender.say("still here", "after")
        heard = await sender.hears_until("ack", client_id="after")
        self.assertNotIn("error", [each["type"] for each in heard])
        sender.vanish()
        return error

    @in_time
    async def test_bad_frames_are_told_and_nothing_else_happens(self) -> None:
        """Whatever is no frame of ours gets `bad_frame`, with the name of the field that is wrong."""
        witness = await self.join("table", name="Witness")
        for what, (frame, named) in BAD_FRAMES.items():
            with self.subTest(what):
                self.assertIn(named, (await self.assert_refused(frame, "bad_frame"))["message"])
        heard = await witness.messages(len(BAD_FRAMES))
        self.assertEqual({message["text"] for message in heard}, {"still here"})
        self.assertTrue(contiguous(heard, 0))

    @in_time
    async def test_what_cannot_be_done_is_told_with_its_code(self) -> None:
        """Each refusal has the code of the contract."""
        witness = await self.join("table", name="Witness")
        for what, (frame, code) in REFUSED_FRAMES.items():
            with self.subTest(what):
                await self.assert_refused(frame, code)
        self.assertTrue(contiguous(await witness.messages(len(REFUSED_FRAMES)), 0))

    @in_time
    async def test_a_refusal_names_the_frame_it_is_about(self) -> None:
        """`client_id` and `ref` come back with the error, where the frame had fit ones."""
        ann = await self.join()
        ann.send(type="say", client_id="mine", text="")
        self.assertEqual((await ann.hears("error"))["client_id"], "mine")
        ann.send(type="history", ref="mine")
        self.assertEqual((await ann.hears("error"))["ref"], "mine")
        ann.send(type="history", around=5, ref=7)
        self.assertEqual((await ann.hears("error"))["ref"], 7)
        ann.send(type="say", client_id="not fit", text="")
        self.assertNotIn("client_id", await ann.hears("error"))

    @in_time
    async def test_unknown_fields_are_ignored(self) -> None:
        """What a later version may add to a frame does no harm."""
        ann = await self.join()
        ann.say("x", colour="red", nested={"a": [1, {}]})
        await ann.hears("message")

    @in_time
    async def test_a_frame_of_64_KiB_is_read_and_one_byte_more_closes_with_1009(self) -> None:
        """Whoever sends more than 64 KiB at once is closed with 1009; the others go on."""
        ann, bob = await self.join(), await self.join()
        say = '{"type": "say", "client_id": "a", "text": "x"}'
        ann.send_raw(say + " " * (65536 - len(say)))
        await bob.hears("message")
        ann.send_raw(say + " " * (65537 - len(say)))
        self.assertEqual(await ann.closed(), 1009)
        bob.say("going on")
        self.assertEqual((await bob.hears("message"))["text"], "going on")

    @in_time
    async def test_twenty_bad_frames_close_with_1008(self) -> None:
        """Nineteen bad frames are borne, the twentieth within ten seconds closes; other errors do not count."""
        ann, bob = await self.join(), await self.join()
        for _ in range(19):
            ann.send_raw("{")
        for number in range(30):
            ann.say("", f"e{number}")
        ann.say("borne", "c")
        await ann.hears("ack", client_id="c")
        ann.send(type="nope")
        self.assertEqual(await ann.closed(), 1008)
        bob.say("going on")
        self.assertEqual([event["text"] for event in await bob.messages(2)], ["borne", "going on"])

    @in_time
    async def test_bad_frames_over_more_than_ten_seconds_are_borne(self) -> None:
        """Only twenty bad frames within ten seconds close the socket."""
        ann, now_s = await self.join(), 1000.0
        with mock.patch("chatroom.time", SimpleNamespace(monotonic=lambda: now_s)):
            for count, pause_s in ((19, 10.1), (1, 0.0)):
                for _ in range(count):
                    ann.send_raw("{")
                    await ann.hears("error", code="bad_frame")
                now_s += pause_s
            ann.say("borne")
            await ann.hears("ack")
            for _ in range(19):
                ann.send_raw("{")
            self.assertEqual(await ann.closed(), 1008)

    @in_time
    async def test_text_that_is_not_utf_8_closes_with_1007(self) -> None:
        """Invalid UTF-8 in a text frame is a fault of the protocol; the others go on."""
        for bad in (b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b'{"type": "\xe2\x82'):
            with self.subTest(bad):
                raw, bob = await self.join_raw(), await self.join()
                raw.send(0x1, bad)
                self.assertEqual(await raw.close_code(), 1007)
                bob.say("going on")
                await bob.hears("message", text="going on")

    @in_time
    async def test_a_broken_frame_closes_with_1002(self) -> None:
        """A frame that RFC 6455 forbids (reserved bits, an unknown opcode, a lone continuation) closes with 1002."""
        for first, opcode in ((0xC0, 0x1), (0x80, 0x3), (0x80, 0x0), (0x00, 0x9)):
            with self.subTest(first=first, opcode=opcode):
                raw = await self.join_raw()
                raw.send(opcode, b"x", first)
                self.assertEqual(await raw.close_code(), 1002)


class PlainWireTest(ChatTestCase):
    @in_time
    async def test_every_text_comes_back_to_all_as_a_json_string(self) -> None:
        """What one member says all members hear, the sender too, as one JSON string."""
        ann = await self.join_plain()
        bob = await self.join_plain()
        self.assertEqual(await ann.next(), NEWCOMER)
        for text in ("hello", '{"type": "say"}', '"quoted"', "\U0001f680 <b>", "  trimmed\n"):
            with self.subTest(text):
                ann.send_raw(text)
                for member in (ann, bob):
                    self.assertEqual(await member.next(), text.strip())

    @in_time
    async def test_newcomers_of_either_wire_are_announced_to_plain_members(self) -> None:
        """Each new member is announced to the plain members; the v1 members have their presence for it."""
        ann = await self.join_plain()
        bob = await self.join(name="Bob")
        self.assertEqual(await ann.next(), NEWCOMER)
        await self.join(cookie=bob.cookie)
        self.assertEqual(await ann.next(), NEWCOMER)
        await self.join_plain()
        self.assertEqual(await ann.next(), NEWCOMER)
        ann.send_raw("end")
        self.assertEqual(await ann.next(), "end")
        self.assertNotIn(NEWCOMER, await bob.hears_until("message"))

    @in_time
    async def test_members_of_both_wires_share_a_room(self) -> None:
        """What is said on one wire is heard on the other; a plain member is a person with a name and an id."""
        ann, script = await self.join(name="Ann"), await self.join_plain(name="Script")
        script.send_raw("from the script")
        message = await ann.hears("message")
        self.assertEqual((message["text"], message["by"]["name"]), ("from the script", "Script"))
        ann.say("from the page")
        self.assertEqual([await script.next() for _ in range(2)], ["from the script", "from the page"])
        ann.send(type="people")
        self.assertEqual((await ann.hears("people"))["total"], 2)

    @in_time
    async def test_what_cannot_be_a_message_is_dropped_silently(self) -> None:
        """Empty, blank, too long and binary frames are nobody's message, and no error comes back."""
        ann, bob = await self.join_plain(), await self.join(name="Bob")
        self.assertEqual(await ann.next(), NEWCOMER)
        for frame in ("", " \n\u3000", TOO_MUCH_TEXT, b"binary", b""):
            ann.send_raw(frame)
        ann.send_raw("end")
        self.assertEqual(await ann.next(), "end")
        self.assertEqual(await self.messages_of(bob, 1), ["end"])

    @in_time
    async def test_a_hundred_dropped_frames_do_not_close_the_socket(self) -> None:
        """The plain wire has no strikes: it has no errors to learn from."""
        ann = await self.join_plain()
        for _ in range(100):
            ann.send_raw(b"binary")
        ann.send_raw("end")
        self.assertEqual(await ann.next(), "end")

    @in_time
    async def test_there_is_no_history(self) -> None:
        """A new member hears what is said from now on."""
        ann = await self.join_plain()
        ann.send_raw("before")
        self.assertEqual(await ann.next(), "before")
        bob = await self.join_plain()
        ann.send_raw("after")
        self.assertEqual(await bob.next(), "after")

    @in_time
    @settings(message_rate=20.0)
    async def test_over_the_rate_it_is_read_later_and_nothing_is_lost(self) -> None:
        """A hundred lines at once at twenty a second: all of them arrive, in order."""
        ann = await self.join_plain()
        for number in range(100):
            ann.send_raw(f"line {number}")
        self.assertEqual([await ann.next() for _ in range(100)], [f"line {number}" for number in range(100)])

    @in_time
    @settings(message_rate=20.0)
    async def test_who_is_read_later_is_not_taken_for_dead(self) -> None:
        """A member whose pong waits behind his own lines, which the server does not read yet, is not dropped."""
        ann = await self.join_plain()
        for number in range(100):
            ann.send_raw(f"line {number}")
        heard = [await ann.next() for _ in range(80)]
        for _ in range(3):
            ping(self.app.socket_class.sockets)
            heard.append(await ann.next())
        heard += [await ann.next() for _ in range(17)]
        self.assertEqual(heard, [f"line {number}" for number in range(100)])

    async def messages_of(self, member: Member, count: int) -> list[str]:
        return [message["text"] for message in await member.messages(count)]


class GoingDownTest(ChatTestCase):
    @in_time
    async def test_everybody_is_asked_to_come_back_each_at_another_time(self) -> None:
        """Draining says `bye` with a `retry_after` of its own to each v1 member, then closes all with 1001."""
        members = [await self.join() for _ in range(10)]
        plain = await self.join_plain()
        await self.drain()
        waits = [(await member.hears("bye"))["retry_after"] for member in members]
        self.assertTrue(all(wait > 0 for wait in waits))
        self.assertGreater(len(set(waits)), 1)
        self.assertEqual({await member.closed() for member in [*members, plain]}, {1001})
        self.assertEqual(self.app.socket_class.rooms, {})

    @in_time
    async def test_a_disk_that_hangs_keeps_nobody_from_being_told(self) -> None:
        """While what was said cannot be stored, members hear `bye` and 1001 once half the grace is over."""
        ann, bob = await self.join(), await self.join()
        with self.writing_held():
            ann.say("never stored in time", "c1")
            await until(lambda: self.app.event_log._commit_due)
            await asyncio.wait_for(self.drain(1.0), DEADLINE_S)
            self.assertNotIn("ack", [frame["type"] for frame in await ann.hears_until("bye")])
            await bob.hears("bye")
            self.assertEqual([await ann.closed(), await bob.closed()], [1001, 1001])

    @in_time
    async def test_a_draining_server_refuses_with_503(self) -> None:
        """New handshakes and the API get 503 with Retry-After."""
        await self.drain()
        for answer in (await self.refusal(self.join()), await self.get("/api/rooms/default/messages")):
            self.assertEqual(answer.code, 503)
            self.assertGreater(int(answer.headers["Retry-After"]), 0)

    @in_time
    async def test_what_was_acked_was_shown_and_is_stored(self) -> None:
        """A speaker in full flow: each message is either acked, shown to all and stored, or none of it."""
        ann, bob = await self.join(), await self.join()
        for number in range(300):
            ann.say(f"{number}", f"c{number}")
        await ann.hears("ack")
        draining = asyncio.ensure_future(self.drain())
        acked = 1 + sum(frame["type"] == "ack" for frame in await ann.hears_until("bye"))
        shown = [frame for frame in await bob.hears_until("bye") if frame["type"] == "message"]
        await draining
        self.assertTrue(contiguous(shown, 0))
        self.assertEqual(len(shown), acked)
        self.assertEqual(await self.app.event_log.head("default"), acked)


class LookingAfterTest(ChatTestCase):
    @in_time
    @settings(message_rate=1000.0)
    async def test_full_buckets_are_forgotten_while_the_server_runs(self) -> None:
        """Whoever has been quiet for a while costs no memory."""
        ann = await self.join()
        ann.say("x")
        await ann.hears("ack")
        self.assertTrue(self.app.socket_class.says._full_at_s)
        with mock.patch("chat.serving.PING_S", 0.01):
            caring = asyncio.ensure_future(serving.look_after(self.app.socket_class))
            await until(lambda: not self.app.socket_class.says._full_at_s)
        caring.cancel()
