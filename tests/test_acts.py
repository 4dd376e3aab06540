"""What is done in a room: decided at once, undone if it cannot be stored, and done by nobody without the right."""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

from tornado.testing import ExpectLog

from chat import limits, serving
from chat.protocol import MAX_INTEGER
from chat.room import Room
from tests.house import ChatTestCase, Member, SocketClosed, in_time, settings, until


class ActsTestCase(ChatTestCase):
    acted = 0

    async def act(self, member: Member, type: str, **fields: Any) -> dict[str, Any]:
        """The answer to an act or a question."""
        self.acted += 1
        member.send(type=type, ref=self.acted, **fields)
        while True:
            frame: dict[str, Any] = await member.next()
            if frame.get("ref") == self.acted:
                return frame

    async def code(self, member: Member, type: str, **fields: Any) -> str:
        """`done`, or the code of the refusal."""
        answer = await self.act(member, type, **fields)
        return str(answer.get("code", answer["type"]))

    async def say(self, member: Member, text: str) -> int | str:
        """The seq of what was said, or the code of the refusal."""
        self.acted += 1
        client_id = f"s{self.acted}"
        member.say(text, client_id)
        while True:
            frame = await member.next()
            if frame.get("client_id") == client_id:
                return int(frame["seq"]) if frame["type"] == "ack" else str(frame["code"])

    async def reading_asked(self) -> None:
        """Return when somebody waits for the log to be read, which is held."""
        await until(self.app.event_log._reader_thread._work_queue.qsize)

    async def pair(self) -> tuple[Member, Member]:
        """The owner of the room, and somebody."""
        ann, bob = await self.join(name="Ann"), await self.join(name="Bob")
        await self.say(ann, "hello")
        return ann, bob


class OwnersTest(ActsTestCase):
    @in_time
    async def test_who_opens_a_room_owns_it_once_anything_is_stored(self) -> None:
        """It holds after everybody has gone and the room is read anew; until then nothing is kept."""
        ann = await self.join(name="Ann")
        self.assertEqual(ann.welcome["you"]["role"], "owner")
        ann.vanish()
        await until(lambda: not self.app.socket_class.rooms)
        bob, cecil = await self.join(name="Bob"), await self.join(name="Cecil")
        self.assertEqual((bob.welcome["you"]["role"], "role" in cecil.welcome["you"]), ("owner", False))
        await self.say(cecil, "the first word")
        bob.vanish(), cecil.vanish()
        await until(lambda: not self.app.socket_class.rooms)
        again = await self.join(name="Bob", cookie=bob.cookie)
        self.assertEqual(again.welcome["you"]["role"], "owner")

    @in_time
    async def test_a_script_that_comes_first_owns_nothing(self) -> None:
        """On the plain wire nobody could use it; the first page that comes gets the room."""
        await self.join_plain()
        ann = await self.join()
        self.assertEqual(ann.welcome["you"]["role"], "owner")

    @in_time
    async def test_a_room_that_was_talked_in_is_nobodys(self) -> None:
        """Whoever comes into an old room without an owner does not become one."""
        plain = await self.join_plain()
        plain.send_raw("hello")
        await plain.next()
        self.assertNotIn("role", (await self.join()).welcome["you"])

    @in_time
    async def test_the_last_owner_stays_one(self) -> None:
        ann, bob = await self.pair()
        self.assertEqual(await self.code(ann, "role", person=ann.id, role=""), "forbidden")
        self.assertEqual(await self.code(ann, "role", person=bob.id, role="owner"), "done")
        self.assertEqual(await self.code(ann, "role", person=ann.id, role=""), "done")
        self.assertEqual(await self.code(ann, "rules", slow_s=5), "forbidden")


