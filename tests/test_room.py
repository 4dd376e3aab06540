"""A room as its members know it: entering, coming back, who is here, and what was said before."""

import asyncio
import itertools
import json
import shutil
import time
from pathlib import Path
from typing import Any
from unittest import mock

from chat.presence import People
from tests.house import (
    NEWCOMER,
    ChatTestCase,
    Member,
    contiguous,
    filled,
    in_time,
    ping,
    settings,
    until,
)
from tests.support import Client, ServerProcess

PAGE_BYTES = 256 * 1024
BIG_TEXT = "\U0001f680" * 3500  # 14,000 bytes


class RoomTestCase(ChatTestCase):
    async def resume(self, after: int, room: str = "default", epoch: str | None = None, **more: Any) -> Member:
        return await self.join(room, epoch=epoch or self.epoch, after=after, **more)

    async def hears_all(self, member: Member, after: int, upto: int) -> None:
        """The member hears every event from `after` up to `upto`, contiguous."""
        events = await member.messages(upto - after)
        self.assertTrue(contiguous(events, after), f"first {events[:1]}, last {events[-1:]}")

    async def chat(self, member: Member, count: int) -> None:
        """Say `count` things, each after the ack of the last."""
        for _ in range(count):
            member.say("talk " * 40)
            await member.hears("ack")


class StandIn:
    """A member without a socket, for what only a large room shows; all of them count together."""

    is_plain = is_operator = is_deflating = False
    address_key = ""

    def __init__(self, person_id: str, heard: list[bytes]) -> None:
        self.person_id = person_id
        self.heard = heard

    def send_now(self, data: bytes) -> int:
        self.heard.append(data)
        return len(data)

    def write_message(self, message: Any, binary: bool = False) -> None:
        self.send_now(message.data)

    async def drained(self) -> None:
        pass


class FlushTest(RoomTestCase):
    @in_time
    async def test_a_flush_to_a_crowd_leaves_the_loop_to_others(self) -> None:
        """After every 256 members another callback of the loop has its turn, and all members hear it once."""
        room, heard = self.app.socket_class._room("crowd"), []
        members = [StandIn(str(number), heard) for number in range(600)]
        for member in members:
            await room.enter(member, "Member", None)
        await room.said()
        between_turns = []

        async def other() -> None:
            while True:
                before = len(heard)
                await asyncio.sleep(0)
                between_turns.append(len(heard) - before)

        heard.clear()
        others = asyncio.ensure_future(other())
        room.tell(b'{"type": "test"}')
        await room.said()
        others.cancel()
        for member in members:
            room.leave(member)
        self.assertEqual(len([data for data in heard if b'"test"' in data]), 600)
        self.assertGreater(sum(between_turns), 256)
        self.assertLessEqual(max(between_turns), 256)


class CrowdTest(RoomTestCase):
    @in_time
    async def test_the_larger_a_crowd_the_rarer_it_is_told_how_many_it_is(self) -> None:
        """Once a second would cost ten thousand system calls a second while they come in."""
        room, heard = self.app.socket_class._room("crowd"), []
        members = [StandIn(str(number), heard) for number in range(3000)]
        for member in members[1:]:
            await room.enter(member, "Member", None)
        room._tell_presence()
        await room.enter(members[0], "Member", None)
        self.assertAlmostEqual(room._presence_timer.when() - room._presence_told_s, 1.5, places=2)
        for member in members:
            room.leave(member)


