"""Compression for a whole room: made once for all, and every member can read it, whenever he came."""

import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.frames import Deflater, Fault, agreed_deflate, inflate, text_frame
from chat.room import _DEFLATING_MEMBERS
from tests.house import ChatTestCase, Member, contiguous, in_time

TEXTS = ["good morning", "has anybody seen the slides?", "the slides are in the usual place", "thanks!"] * 5


def message(seq: int, text: str) -> bytes:
    """An event as the wire has it."""
    by = {"id": "rwpgf64v4paya3id", "name": "Ann"}
    event = {"type": "message", "seq": seq, "at": 1763890000000 + 731 * seq, "by": by, "text": text}
    return json.dumps(event, separators=(",", ":")).encode()


# Agreeing


@pytest.mark.parametrize(
    ("offers", "agreed"),
    [
        ("permessage-deflate", "permessage-deflate; client_no_context_takeover"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_no_context_takeover"),
        ("x-webkit, Permessage-Deflate;client_max_window_bits=15", "permessage-deflate; client_no_context_takeover"),
        (
            'permessage-deflate; server_max_window_bits="13"; client_no_context_takeover',
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=11", None),  # less than we need
        ("permessage-deflate; server_max_window_bits", None),  # RFC 7692 section 7.1.2.1: it has a value
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits=abc", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover", None),  # alone a message shrinks by a fifth only
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        ("permessage-deflate; unheard_of", None),
        (
            "permessage-deflate; server_no_context_takeover, permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
        ),
        ("", None),
        (";=,;", None),
    ],
)
def test_the_first_offer_we_speak_is_agreed_on(offers: str, agreed: str | None) -> None:
    """RFC 7692 section 5: a server takes one of several, and declines what it does not understand."""
    assert agreed_deflate(offers) == agreed


@given(st.text(alphabet='permssag-dfltvrwnow_bx;=, "123', max_size=80))
def test_no_offer_makes_it_fail(offers: str) -> None:
    """Whatever is offered, the answer is one or none."""
    assert agreed_deflate(offers) in (None, *(f"permessage-deflate; {rest}" for rest in ANSWERS))


ANSWERS = ("client_no_context_takeover", "client_no_context_takeover; server_max_window_bits=12")


# Compressing


@given(st.lists(st.text(max_size=400), max_size=20))
def test_what_was_compressed_is_read_by_any_inflater(texts: list[str]) -> None:
    """One inflater that hears all from the beginning reads them, with the window that was agreed on."""
    deflater, inflater = Deflater(), zlib.decompressobj(wbits=-12)
    for text in texts:
        framed = deflater.frame(text_frame(text.encode()))
        assert framed[0] == 0xC1
        start = {126: 4, 127: 10}.get(framed[1], 2)
        assert inflater.decompress(framed[start:] + b"\x00\x00\xff\xff") == text.encode()


@given(st.binary(max_size=300))
def test_inflating_fails_in_one_way_only(payload: bytes) -> None:
    """What is no compressed message is a Fault, whatever it is."""
    try:
        assert len(inflate(payload)) <= 64 * 1024
    except Fault as fault:
        assert fault.code in (1007, 1009)


def test_a_message_may_end_with_a_last_block_and_nothing_behind_it() -> None:
    """RFC 7692 section 7.2.3.5: what stands behind it would be lost in silence."""
    compressor = zlib.compressobj(wbits=-15)
    last = compressor.compress(b"hello") + compressor.flush(zlib.Z_FINISH)
    assert inflate(last) == inflate(last + b"\x00") == b"hello"
    with pytest.raises(Fault):
        inflate(last + last)


def test_a_message_that_was_cut_short_is_none() -> None:
    """Wherever it is cut: what came out until there is not what was said."""
    text = "".join(TEXTS).encode()
    compressor = zlib.compressobj(wbits=-15)
    whole = (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert inflate(whole) == text
    for size in range(1, len(whole)):
        with pytest.raises(Fault):
            inflate(whole[:size])


def test_messages_of_a_chat_take_less_than_half() -> None:
    """Their own history makes them small."""
    deflater = Deflater()
    plain = [text_frame(message(seq, text)) for seq, text in enumerate(TEXTS, 1)]
    assert sum(len(deflater.frame(each)) for each in plain) < sum(map(len, plain)) / 2


# In a room


class DeflateTest(ChatTestCase):
    async def crowd(self, count: int, room: str = "default") -> list[Member]:
        return [await self.join(room, deflates=True) for _ in range(count)]

    def wire_bytes(self, member: Member) -> int:
        return int(member.socket.protocol._wire_bytes_in)  # type: ignore[union-attr]

    @in_time
    async def test_all_hear_the_same_with_and_without(self) -> None:
        """Members who came at different times, some with compression: each hears every event once, in order."""
        dice, members, said = random.Random(7), [await self.join(), *await self.crowd(5)], 0
        for _ in range(12):
            for text in dice.choices(TEXTS, k=dice.randint(1, 6)):
                members[0].say(text)
                said += 1
            if dice.random() < 0.6:
                members.append(await self.join(deflates=dice.random() < 0.8))
            elif len(members) > 6:
                members.pop(dice.randrange(1, len(members))).vanish()
        for member in members:
            after = member.welcome["head"] - min(member.welcome["head"], 50)
            heard = [await member.hears("message") for _ in range(said - after)]
            self.assertTrue(contiguous(heard, after))

    @in_time
    async def test_a_crowd_is_sent_less(self) -> None:
        """The same twenty messages cost a member who takes them compressed less than half the bytes."""
        plain, *crowd = [await self.join(), *await self.crowd(_DEFLATING_MEMBERS)]
        for member in (plain, *crowd):
            await member.hears("presence", present=len(crowd) + 1)
        before = {member: self.wire_bytes(member) for member in (plain, crowd[-1])}
        for text in TEXTS:
            plain.say(text)
            await crowd[-1].hears("message")
        await plain.hears("message", text=TEXTS[-1], seq=len(TEXTS))
        self.assertLess(self.wire_bytes(crowd[-1]) - before[crowd[-1]], (self.wire_bytes(plain) - before[plain]) / 2)

    @in_time
    async def test_a_few_are_sent_all_as_it_is(self) -> None:
        """Where compressing would cost more than it saves, the room has no deflater."""
        members = await self.crowd(_DEFLATING_MEMBERS - 1)
        members[0].say("hello")
        for member in members:
            await member.hears("message")
        self.assertIsNone(self.app.socket_class.rooms["default"]._deflater)

    @in_time
    async def test_the_history_of_a_deflater_ends_where_somebody_comes(self) -> None:
        """A newcomer has not been sent what it refers to; who leaves changes nothing."""
        members = await self.crowd(_DEFLATING_MEMBERS + 1)
        room = self.app.socket_class.rooms["default"]
        members[0].say("hello")
        await members[1].hears("message")
        first = room._deflater
        members.pop().vanish()
        members[0].say("hello again")
        await members[1].hears("message", text="hello again")
        self.assertIs(room._deflater, first)
        await self.join()
        self.assertIs(room._deflater, first)
        await self.join(deflates=True)
        self.assertIsNot(room._deflater, first)

    @in_time
    async def test_members_are_counted_as_they_come_and_go(self) -> None:
        """However they leave, the count is that of the members who take compressed frames."""
        owner, banned, gone, left = await self.crowd(4)
        room = self.app.socket_class.rooms["default"]
        self.assertEqual(room._deflating, 4)
        gone.vanish()
        left.socket.close()
        await owner.hears("presence", present=2)
        self.assertEqual(room._deflating, 2)
        owner.send(type="ban", person=banned.id)
        await banned.closed()
        self.assertEqual(room._deflating, 1)