class DecidedTest(ActsTestCase):
    @in_time
    async def test_what_was_decided_counts_before_it_is_stored(self) -> None:
        """A say that comes right behind a mute is refused, though the mute is still being written."""
        ann, bob = await self.pair()
        with self.writing_held():
            ann.send(type="mute", person=bob.id, seconds=60, ref=1)
            await until(lambda: self.app.socket_class.rooms["default"].acts.order.people.get(bob.id))
            bob.say("too late", "b1")
            await until(lambda: any(each._says_in_flight for each in self.app.socket_class.sockets))
            ann.send(type="mute", person=bob.id, seconds=0, ref=2)
        self.assertEqual((await bob.hears("error", client_id="b1"))["code"], "muted")
        await ann.hears("done", ref=2)

    @in_time
    async def test_who_is_demoted_meanwhile_acts_no_more(self) -> None:
        """His act follows the taking of his role, and changes nothing."""
        ann, bob = await self.pair()
        await self.act(ann, "role", person=bob.id, role="moderator")
        with self.writing_held():
            ann.send(type="role", person=bob.id, role="", ref=1)
            await until(lambda: not self.app.socket_class.rooms["default"].acts.order.role_of(bob.id))
            self.assertEqual(await self.code(bob, "rules", read_only=True), "forbidden")
        await ann.hears("done", ref=1)
        self.assertNotIn("read_only", (await self.join()).welcome["rules"])

    @contextlib.asynccontextmanager
    async def storing_nothing(self) -> AsyncIterator[None]:
        """Let another program hold the file meanwhile."""
        log = self.app.event_log
        await log._ask(log._writer_thread, lambda: log._writer.execute("PRAGMA busy_timeout = 0").fetchall())
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    @in_time
    async def test_what_cannot_be_stored_is_undone(self) -> None:
        """The mute that failed mutes nobody, and the next one holds."""
        ann, bob = await self.pair()
        with ExpectLog("chatroom", "the log can(not)? take messages"):
            async with self.storing_nothing():
                self.assertEqual(await self.code(ann, "mute", person=bob.id, seconds=60), "not_stored")
            await ann.hears("status", storing=True)
        self.assertIsInstance(await self.say(bob, "still heard"), int)
        self.assertEqual(await self.code(ann, "mute", person=bob.id, seconds=60), "done")
        self.assertEqual(await self.say(bob, "not heard"), "muted")

    @in_time
    async def test_a_room_stays_while_an_act_is_being_stored(self) -> None:
        """Who comes back in between finds the order as it was decided."""
        ann, bob = await self.pair()
        with self.writing_held():
            ann.send(type="mute", person=bob.id, seconds=60)
            await until(lambda: self.app.socket_class.rooms["default"].acts.order.people.get(bob.id))
            ann.vanish(), bob.vanish()
            await until(lambda: bob.id not in {each.person_id for each in self.app.socket_class.sockets})
            self.assertIn("default", self.app.socket_class.rooms)
        await until(lambda: not self.app.socket_class.rooms)
        back = await self.join(name="Bob", cookie=bob.cookie)
        self.assertIn("muted_until", back.welcome["you"])