class EnteringTest(RoomTestCase):
    @in_time
    @filled("default", 60)
    async def test_a_newcomer_is_shown_the_last_events_then_what_is_live(self) -> None:
        """Without a past one gets the last `history` events up to `head`, then each new one."""
        ann = await self.join()
        self.assertEqual(ann.welcome["head"], 60)
        self.assertNotIn("resumed", ann.welcome)
        ann.say("live")
        await self.hears_all(ann, 10, 61)

    @in_time
    @settings(history=0)
    @filled("default", 60)
    async def test_with_a_history_of_0_a_newcomer_hears_only_what_is_live(self) -> None:
        """`history` 0 shows nothing of the past, and still nothing is missing after `head`."""
        ann = await self.join()
        ann.say("live")
        self.assertEqual((await ann.hears("message"))["seq"], ann.welcome["head"] + 1)

    @in_time
    @settings(history=200, send_buffer_bytes=131072)
    @filled("default", 250, BIG_TEXT)
    async def test_a_long_history_does_not_cut_off_who_enters(self) -> None:
        """2.8 MB of history reach a newcomer though only 128 KiB may wait for him."""
        await self.hears_all(await self.join(), 50, 250)

    @in_time
    @settings(history=20)
    async def test_newcomers_in_constant_talk_get_no_hole_and_no_double(self) -> None:
        """Whoever enters or comes back while six people talk hears each event once, from his welcome on."""
        speakers = [await self.join("talk") for _ in range(6)]
        epoch, over = speakers[0].welcome["epoch"], asyncio.Event()

        async def talk(speaker: Member) -> None:
            while not over.is_set():
                await self.chat(speaker, 1)

        async def enter(number: int) -> None:
            for turn in range(6):
                after = [None, 0, number][turn % 3]
                past = {} if after is None else {"epoch": epoch, "after": after}
                member = await self.join("talk", name=f"Newcomer {number}", **past)
                head = member.welcome["head"]
                start = max(0, head - 20) if member.welcome.get("resumed") != "whole" else after
                await self.hears_all(member, start, head + 30)
                member.vanish()

        talking = asyncio.gather(*(talk(speaker) for speaker in speakers))
        await (await self.join("talk")).hears("message", seq=60)
        await asyncio.gather(*(enter(number) for number in range(20)))
        over.set()
        await talking

    @in_time
    async def test_two_spellings_are_one_room(self) -> None:
        """A name and its NFC form lead to the same people."""
        ann, bob = await self.join("caf\u00e9"), await self.join("cafe\u0301")
        ann.say("here")
        await bob.hears("message", text="here")
        self.assertEqual(list(self.app.socket_class.rooms), ["caf\u00e9"])

    @in_time
    async def test_rooms_do_not_hear_each_other(self) -> None:
        """What is said in a room stays there, with a seq of its own."""
        ann, bob = await self.join("one"), await self.join("two")
        ann.say("in one")
        await ann.hears("message")
        bob.say("in two")
        message = await bob.hears("message")
        self.assertEqual((message["seq"], message["text"]), (1, "in two"))

    @in_time
    async def test_an_empty_room_is_forgotten_and_its_log_is_not(self) -> None:
        """With the last member the room leaves the registry; who comes next finds what was said."""
        ann = await self.join()
        ann.say("kept")
        await ann.hears("message")
        ann.socket.close()
        await until(lambda: not self.app.socket_class.rooms)
        await (await self.join()).hears("message", text="kept")

    @in_time
    async def test_a_say_just_before_leaving_is_stored(self) -> None:
        """Who says something and goes at once has said it."""
        ann = await self.join()
        ann.say("goodbye")
        ann.socket.close()
        await until(lambda: not self.app.socket_class.rooms)
        await (await self.join()).hears("message", text="goodbye")

    @in_time
    @filled("default", 100, BIG_TEXT)
    async def test_welcome_is_first_though_another_tab_is_renamed_meanwhile(self) -> None:
        """A tab that is still being let in hears its welcome first, and ends up knowing its name."""
        ann = await self.join(name="Ann")
        await ann.messages(50)
        with self.reading_held():
            entering = asyncio.ensure_future(self.join(cookie=ann.cookie, epoch=self.epoch, after=1))
            await until(lambda: len(self.app.socket_class.sockets) == 2)
            ann.send(type="rename", name="Bea")
            await ann.hears("you", name="Bea")
        tab = await entering
        tab.say("end", "end")
        frames = await tab.hears_until("ack", client_id="end")
        names = [tab.name, *(frame["name"] for frame in frames if frame["type"] == "you")]
        self.assertEqual(names[-1], "Bea")

    @in_time
    @filled("default", 580, BIG_TEXT)
    async def test_who_comes_and_goes_while_a_newcomer_is_fed_is_told_to_him(self) -> None:
        """After a slow entry the member's count and names are those of the room."""
        ann = await self.join(name="Ann")
        raw = await self.join_raw(f"/ws?epoch={self.epoch}&after=0", receive_bytes=4096)
        present = json.loads((await raw.next())[1])["present"]
        self.assertEqual(present, 2)
        await self.join(name="Bob")
        await ann.hears("presence", present=3)
        self.assertEqual(len(self.app.socket_class.rooms["default"].members), 2)
        raw.send(0x1, b'{"type": "people"}')
        heard: dict[str, Any] = {"type": ""}
        while heard["type"] != "people":
            opcode, payload = await raw.next()
            heard = json.loads(payload) if opcode == 0x1 else heard
            present = heard.get("present", present)
        self.assertEqual((present, heard["total"]), (3, 3))

    @in_time
    async def test_entering_a_busy_room_costs_no_query(self) -> None:
        """While nothing can be read from the log, newcomers and those just back get welcome, past and live."""
        ann = await self.join(name="Ann")
        await self.chat(ann, 60)
        with self.reading_held():
            newcomer, back = await self.join(), await self.resume(5, epoch=ann.welcome["epoch"])
            self.assertEqual((newcomer.welcome["head"], back.welcome["resumed"]), (60, "whole"))
            ann.say("live")
            await self.hears_all(newcomer, 10, 61)
            await self.hears_all(back, 5, 61)

    @in_time
    @filled("default", 1000)
    async def test_who_waits_to_be_let_in_is_not_taken_for_dead(self) -> None:
        """However slow the log is: while he is not read, nothing can be heard of him, be the room open or not."""
        sockets = self.app.socket_class.sockets
        for _ in range(2):
            here = set(sockets)
            with self.reading_held():
                entering = asyncio.ensure_future(self.resume(100))
                await until(lambda here=here: sockets.keys() - here)
                for _ in range(4):
                    ping(sockets.keys() - here)
                    await self.get("/rooms")
            member = await entering
            self.assertEqual(member.welcome["resumed"], "whole")
            await self.hears_all(member, 100, 1000)


class ResumeTest(RoomTestCase):
    @in_time
    async def test_a_short_absence_is_whole_from_memory(self) -> None:
        """Who missed a few events gets exactly those."""
        ann = await self.join()
        await self.chat(ann, 10)
        back = await self.resume(4, epoch=ann.welcome["epoch"])
        self.assertEqual((back.welcome["resumed"], back.welcome["head"]), ("whole", 10))
        await self.hears_all(back, 4, 10)

    @in_time
    async def test_resuming_twice_with_nothing_in_between_brings_nothing(self) -> None:
        """Who missed nothing gets nothing, as often as he comes back, and then what is live."""
        ann = await self.join()
        await self.chat(ann, 5)
        for _ in range(3):
            back = await self.resume(5, epoch=ann.welcome["epoch"])
            self.assertEqual(back.welcome["resumed"], "whole")
            back.vanish()
        back = await self.resume(5, epoch=ann.welcome["epoch"])
        ann.say("live")
        self.assertEqual((await back.hears("message"))["seq"], 6)

    @in_time
    async def test_an_unused_room_is_whole(self) -> None:
        """Who was in a room where nothing was ever said has missed nothing."""
        ann = await self.join("silent")
        self.assertEqual((await self.resume(0, "silent", ann.welcome["epoch"])).welcome["resumed"], "whole")

    @in_time
    @filled("default", 1000)
    async def test_a_longer_absence_is_whole_from_the_log(self) -> None:
        """What is no longer in memory comes from the log, then what is live."""
        ann = await self.join()
        back = await self.resume(100)
        self.assertEqual(back.welcome["resumed"], "whole")
        ann.say("live")
        await self.hears_all(back, 100, 1001)

    @in_time
    @filled("default", 10_001)
    async def test_ten_thousand_events_are_whole_and_one_more_is_a_gap(self) -> None:
        """10,000 missed events are sent; with 10,001 only the last `history` ones are."""
        gap = await self.resume(0)
        self.assertEqual(gap.welcome["resumed"], "gap")
        gap.say("live")
        await self.hears_all(gap, 9951, 10_002)
        whole = await self.resume(2)
        self.assertEqual(whole.welcome["resumed"], "whole")
        await self.hears_all(whole, 2, 10_002)

    @in_time
    @filled("default", 700, BIG_TEXT)
    async def test_more_than_8_mib_are_a_gap(self) -> None:
        """9.9 MB of missed events are a gap, 7 MB are whole."""
        gap = await self.resume(0)
        self.assertEqual(gap.welcome["resumed"], "gap")
        await self.hears_all(gap, 650, 700)
        whole = await self.resume(200)
        self.assertEqual(whole.welcome["resumed"], "whole")
        await self.hears_all(whole, 200, 700)

    @in_time
    @filled("default", 100_000)
    async def test_a_hundred_thousand_events_behind_are_a_gap_that_can_be_asked_for(self) -> None:
        """One reconnect tells the truth, shows the end, and the rest can be read page by page."""
        back = await self.resume(3)
        self.assertEqual((back.welcome["resumed"], back.welcome["head"]), ("gap", 100_000))
        await self.hears_all(back, 99_950, 100_000)
        for after in (3, 203, 50_000, 99_750):
            back.send(type="history", after=after, limit=200)
            page = await back.hears("page")
            self.assertEqual(len(page["events"]), 200)
            self.assertTrue(contiguous(page["events"], after))

    @in_time
    @filled("default", 100)
    async def test_a_past_that_is_not_ours_is_reset(self) -> None:
        """An unknown epoch, and an `after` beyond what was ever said, are told: your past is not ours."""
        for epoch, after in (("unknown", 5), ("", 0), (self.epoch, 101), (self.epoch, 2**53 - 1)):
            with self.subTest(epoch=epoch, after=after):
                back = await self.join(epoch=epoch, after=after)
                self.assertEqual(back.welcome["resumed"], "reset")
                await self.hears_all(back, 50, 100)

    @in_time
    @settings(send_buffer_bytes=131072)
    @filled("default", 9000, "x" * 600)
    async def test_a_long_resume_is_paced_while_others_talk(self) -> None:
        """6 MB reach clients for whom only 128 KiB may wait, though people go on talking; a slow one, too."""
        ann = await self.join(name="Ann")
        slow = await self.join_raw(f"/ws?epoch={self.epoch}&after=0", receive_bytes=4096)
        talking = asyncio.ensure_future(self.chat(ann, 100))
        backs = [await self.resume(0, name=f"Back {number}") for number in range(3)]
        await talking
        for back in backs:
            self.assertEqual(back.welcome["resumed"], "whole")
            await self.hears_all(back, 0, 9100)
        events: list[Any] = []
        while len(events) < 9100:
            opcode, payload = await slow.next()
            frame = json.loads(payload) if opcode == 0x1 else {}
            events += [frame] if "seq" in frame else []
        self.assertTrue(contiguous(events, 0))

    @in_time
    @settings(send_buffer_bytes=131072)
    @filled("default", 2000, "x" * 600)
    async def test_many_come_back_at_once(self) -> None:
        """Twenty clients, each from another place, all get what they missed."""
        backs = await asyncio.gather(*(self.resume(80 * number) for number in range(20)))
        for number, back in enumerate(backs):
            self.assertEqual(back.welcome["resumed"], "whole")
            await self.hears_all(back, 80 * number, 2000)

    @in_time
    @filled("default", 1000)
    async def test_who_comes_back_from_the_same_place_shares_one_reading(self) -> None:
        """After an outage many ask for the same events: they are read once, and everybody gets all of them."""
        await self.join()
        event_log = self.app.event_log
        with mock.patch.object(event_log, "after", wraps=event_log.after) as asked:
            with self.reading_held():
                entering = asyncio.gather(*(self.resume(100) for _ in range(10)))
                await until(lambda: len(self.app.socket_class.sockets) == 11)
            for back in await entering:
                self.assertEqual(back.welcome["resumed"], "whole")
                await self.hears_all(back, 100, 1000)
        self.assertEqual(asked.call_count, 1)

    @in_time
    @filled("default", 1000)
    async def test_who_is_being_let_in_while_the_server_stops_is_no_fault(self) -> None:
        """Whoever was dropped before he was in asks a log that reads no more: that is nothing to be told of."""
        await self.join()
        room, event_log = self.app.socket_class.rooms["default"], self.app.event_log
        is_asked, may_answer = asyncio.Event(), asyncio.Event()

        async def bytes_after(room: str, seq: int) -> int:
            is_asked.set()
            await may_answer.wait()
            return 0

        with mock.patch.object(event_log, "bytes_after", bytes_after):
            await self.join_raw(f"/ws?epoch={self.epoch}&after=100")
            await is_asked.wait()
            await self.drain(0.4)
            event_log._reader_thread.shutdown()
            may_answer.set()
            await until(lambda: not room._entering)