class RefusedTest(ActsTestCase):
    BAD = (
        {"type": "mute", "person": "x", "seconds": 5},
        {"type": "mute", "person": "a" * 16, "seconds": -1},
        {"type": "mute", "person": "a" * 16, "seconds": MAX_INTEGER},
        {"type": "mute", "person": "a" * 16},
        {"type": "ban", "person": "a" * 16, "reason": "x" * 201},
        {"type": "ban", "person": "a" * 16, "address": True},
        {"type": "role", "person": "a" * 16, "role": "king"},
        {"type": "rules", "slow_s": 10**9},
        {"type": "rules", "links": "maybe"},
        {"type": "filter", "patterns": [{"pattern": "x"}] * 101},
        {"type": "filter", "patterns": [{"pattern": "(", "is_regex": True}]},
        {"type": "filter", "patterns": [{"pattern": ""}]},
        {"type": "invite", "seconds": 1},
        {"type": "invite", "seconds": 3600, "uses": 0},
        {"type": "react", "message": 1, "kind": "nope"},
        {"type": "edit", "message": 1},
        {"type": "review", "held": 1},
        {"type": "acts", "limit": 101},
    )

    @in_time
    async def test_a_bad_act_is_refused_with_its_ref(self) -> None:
        """`bad_frame`, one sentence, and nothing changed."""
        ann, _ = await self.pair()
        for number, frame in enumerate(self.BAD[:12]):
            with self.subTest(frame):
                ann.send(**frame, ref=number)
                self.assertEqual((await ann.hears("error", ref=number))["code"], "bad_frame")
        again = await self.join(cookie=ann.cookie)
        for number, frame in enumerate(self.BAD[12:]):
            with self.subTest(frame):
                again.send(**frame, ref=number)
                self.assertEqual((await again.hears("error", ref=number))["code"], "bad_frame")

    @in_time
    async def test_on_what_is_no_message_nothing_is_done(self) -> None:
        """Other events, what is gone, what never was; and twice."""
        ann, bob = await self.pair()
        seq = await self.say(bob, "mine")
        mute = (await self.act(ann, "mute", person=ann.id, seconds=0)).get("code")
        self.assertEqual(mute, "forbidden")
        act = (await self.act(ann, "rules", links="held"))["seq"]
        for number in (act, 0, 999, MAX_INTEGER):
            for type, more in (("delete", {}), ("edit", {"text": "x"}), ("react", {"kind": "👍"})):
                self.assertEqual(await self.code(ann, type, message=number, **more), "not_found", (type, number))
        self.assertEqual(await self.code(ann, "edit", message=seq, text="not mine"), "forbidden")
        self.assertEqual(await self.code(bob, "delete", message=seq), "done")
        self.assertEqual(await self.code(bob, "delete", message=seq), "not_found")
        self.assertEqual(await self.code(bob, "edit", message=seq, text="gone"), "not_found")
        self.assertEqual(await self.code(ann, "review", held=7, show=True), "not_found")
        self.assertEqual(await self.code(ann, "review", held=7, show=False), "not_found")

    @in_time
    async def test_a_flood_of_acts_is_limited(self) -> None:
        """With `rate_limited` and a time, as asking is."""
        ann, bob = await self.pair()
        for number in range(40):
            ann.send(type="mute", person=bob.id, seconds=60 + number, ref=number)
        answers = [await ann.hears("done" if number < 15 else "error") for number in range(16)]
        self.assertEqual(answers[-1]["code"], "rate_limited")
        self.assertGreater(answers[-1]["retry_after"], 0)

    @in_time
    async def test_an_edit_is_judged_like_something_said(self) -> None:
        """Neither a mute nor the filter is got round by it; and the time for it ends."""
        ann, bob = await self.pair()
        seq, said_s = await self.say(bob, "harmless"), time.time()
        await self.act(ann, "filter", patterns=[{"pattern": "casino"}])
        self.assertEqual(await self.code(bob, "edit", message=seq, text="a casino"), "refused")
        await self.act(ann, "mute", person=bob.id, seconds=60)
        self.assertEqual(await self.code(bob, "edit", message=seq, text="while muted"), "muted")
        self.assertEqual(await self.code(bob, "react", message=seq, kind="👍"), "muted")
        await self.act(ann, "mute", person=bob.id, seconds=0)
        await self.act(ann, "rules", edit_s=1)
        await until(lambda: time.time() > said_s + 1)
        self.assertEqual(await self.code(bob, "edit", message=seq, text="too late"), "too_late")
        self.assertEqual(await self.code(bob, "delete", message=seq), "done")