def test_a_restored_backup_resets_who_saw_more_than_it_has(tmp_path: Path) -> None:
    """After a backup is put back, a past within it is whole, one beyond it is reset, also when seqs are used again."""
    database, backup = tmp_path / "chatroom.db", tmp_path / "backup.db"
    with ServerProcess(database, message_rate=0) as server:
        with Client(server.url, name="Ann") as ann:
            for number in range(5):
                ann.say(f"before {number}")
            ann.messages(5)
        assert server.terminate() == 0
        shutil.copy(database, backup)
        server.start()
        with Client(server.url, name="Ann") as later:
            for number in range(5):
                later.say(f"lost {number}")
            seen = later.messages(10)
        assert server.terminate() == 0
        database.unlink()
        shutil.copy(backup, database)
        server.start()

        def resumed(client: Client, after: int) -> str:
            with Client(server.url, epoch=client.welcome["epoch"], after=after) as back:
                return back.welcome["resumed"]

        assert seen[-1]["seq"] == 10
        assert resumed(ann, 5) == "whole"
        assert resumed(ann, 3) == "whole"
        assert resumed(later, 10) == "reset"
        assert resumed(ann, 10) == "reset"
        with Client(server.url, name="Bob") as bob:
            for number in range(10):
                bob.say(f"after {number}")
            while bob.hear("message")["seq"] < 15:
                pass
            assert resumed(ann, 5) == "whole"
            assert resumed(ann, 6) == "reset"
            assert resumed(later, 10) == "reset"
            assert resumed(bob, 15) == "whole"


class PresenceTest(RoomTestCase):
    @in_time
    async def test_people_are_counted_not_sockets(self) -> None:
        """`joined` and `left` are a person's first and last socket; a second tab is nobody new."""
        ann = await self.join(name="Ann")
        await ann.hears("presence", present=1)
        bob = await self.join(name="Bob")
        told = await ann.hears("presence")
        self.assertEqual((told["present"], told["joined"]), (2, [{"id": bob.id, "name": "Bob"}]))
        tab = await self.join(cookie=bob.cookie)
        self.assertEqual(tab.welcome["present"], 2)
        bob.vanish()
        carl = await self.join(name="Carl")
        told = await ann.hears("presence")
        self.assertEqual([told[key] for key in ("present", "joined", "left")], [3, [carl.welcome["you"]], []])
        tab.vanish()
        told = await ann.hears("presence")
        self.assertEqual([told[key] for key in ("present", "joined", "left")], [2, [], [bob.id]])

    @in_time
    async def test_presence_has_exactly_its_fields(self) -> None:
        """All lists are there, empty or not."""
        ann = await self.join()
        self.assertEqual(
            await ann.hears("presence"),
            {"type": "presence", "present": 1, "joined": [ann.person], "left": [], "renamed": []},
        )

    @in_time
    async def test_presence_is_told_at_most_once_a_second(self) -> None:
        """However fast people come, two more frames of presence take two seconds."""
        ann = await self.join()
        await ann.hears("presence", present=1)
        began_s = time.monotonic()
        for _ in range(2):
            await asyncio.gather(*(self.join() for _ in range(5)))
            await ann.hears("presence")
        self.assertGreater(time.monotonic() - began_s, 1.5)

    @in_time
    async def test_what_is_told_adds_up(self) -> None:
        """However people come and go, the frames add up to who is there; nobody joins or leaves twice."""
        ann = await self.join(name="Ann")
        here = {ann.id}
        first = await ann.hears("presence")
        self.assertEqual(first["present"], 1)
        for turn in range(3):
            members = await asyncio.gather(*(self.join(name=f"Member {turn} {number}") for number in range(10)))
            for member in members[turn:]:
                member.vanish()
        await until(lambda: len(self.app.socket_class.sockets) == 4)
        told: dict[str, Any] = {}
        while told.get("present") != 4 or len(here) != 4:
            told = await ann.hears("presence")
            joined = {person["id"] for person in told["joined"]}
            self.assertFalse(joined & here)
            self.assertTrue(set(told["left"]) <= here | joined)
            here = (here | joined) - set(told["left"])
            self.assertEqual(len(here), told["present"])

    def test_who_comes_and_goes_in_between_is_not_mentioned(self) -> None:
        """Presence is netted: joined and left again is nothing, left and come back is nothing."""
        people = People()
        people.join("a", "Ann", 1)
        people.join("b", "Bob", 2)
        assert people.changes() is not None
        people.join("c", "Carl", 3)
        people.leave("c", 3)
        people.leave("b", 2)
        people.join("b", "Bob", 4)
        self.assertIsNone(people.changes())
        people.leave("b", 4)
        people.join("b", "Bert", 5)
        people.rename("a", "Anna")
        people.rename("a", "Ann")
        told = people.changes()
        assert told is not None
        self.assertEqual((told.joined, told.left), ([], []))
        self.assertEqual([(person.id, person.name) for person in told.renamed], [("b", "Bert")])

    @in_time
    async def test_a_crowd_is_counted_and_not_listed(self) -> None:
        """Above 100 people only the count is told and typing is not; lists come back below 80."""
        ann, script = await self.join(name="Ann"), await self.join_plain()
        members = [await self.join(name=f"Member {number}") for number in range(98)]
        told: dict[str, Any] = {}
        while told.get("present") != 100:
            told = await ann.hears("presence")
            self.assertTrue(told["joined"])
        members += await asyncio.gather(*(self.join(name="Member") for _ in range(12)))
        self.assertEqual(len({member.name for member in members}), 110)
        frames = 0
        while told["present"] != 112:
            told = await ann.hears("presence")
            frames += 1
            self.assertEqual((told["joined"], told["left"]), ([], []))
        self.assertLess(frames, 12)
        await self.assert_newcomers_are_merged(script)
        members[0].send(type="typing")
        members[0].say("typed")
        heard = await ann.hears_until("message", text="typed")
        self.assertNotIn("typing", [frame["type"] for frame in heard])
        await self.assert_people_can_be_read(ann, 112)
        for member in members[:30]:
            member.vanish()
        while told["present"] != 82:
            told = await ann.hears("presence")
            self.assertEqual((told["joined"], told["left"]), ([], []))
        for member in members[30:33]:
            member.vanish()
        while told["present"] != 79:
            told = await ann.hears("presence")
            self.assertEqual((told["joined"], told["left"]), ([], []))
        late = await self.join(name="Late")
        told = await ann.hears("presence")
        self.assertEqual((told["present"], told["joined"]), (80, [late.welcome["you"]]))

    @in_time
    @filled("default", 100, BIG_TEXT)
    async def test_a_crowd_hears_of_a_newcomer_whose_past_is_long(self) -> None:
        """Plain members of a crowd are told of one who takes a while to be let in, too."""
        ann, script = await self.join(name="Ann"), await self.join_plain()
        for _ in range(99):
            await self.join()
        await ann.hears("presence", present=101)
        with self.reading_held():
            entering = asyncio.ensure_future(self.resume(1, name="Slow"))
            await ann.hears("presence", present=102)
            script.send_raw("before")
            while await script.next() != "before":
                pass
        await entering
        self.assertEqual(await script.next(), NEWCOMER)

    @in_time
    async def test_a_crowd_of_one_person_is_announced_once_a_second_too(self) -> None:
        """What counts for the plain members is sockets: a hundred tabs of one person are a crowd."""
        script, ann = await self.join_plain(), await self.join()
        for _ in range(110):
            await self.join(cookie=ann.cookie)
        script.send_raw("from here")
        while await script.next() != "from here":
            pass
        began_s = time.monotonic()
        for _ in range(20):
            await self.join(cookie=ann.cookie)
        script.send_raw("to here")
        words = [await script.next()]
        while words[-1] != "to here":
            words.append(await script.next())
        self.assertLessEqual(words.count(NEWCOMER), 2 + time.monotonic() - began_s)
        await self.join(cookie=ann.cookie)
        self.assertEqual(await script.next(), NEWCOMER)

    async def assert_newcomers_are_merged(self, script: Member) -> None:
        """A plain member of a crowd hears of twelve newcomers once or a few times."""
        script.send_raw("count")
        words = [await script.next()]
        while words[-1] != "count":
            words.append(await script.next())
        self.assertTrue(99 <= words.count(NEWCOMER) < 110, words.count(NEWCOMER))

    async def assert_people_can_be_read(self, ann: Member, total: int) -> None:
        """The list of a crowd comes by name and in pages, each person once."""
        found: list[Any] = []
        for offset in itertools.count(0, 40):
            ann.send(type="people", offset=offset, limit=40, ref=offset)
            page = await ann.hears("people", ref=offset)
            self.assertEqual(page["total"], total)
            found += page["people"]
            if not page["people"]:
                break
        self.assertEqual(len({person["id"] for person in found}), total)
        names = [person["name"].casefold() for person in found]
        self.assertEqual(names, sorted(names))