class SlowTest(ActsTestCase):
    @in_time
    async def test_saying_it_again_is_always_safe(self) -> None:
        """What was stored is acked, whatever was decided since; only what is new is refused."""
        ann, bob = await self.pair()
        bob.say("heard", "b1")
        seq = (await bob.hears("ack", client_id="b1"))["seq"]
        for act in (
            {"type": "mute", "person": bob.id, "seconds": 60},
            {"type": "rules", "read_only": True},
            {"type": "filter", "patterns": [{"pattern": "heard"}]},
        ):
            await self.act(ann, **act)
            bob.say("heard", "b1")
            self.assertEqual((await bob.hears("ack", client_id="b1"))["seq"], seq)
            self.assertIn(await self.say(bob, "heard"), ("muted", "read_only", "refused"))

    @in_time
    async def test_slow_mode_counts_what_is_new(self) -> None:
        """A retry, and what the filter refuses, is nobody's turn; a message and an edit are."""
        ann, bob = await self.pair()
        bob.say("first", "b1")
        seq = (await bob.hears("ack", client_id="b1"))["seq"]
        await self.act(ann, "filter", patterns=[{"pattern": "casino"}])
        await self.act(ann, "rules", slow_s=3600)
        bob.say("first", "b1")
        await bob.hears("ack", client_id="b1")
        self.assertEqual(await self.say(bob, "a casino"), "refused")
        self.assertEqual(await self.code(bob, "edit", message=999, text="nothing"), "not_found")
        self.assertEqual(await self.code(bob, "edit", message=seq, text="edited"), "done")
        bob.say("too soon", "b2")
        refused = await bob.hears("error", client_id="b2")
        self.assertEqual(refused["code"], "slow_mode")
        self.assertTrue(3500 < refused["retry_after"] <= 3600.01)
        self.assertEqual(await self.code(bob, "edit", message=seq, text="again"), "slow_mode")
        bob.say("first", "b1")
        self.assertEqual((await bob.hears("ack", client_id="b1"))["seq"], seq)
        self.assertIsInstance(await self.say(ann, "as often as I like"), int)
        self.assertIsInstance(await self.say(ann, "as I said"), int)

    @in_time
    async def test_over_whose_text_the_filter_takes_long_waits_alone(self) -> None:
        """He waits, in every word; nobody else does, and no moderator ever."""
        ann, bob = await self.pair()
        cat = await self.join(name="Cat")
        await self.act(ann, "filter", patterns=[{"pattern": "casino"}])
        with mock.patch.multiple(limits, FILTER_S=0.0, FILTER_REST=10**9):
            for member in (ann, bob, cat):
                self.assertIsInstance(await self.say(member, "dear"), int)
        seq = await self.say(ann, "and again")
        self.assertIsInstance(seq, int)
        self.assertEqual(await self.say(bob, "again"), "rate_limited")
        dan = await self.join(name="Dan")
        self.assertIsInstance(await self.say(dan, "hello"), int)


class AbsentTest(ActsTestCase):
    async def left(self, member: Member) -> None:
        member.vanish()
        await until(lambda: not self.app.socket_class.rooms["default"].people.find(member.id))

    @in_time
    async def test_who_has_left_is_dealt_with_by_his_name(self) -> None:
        """In the event, on his card and in the order; whoever asked for it sees whom it is about."""
        ann, bob = await self.pair()
        await self.say(bob, "spam")
        await self.left(bob)
        cat = await self.join(name="Cat")
        self.assertEqual((await self.act(ann, "person", person=bob.id))["name"], "Bob")
        self.assertEqual(await self.code(ann, "ban", person=bob.id), "done")
        self.assertEqual((await cat.hears("act"))["whom"], {"id": bob.id, "name": "Bob"})
        (restraint,) = (await self.act(ann, "order"))["restraints"]
        self.assertEqual(restraint["whom"]["name"], "Bob")

    @in_time
    async def test_nobody_is_dealt_with_who_never_was_here(self) -> None:
        """`not_found`; but first it is asked who has the right to ask."""
        ann, bob = await self.pair()
        nobody = "a" * 16
        for type, more in (("ban", {}), ("mute", {"seconds": 5}), ("kick", {}), ("purge", {}), ("role", {"role": ""})):
            self.assertEqual(await self.code(ann, type, person=nobody, **more), "not_found", type)
            self.assertEqual(await self.code(bob, type, person=nobody, **more), "forbidden", type)
        self.assertEqual(await self.code(ann, "person", person=nobody), "not_found")
        self.assertEqual((await self.act(ann, "acts"))["acts"], [])

    @in_time
    async def test_who_was_put_out_and_said_nothing_can_be_banned(self) -> None:
        """The moderators' log knows him."""
        ann, bob = await self.pair()
        await self.act(ann, "kick", person=bob.id)
        await self.left(bob)
        cat = await self.join(name="Cat")
        self.assertEqual(await self.code(ann, "ban", person=bob.id), "done")
        self.assertEqual((await cat.hears("act", act="ban"))["whom"]["name"], "Bob")

    @in_time
    async def test_who_is_demoted_while_a_name_is_looked_up_acts_no_more(self) -> None:
        ann, bob = await self.pair()
        cat = await self.join(name="Cat")
        await self.say(cat, "hello")
        await self.left(cat)
        await self.act(ann, "role", person=bob.id, role="moderator")
        with self.reading_held():
            bob.send(type="mute", person=cat.id, seconds=60, ref=1)
            await self.reading_asked()
            await self.act(ann, "role", person=bob.id, role="")
        self.assertEqual((await bob.hears("error", ref=1))["code"], "forbidden")


class RecordsTest(ActsTestCase):
    @in_time
    async def test_the_moderators_log_says_whose_message_it_was(self) -> None:
        """Deleted, shown or refused; what a moderator removes of his own is no record."""
        ann, bob = await self.pair()
        seq = await self.say(bob, "first")
        await self.act(ann, "delete", message=seq, reason="off topic")
        await self.act(ann, "delete", message=await self.say(ann, "my own"))
        await self.act(ann, "filter", patterns=[{"pattern": "hmm", "action": "hold"}])
        for show in (True, False):
            self.assertEqual(await self.say(bob, "hmm"), "held")
            (held,) = (await self.act(ann, "held"))["held"]
            self.assertEqual(await self.code(ann, "review", held=held["id"], show=show), "done")
        about_bob = (await self.act(ann, "acts", person=bob.id))["acts"]
        self.assertEqual([record["act"] for record in about_bob], ["review", "review", "delete"])
        self.assertEqual({record["whom"]["name"] for record in about_bob}, {"Bob"})
        everything = (await self.act(ann, "acts"))["acts"]
        self.assertEqual([record["act"] for record in everything], ["review", "review", "filter", "delete"])

    @in_time
    async def test_how_many_wait_is_told_beyond_what_is_listed(self) -> None:
        """The count goes up by what came, and is asked for once for all who ask meanwhile."""
        ann, bob = await self.pair()
        await self.act(ann, "filter", patterns=[{"pattern": "hmm", "action": "hold"}])
        asked, log = [], self.app.event_log
        with mock.patch.object(log, "held_count", lambda room: asked.append(room) or type(log).held_count(log, room)):
            for number in range(250):
                bob.say("hmm", f"h{number}")
            counts = [(await ann.hears("waiting"))["held"]]
            while counts[-1] < 250:
                counts.append((await ann.hears("waiting"))["held"])
        self.assertEqual(counts, sorted(counts))
        self.assertLess(len(asked), 100)

    @in_time
    async def test_a_ban_with_all_he_said_is_one_commit(self) -> None:
        """It cannot be parted: between the ban and the purge nothing is stored."""
        ann, bob = await self.pair()
        await self.say(bob, "spam")
        changes, log = [], self.app.event_log
        with mock.patch.object(log, "append", lambda asked: changes.append(asked) or type(log).append(log, asked)):
            self.assertEqual(await self.code(ann, "ban", person=bob.id, purge=True), "done")
        self.assertEqual(len(changes), 1)
        self.assertEqual([record["act"] for record in (await self.act(ann, "acts"))["acts"]], ["purge", "ban"])