class PeopleTest(RoomTestCase):
    @in_time
    async def test_people_are_found_by_name(self) -> None:
        """`query` finds a part of a name in any case; `total` counts all that match; `ref` comes back."""
        members = {name: await self.join(name=name) for name in ("Zoe", "ann", "Bob", "Annabel")}
        ann = members["ann"]
        for asked, total, names in (
            ({}, 4, ["ann", "Annabel", "Bob", "Zoe"]),
            ({"query": "ANN"}, 2, ["ann", "Annabel"]),
            ({"query": "o", "limit": 1}, 2, ["Bob"]),
            ({"query": "o", "offset": 1}, 2, ["Zoe"]),
            ({"offset": 4}, 4, []),
            ({"offset": 2**53 - 1}, 4, []),
            ({"query": "nobody"}, 0, []),
        ):
            with self.subTest(asked):
                ann.send(type="people", ref="r", **asked)
                page = await ann.hears("people")
                self.assertEqual((page["total"], [person["name"] for person in page["people"]]), (total, names))
                self.assertEqual(page["ref"], "r")
        ann.send(type="people", query="zoe")
        self.assertEqual(await ann.hears("people"), {"type": "people", "total": 1, "people": [members["Zoe"].person]})

    @in_time
    async def test_a_person_with_two_tabs_is_listed_once(self) -> None:
        """The list is of people, not of sockets."""
        ann = await self.join()
        await self.join(cookie=ann.cookie)
        ann.send(type="people")
        self.assertEqual((await ann.hears("people"))["people"], [ann.person])