class PendingReactionsTest(ActsTestCase):
    @in_time
    async def test_a_purge_takes_a_reaction_that_is_yet_to_be_told(self) -> None:
        """It is refused, and no event names whoever made it."""
        ann, bob = await self.pair()
        await self.act(bob, "react", message=1, kind="🎉")
        bob.send(type="react", message=1, kind="👀", ref=77)
        await until(lambda: self.app.socket_class.rooms["default"].acts._reacting)
        seq = (await self.act(ann, "purge", person=bob.id))["seq"]
        self.assertEqual((await bob.hears("error", ref=77))["code"], "forbidden")
        late = await self.join()
        told = await late.hears("reactions", seq=seq + 1)
        self.assertEqual([change["reactions"] for change in told["changes"]], [[]])
        self.assertEqual(late.welcome["head"], seq + 1)


class PurgeTest(ActsTestCase):
    @in_time
    async def test_moderators_hear_that_less_waits_for_review(self) -> None:
        """A purge takes what its person had waiting, too."""
        ann, bob = await self.pair()
        await self.act(ann, "rules", links="held")
        self.assertEqual(await self.say(bob, "see https://example.org/"), "held")
        await ann.hears("waiting", held=1)
        await self.act(ann, "purge", person=bob.id)
        await ann.hears("waiting", held=0)


class NamesTest(ActsTestCase):
    @in_time
    async def test_who_is_muted_speaks_by_nothing_else(self) -> None:
        """Neither by his name nor by writing; and a name the filter finds is nobody's."""
        ann, bob = await self.pair()
        await self.act(ann, "filter", patterns=[{"pattern": "casino"}])
        bob.send(type="rename", name="best casino")
        self.assertEqual((await bob.hears("error"))["code"], "refused")
        await self.act(ann, "mute", person=bob.id, seconds=60)
        bob.send(type="rename", name="Robert")
        self.assertEqual((await bob.hears("error"))["code"], "muted")
        bob.send(type="typing")
        await self.act(ann, "mute", person=bob.id, seconds=0)
        bob.send(type="rename", name="Robert")
        await bob.hears("you", name="Robert")
        self.assertNotIn("typing", [frame["type"] for frame in await ann.hears_until("presence")])


class ReactionsTest(ActsTestCase):
    @in_time
    async def test_a_reaction_to_no_message_is_refused_alone(self) -> None:
        """Others that are told with it are done."""
        ann, bob = await self.pair()
        await self.act(ann, "react", message=1, kind="👀")
        ann.send(type="react", message=1, kind="🎉", ref=1)
        bob.send(type="react", message=999, kind="🎉", ref=2)
        self.assertIn("seq", await ann.hears("done", ref=1))
        self.assertEqual((await bob.hears("error", ref=2))["code"], "not_found")

    @in_time
    async def test_reactions_of_a_crowd_are_one_event_a_second(self) -> None:
        """The first is told at once, all others of that second together."""
        _, bob = await self.pair()
        crowd = [await self.join(name=f"P{number}") for number in range(20)]
        for member in crowd:
            member.send(type="react", message=1, kind="🎉", ref=1)
        for member in crowd:
            await member.hears("done", ref=1)
        frames = []
        while not frames or frames[-1]["changes"][0]["reactions"][0]["n"] < 20:
            frames.append(await bob.hears("reactions"))
        self.assertLessEqual(len(frames), 3)
        self.assertEqual(len(frames[-1]["changes"][0]["reactions"][0]["by"]), 8)

    @in_time
    async def test_what_came_and_went_in_between_is_no_event(self) -> None:
        ann, bob = await self.pair()
        before = (await self.act(ann, "react", message=1, kind="👀"))["seq"]
        bob.send(type="react", message=1, kind="🎉", ref=1)
        bob.send(type="react", message=1, kind="🎉", on=False, ref=2)
        self.assertNotIn("seq", await bob.hears("done", ref=1))
        self.assertNotIn("seq", await bob.hears("done", ref=2))
        self.assertEqual(self.app.socket_class.rooms["default"].shown_seq, before)


class PutOutTest(ActsTestCase):
    @in_time
    async def test_a_ban_closes_every_window_within_a_second(self) -> None:
        """Also of one who does not answer the close frame, and of the plain wire."""
        ann, bob = await self.pair()
        tab = await self.join(cookie=bob.cookie)
        script = await self.join_plain(cookie=bob.cookie)
        deaf = await self.connect()
        deaf.writer.write(
            f"GET /ws?room=default HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nCookie: {bob.cookie}\r\n"
            "Sec-WebSocket-Protocol: chatroom.v1\r\n\r\n".encode()
        )
        await deaf.reader.readuntil(b"\r\n\r\n")
        began_s = time.monotonic()
        self.assertEqual(await self.code(ann, "ban", person=bob.id), "done")
        for member in (bob, tab, script):
            self.assertEqual(await member.closed(), 1008)
        await until(lambda: {each.person_id for each in self.app.socket_class.sockets} == {ann.id})
        self.assertLess(time.monotonic() - began_s, 1.0)

    @in_time
    async def test_a_ban_of_the_address_is_of_all_that_a_person_has(self) -> None:
        """It puts out as many as the moderator was told before, and keeps them out by whichever they come."""
        ann, _ = await self.pair()
        at_home, on_a_train = ({"X-Forwarded-For": f"198.51.100.{number}"} for number in (1, 2))
        troll = await self.join(headers=at_home)
        await self.join(headers=on_a_train, cookie=troll.cookie)
        friends = [await self.join(headers=headers) for headers in (at_home, on_a_train)]
        card = await self.act(ann, "person", person=troll.id)
        self.assertEqual(card["from_address"], 3)
        self.assertEqual(await self.code(ann, "ban", person=troll.id, seconds=60, address=True), "done")
        for friend in friends:
            self.assertEqual(await friend.closed(), 1008)
        for headers in (at_home, on_a_train):
            self.assertEqual((await self.refusal(self.join(headers=headers))).code, 403)

    @in_time
    async def test_a_lifted_ban_that_is_lifted_again_is_no_event(self) -> None:
        """It is answered as done, without a seq, and the moderators' log has it once."""
        ann, bob = await self.pair()
        await self.act(ann, "ban", person=bob.id)
        first, second = [await self.act(ann, "ban", person=bob.id, seconds=0) for _ in range(2)]
        self.assertEqual(
            (first["type"], second["type"], "seq" in first, "seq" in second), ("done", "done", True, False)
        )
        records = (await self.act(ann, "acts"))["acts"]
        self.assertEqual([record["act"] for record in records], ["unban", "ban"])

    @in_time
    async def test_putting_out_by_name_looks_at_that_person_alone(self) -> None:
        """An invitation that is revoked may put out thousands: each must not cost a look at all."""
        ann, bob = await self.pair()
        with mock.patch.object(Room, "everybody", side_effect=AssertionError):
            self.assertEqual(await self.code(ann, "kick", person=bob.id), "done")
            self.assertEqual(await bob.closed(), 1008)

    @in_time
    async def test_who_is_put_out_hears_nothing_more(self) -> None:
        """Not even what is said before he has closed."""
        ann, bob = await self.pair()
        heard = []
        await self.act(ann, "kick", person=bob.id)
        await self.say(ann, "is he gone?")
        with contextlib.suppress(SocketClosed):
            while True:
                heard.append(await bob.next())
        self.assertNotIn("is he gone?", [frame.get("text") for frame in heard])
        self.assertEqual(heard[-1]["type"], "out")

    @in_time
    async def test_who_is_banned_is_turned_away_from_an_idle_room_too(self) -> None:
        """Nobody is in it, so that its log must be read first: he is told why instead of a welcome."""
        ann, bob = await self.pair()
        await self.act(ann, "ban", person=bob.id, reason="enough")
        ann.vanish()
        await until(lambda: not self.app.socket_class.rooms)
        back = Member()
        with contextlib.suppress(AssertionError):
            back = await self.join(cookie=bob.cookie)
        self.assertEqual(self.here[-1].welcome["type"], "out")  # type: ignore[union-attr]
        self.assertEqual(self.here[-1].welcome["reason"], "enough")  # type: ignore[union-attr]
        del back