class TypingTest(RoomTestCase):
    @in_time
    async def test_typing_is_heard_by_the_others(self) -> None:
        """The others hear who writes; he himself, his other tab and the plain wire do not."""
        ann, script = await self.join(name="Ann"), await self.join_plain()
        tab, bob = await self.join(cookie=ann.cookie), await self.join(name="Bob")
        ann.send(type="typing")
        self.assertEqual(await bob.hears("typing"), {"type": "typing", "by": {"id": ann.id, "name": "Ann"}})
        ann.say("done")
        for member in (ann, tab):
            self.assertNotIn("typing", [frame["type"] for frame in await member.hears_until("message")])
        self.assertEqual([await script.next() for _ in range(3)], [NEWCOMER, NEWCOMER, "done"])

    @in_time
    async def test_typing_is_told_at_most_once_in_three_seconds(self) -> None:
        """What comes sooner is dropped without an error; after three seconds it is told again."""
        ann, bob = await self.join(), await self.join()
        for _ in range(5):
            ann.send(type="typing")
        ann.say("done")
        heard = [frame["type"] for frame in await bob.hears_until("message")]
        self.assertEqual(heard.count("typing"), 1)
        self.assertNotIn("error", [frame["type"] for frame in await ann.hears_until("message")])
        await asyncio.sleep(3)
        ann.send(type="typing")
        await bob.hears("typing")

    @in_time
    async def test_two_tabs_of_a_person_type_no_more_than_one(self) -> None:
        """The limit is the person's, as all limits are."""
        ann, bob = await self.join(), await self.join()
        tab = await self.join(cookie=ann.cookie)
        ann.send(type="typing")
        await bob.hears("typing")
        tab.send(type="typing")
        tab.say("done")
        self.assertNotIn("typing", [frame["type"] for frame in await bob.hears_until("message")])

    @in_time
    async def test_typing_is_told_in_rooms_of_up_to_fifty(self) -> None:
        """With 50 people it is heard, with 51 it is not."""
        members = [await self.join() for _ in range(50)]
        members[0].send(type="typing")
        await members[1].hears("typing")
        members.append(await self.join())
        members[50].send(type="typing")
        members[50].say("done")
        self.assertNotIn("typing", [frame["type"] for frame in await members[1].hears_until("message")])


class RenameTest(RoomTestCase):
    @in_time
    async def test_a_new_name_is_told_to_all_own_sockets_and_to_the_others(self) -> None:
        """`you` goes to every tab of the person, `renamed` to the others; what was said keeps its name."""
        ann, bob = await self.join(name="Ann"), await self.join(name="Bob")
        tab = await self.join(cookie=ann.cookie)
        ann.say("as Ann")
        await bob.hears("message")
        ann.send(type="rename", name="Bea")
        for member in (ann, tab):
            self.assertEqual(await member.hears("you"), {"type": "you", "id": ann.id, "name": "Bea", "role": "owner"})
        while not (told := await bob.hears("presence"))["renamed"]:
            pass
        self.assertEqual(told["renamed"], [{"id": ann.id, "name": "Bea"}])
        ann.say("as Bea")
        self.assertEqual((await bob.hears("message"))["by"], {"id": ann.id, "name": "Bea"})
        late = await self.join()
        self.assertEqual([event["by"]["name"] for event in await late.messages(2)], ["Ann", "Bea"])

    @in_time
    async def test_a_name_that_looks_like_anothers_gets_a_number(self) -> None:
        """`you` tells the name one got, which may not be the one that was wished for."""
        await self.join(name="Bob")
        ann = await self.join(name="Ann")
        ann.send(type="rename", name="bob")
        self.assertEqual((await ann.hears("you"))["name"], "bob 2")
        ann.send(type="rename", name="ANN")
        self.assertEqual((await ann.hears("you"))["name"], "ANN")

    @in_time
    async def test_the_old_name_is_free_for_others(self) -> None:
        """After a rename the name that was given up can be had."""
        ann, bob = await self.join(name="Ann"), await self.join(name="Bob")
        ann.send(type="rename", name="Bea")
        await ann.hears("you")
        bob.send(type="rename", name="Ann")
        self.assertEqual((await bob.hears("you"))["name"], "Ann")

    @in_time
    async def test_a_bad_name_changes_nothing(self) -> None:
        """After `bad_name` one is called as before."""
        ann = await self.join(name="Ann")
        ann.send(type="rename", name="a\nb")
        self.assertEqual((await ann.hears("error"))["code"], "bad_name")
        ann.say("x")
        self.assertEqual((await ann.hears("message"))["by"]["name"], "Ann")