class ClosedRoomTest(ActsTestCase):
    async def make(self, name: str, cookie: str) -> str:
        """A closed room of this person; returns its name."""
        answer = await self.get(
            "/rooms", method="POST", body=f"name={name}", headers={"Cookie": cookie}, follow_redirects=False
        )
        self.assertEqual(answer.code, 303)
        return answer.headers["Location"].split("room=")[1].replace("%7E", "~")

    @in_time
    async def test_an_invitation_lets_in_as_often_as_it_says(self) -> None:
        """Of many who come at once with its last use one gets in; taken back, it puts him out."""
        ann = await self.join("somewhere", name="Ann")
        room = await self.make("tea", ann.cookie)
        owner = await self.join(room, cookie=ann.cookie)
        self.assertEqual(owner.welcome["you"]["role"], "owner")
        invited = await self.act(owner, "invite", seconds=3600, uses=1)
        token = invited["path"].split("invite=")[1]
        others = [await self.join("elsewhere", name=f"P{number}") for number in range(5)]
        answers = await asyncio.gather(
            *(
                self.get(
                    "/door",
                    method="POST",
                    body=f"room={room}&invite={token}",
                    headers={"Cookie": other.cookie},
                    follow_redirects=False,
                )
                for other in others
            )
        )
        self.assertEqual(sorted(answer.code for answer in answers), [303, 403, 403, 403, 403])
        guest = others[[answer.code for answer in answers].index(303)]
        inside = await self.join(room, cookie=guest.cookie)
        for other in others:
            if other is not guest:
                self.assertEqual((await self.refusal(self.join(room, cookie=other.cookie))).code, 403)
        self.assertEqual(await self.code(owner, "revoke", invite=invited["invite"]["id"], put_out=True), "done")
        self.assertEqual((await inside.hears("out"))["why"], "revoke")
        self.assertEqual((await self.refusal(self.join(room, cookie=guest.cookie))).code, 403)

    @in_time
    async def test_ownership_is_handed_on_by_link(self) -> None:
        """Once; both own the room then."""
        ann, bob = await self.pair()
        invited = await self.act(ann, "invite", seconds=3600, role="owner")
        token = invited["path"].split("invite=")[1]
        answer = await self.get(
            "/door",
            method="POST",
            body=f"room=default&invite={token}",
            headers={"Cookie": bob.cookie},
            follow_redirects=False,
        )
        self.assertEqual(answer.code, 303)
        self.assertEqual((await bob.hears("you"))["role"], "owner")
        self.assertEqual(await self.code(bob, "rules", edit_s=60), "done")


class KeepingTest(ActsTestCase):
    @in_time
    @settings(keep_events=5, history=1000)
    async def test_what_the_server_does_not_keep_goes_from_every_room(self) -> None:
        ann, _ = await self.pair()
        for number in range(20):
            await self.say(ann, f"word {number}")
        keeping = asyncio.ensure_future(serving.keep_tidy(self.app.socket_class, self.app.socket_class.config))
        trim = await ann.hears("trim")
        keeping.cancel()
        answer = json.loads((await self.get("/api/rooms/default/messages")).body)
        self.assertEqual(answer["events"][0]["seq"], trim["before"])
        self.assertFalse(answer["more"])