class HistoryTest(RoomTestCase):
    @in_time
    @filled("default", 120, at=1_000_000)
    async def test_pages_are_what_was_asked_for(self) -> None:
        """Oldest first, `before` and `after` exclusive, `around` inclusive, `at` from that time on."""
        ann = await self.join()
        for asked, first, last in (
            ({"before": 61}, 11, 60),
            ({"before": 11, "limit": 200}, 1, 10),
            ({"before": 2**53 - 1, "limit": 3}, 118, 120),
            ({"after": 60}, 61, 110),
            ({"after": 0, "limit": 200}, 1, 120),
            ({"after": 119}, 120, 120),
            ({"around": 60, "limit": 1}, 60, 60),
            ({"around": 120, "limit": 200}, 21, 120),
            ({"around": 1, "limit": 10}, 1, 10),
            ({"at": 1_000_060, "limit": 5}, 60, 64),
            ({"at": 0, "limit": 5}, 1, 5),
        ):
            with self.subTest(asked):
                page = await self.page(ann, **asked)
                seqs = [event["seq"] for event in page["events"]]
                self.assertEqual(seqs, list(range(first, last + 1)))
                self.assertEqual((page["more_before"], page["more_after"]), (first > 1, last < 120))

    @in_time
    @filled("default", 120)
    async def test_around_has_its_neighbours_on_both_sides(self) -> None:
        """A message in the middle comes with what was said before and after it."""
        page = await self.page(await self.join(), around=60, limit=21)
        seqs = [event["seq"] for event in page["events"]]
        self.assertEqual(len(seqs), 21)
        self.assertTrue(seqs[0] < 60 < seqs[-1])

    @in_time
    @filled("default", 20)
    async def test_empty_pages_tell_where_they_lie(self) -> None:
        """Beyond an end there are no events, and what is on the other side is told."""
        ann = await self.join()
        for asked, more in (
            ({"before": 1}, (False, True)),
            ({"before": 0}, (False, True)),
            ({"after": 20}, (True, False)),
            ({"after": 2**53 - 1}, (True, False)),
            ({"at": 2**53 - 1}, (True, False)),
        ):
            with self.subTest(asked):
                page = await self.page(ann, **asked)
                self.assertEqual((page["events"], (page["more_before"], page["more_after"])), ([], more))
        page = await self.page(await self.join("unused"), before=5)
        self.assertEqual(page, {"type": "page", "events": [], "more_before": False, "more_after": False})

    @in_time
    @filled("default", 3)
    async def test_ref_comes_back_as_it_was(self) -> None:
        """A page has the `ref` of its question, a word or a number, or none."""
        ann = await self.join()
        for ref in ("word", 0, 2**53 - 1, ""):
            with self.subTest(ref):
                self.assertEqual((await self.page(ann, before=2, ref=ref))["ref"], ref)
        self.assertEqual(set(await self.page(ann, before=2)), {"type", "events", "more_before", "more_after"})

    @in_time
    @filled("default", 60, BIG_TEXT)
    async def test_a_page_ends_early_at_256_kib(self) -> None:
        """Large events make a shorter page, and reading on from its end misses nothing."""
        ann = await self.join()
        for asked, fits in (({"after": 0}, (False, True)), ({"before": 61}, (True, False))):
            with self.subTest(asked):
                ann.send(type="history", limit=200, **asked)
                page = await ann.hears("page")
                size = len(json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode())
                self.assertTrue(PAGE_BYTES - 15_000 < size <= PAGE_BYTES + 200, size)
                self.assertEqual((page["more_before"], page["more_after"]), fits)
        around = await self.page(ann, around=30, limit=200)
        self.assertIn(30, [event["seq"] for event in around["events"]])
        seen: list[Any] = []
        more = True
        while more:
            page = await self.page(ann, after=len(seen), limit=200)
            seen += page["events"]
            more = page["more_after"]
        self.assertEqual(len(seen), 60)
        self.assertTrue(contiguous(seen, 0))

    @in_time
    async def test_a_page_says_what_was_shown(self) -> None:
        """The events of a page are the very events that were live."""
        ann = await self.join()
        await self.join("elsewhere")
        ann.say("one")
        ann.say("two", reply_to=1)
        live = await ann.messages(2)
        self.assertEqual((await self.page(ann, after=0))["events"], live)

    async def page(self, member: Member, **asked: Any) -> Any:
        """The answer to `history`, however often one must ask for the rate's sake."""
        while True:
            member.send(type="history", **asked)
            while (frame := await member.next())["type"] not in ("page", "error"):
                pass
            if frame["type"] == "page":
                return frame
            self.assertEqual(frame["code"], "rate_limited", frame)
            await asyncio.sleep(frame["retry_after"])


class NothingKeptTest(RoomTestCase):
    @in_time
    async def test_a_room_in_which_nothing_is_kept_any_more_can_be_entered(self) -> None:
        """By a newcomer and by one who comes back; what is said then has the next seq."""
        ann = await self.join()
        for number in range(5):
            ann.say(f"word {number}")
            await ann.hears("ack")
        ann.vanish()
        await until(lambda: not self.app.socket_class.rooms)
        later_ms = int(time.time() * 1000) + 1000
        await self.app.event_log.keep("default", later_ms, 0)  # the messages
        await self.app.event_log.keep("default", later_ms, 0)  # and the event that told of it
        await self.app.event_log.settled()
        newcomer = await self.join()
        self.assertEqual(newcomer.welcome["head"], 6)
        back = await self.resume(2, epoch=ann.welcome["epoch"], cookie=ann.cookie)
        self.assertEqual(back.welcome["resumed"], "gap")
        back.say("here again")
        self.assertEqual((await newcomer.hears("message"))["seq"], 7)
        self.assertEqual((await back.hears("message"))["seq"], 7)
