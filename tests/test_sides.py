"""Every act of a room's order, seen from six sides.

The one who acts, the one it is done to, a bystander, one who comes later, one who was away and resumes, and a program
that asks `/api` and reads the file. Whatever is removed must be gone on all six. With SIDES_TABLE=FILE in the
environment the table is written there as Markdown.
"""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from tests.house import ChatTestCase, Member, SocketClosed, in_time, settings, until
from tests.picture import Picture, Shown, picture_of

SIDES = ("actor", "target", "bystander", "late joiner", "resumer", "/api and file")
TABLE: dict[str, dict[str, str]] = {}

FOREVER_HELD = settings(history=1000)


class Side:
    """One member with the picture on his screen; he may leave and come back."""

    def __init__(self, test: "SidesTest", name: str) -> None:
        self.test, self.name = test, name
        self.cookie: str | None = None
        self.picture = Picture()
        self.member: Member | None = None

    @property
    def id(self) -> str:
        return str(self.picture.me["id"])

    async def comes(self, room: str = "default", **past: Any) -> "Side":
        self.member = await self.test.join(room, name=self.name, cookie=self.cookie, **past)
        self.cookie = self.cookie or self.member.cookie
        self.picture.hear(self.member.welcome)
        await self.reaches(self.picture.target)
        return self

    async def leaves(self) -> None:
        assert self.member is not None
        self.member.vanish()
        await until(lambda: self.id not in self.test.here_now())

    async def resumes(self) -> None:
        await self.comes(epoch=self.picture.epoch, after=self.picture.head)

    async def next(self) -> dict[str, Any]:
        assert self.member is not None
        frame: dict[str, Any] = await self.member.next()
        self.picture.hear(frame)
        return frame

    async def hears(self, type: str, **fields: Any) -> dict[str, Any]:
        while True:
            frame = await self.next()
            if frame["type"] == type and all(frame.get(name) == value for name, value in fields.items()):
                return frame

    async def reaches(self, seq: int) -> None:
        while self.picture.head < seq:
            await self.next()

    async def says(self, text: str, **more: Any) -> int:
        assert self.member is not None
        self.test.acted += 1
        client_id = f"c{self.test.acted}"
        self.member.say(text, client_id, **more)
        return int((await self.hears("ack", client_id=client_id))["seq"])

    async def acts(self, type: str, **fields: Any) -> dict[str, Any]:
        """The answer to an act: `done`, `invite`, or `error`."""
        assert self.member is not None
        self.test.acted += 1
        ref = self.test.acted
        self.member.send(type=type, ref=ref, **fields)
        while True:
            frame = await self.next()
            if frame.get("ref") == ref:
                return frame

    async def asks(self, type: str, **fields: Any) -> dict[str, Any]:
        return await self.acts(type, **fields)


class SidesTest(ChatTestCase):
    """The room `default`: its owner acts on Tom; Bea stands by; Rob is away while it happens."""

    acted = 0

    def here_now(self) -> set[str]:
        return {member.person_id for member in self.app.socket_class.sockets}

    async def furnish(self) -> None:
        self.owner = await Side(self, "Olga").comes()
        self.target = await Side(self, "Tom").comes()
        self.bystander = await Side(self, "Bea").comes()
        self.resumer = await Side(self, "Rob").comes()
        await self.owner.says("welcome all")

    async def away(self) -> None:
        """Rob goes; what follows he hears when he comes back."""
        await self.reach_head()
        await self.resumer.leaves()

    @property
    def head(self) -> int:
        return int(self.app.socket_class.rooms["default"].shown_seq)

    async def settle(self) -> None:
        await self.app.event_log.settled()
        await self.app.socket_class.rooms["default"].said()

    async def reach_head(self) -> None:
        await self.settle()
        for side in (self.owner, self.target, self.bystander, self.resumer):
            if side.id in self.here_now():
                await side.reaches(self.head)

    async def six_sides(self, act: str, gone: tuple[str, ...] = (), target_out: bool = False) -> None:
        """All six show the same, and nothing of what is `gone`."""
        row = TABLE.setdefault(act, {})
        await self.settle()
        await self.resumer.resumes()
        late = await Side(self, "Lea").comes()
        if not target_out:
            await self.target.reaches(self.head)
        for side in (self.owner, self.bystander, self.resumer, late):
            await side.reaches(self.head)
        stored = await self.stored()
        pictures = {"actor": self.owner, "bystander": self.bystander, "late joiner": late, "resumer": self.resumer}
        if not target_out:
            pictures["target"] = self.target
        for name, side in pictures.items():
            self.assertEqual(side.picture.shown, stored, name)
            self.assertEqual(side.picture.rules, self.owner.picture.rules, name)
            self.assertEqual(side.picture.roles, self.owner.picture.roles, name)
            row[name] = "same picture"
        if target_out:
            row["target"] = "put out, told why"
        api = json.loads((await self.get("/api/rooms/default/messages?limit=200")).body)
        self.assertEqual(picture_of(api["events"]), stored)
        for text in gone:
            self.assertNotIn(text, str(stored))
            self.assertNotIn(text, self.bytes_on_disk())
        row["/api and file"] = "same picture" + (", not a byte of the text" if gone else "")
        await late.leaves()

    async def stored(self) -> dict[int, Shown]:
        """The room as its file has it."""
        with sqlite3.connect(self.database) as db:
            bodies = [row[0] for row in db.execute("SELECT body FROM events ORDER BY seq")]
        db.close()
        return picture_of([json.loads(body) for body in bodies])

    def bytes_on_disk(self) -> str:
        files = [Path(self.database + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
        return "\n".join(file.read_bytes().decode("latin-1") for file in files if file.exists())

    async def refused(self, side: Side, code: str, type: str, **fields: Any) -> None:
        answer = await side.acts(type, **fields)
        self.assertEqual((answer["type"], answer.get("code")), ("error", code))

    # Message life

    @in_time
    @FOREVER_HELD
    async def test_an_edit(self) -> None:
        """The new text stands where the old one stood, everywhere; the old one is nowhere."""
        await self.furnish()
        seq = await self.target.says("first wording")
        await self.away()
        self.assertEqual((await self.target.acts("edit", message=seq, text="second wording"))["type"], "done")
        self.assertEqual((await self.target.acts("edit", message=seq, text="third wording"))["type"], "done")
        await self.six_sides("edit one's own", gone=("first wording", "second wording"))
        self.assertEqual(self.resumer.picture.messages[seq]["text"], "third wording")
        self.assertIn("edited", self.bystander.picture.messages[seq])

    @in_time
    @FOREVER_HELD
    async def test_deleting_what_one_said_oneself(self) -> None:
        await self.furnish()
        seq = await self.target.says("better unsaid")
        await self.target.acts("edit", message=seq, text="better unsaid, edited")
        await self.away()
        self.assertEqual((await self.target.acts("delete", message=seq))["type"], "done")
        await self.six_sides("delete one's own", gone=("better unsaid",))

    @in_time
    @FOREVER_HELD
    async def test_deleting_what_another_said(self) -> None:
        await self.furnish()
        seq = await self.target.says("out of order")
        await self.away()
        await self.refused(self.bystander, "forbidden", "delete", message=seq)
        self.assertEqual((await self.owner.acts("delete", message=seq, reason="rude"))["type"], "done")
        await self.six_sides("delete any message", gone=("out of order",))
        await self.refused(self.owner, "not_found", "delete", message=seq)

    @in_time
    @FOREVER_HELD
    async def test_reactions(self) -> None:
        await self.furnish()
        seq = await self.target.says("good news")
        await self.away()
        for side in (self.owner, self.bystander, self.owner):
            self.assertEqual((await side.acts("react", message=seq, kind="🎉"))["type"], "done")
        await self.bystander.acts("react", message=seq, kind="👀")
        await self.bystander.acts("react", message=seq, kind="👀", on=False)
        await self.six_sides("react, and take it back")
        self.assertEqual(self.resumer.picture.shown[seq][2], (("🎉", 2),))

    # Persons

    @in_time
    @FOREVER_HELD
    async def test_a_purge(self) -> None:
        await self.furnish()
        for number in range(20):
            seq = await self.target.says(f"spam number {number}")
        await self.target.acts("edit", message=seq, text="spam number 19, once more")
        await self.bystander.says("what is this?")
        await self.away()
        self.assertEqual((await self.owner.acts("purge", person=self.target.id, reason="spam"))["type"], "done")
        await self.six_sides("purge a person", gone=("spam number",))
        self.assertEqual(self.resumer.picture.texts, ["welcome all", "what is this?"])

    @in_time
    @FOREVER_HELD
    async def test_a_mute(self) -> None:
        await self.furnish()
        await self.away()
        await self.owner.acts("mute", person=self.target.id, seconds=600, reason="calm down")
        you = await self.target.hears("you")
        self.assertEqual(you["muted_for"], "calm down")
        self.target.member.say("still here", "m1")  # type: ignore[union-attr]
        error = await self.target.hears("error", client_id="m1")
        self.assertEqual(error["code"], "muted")
        self.assertTrue(590 < error["retry_after"] <= 600)
        await self.six_sides("mute")
        await self.resumer.leaves()
        await self.owner.acts("mute", person=self.target.id, seconds=0)
        self.assertNotIn("muted_until", await self.target.hears("you"))
        await self.target.says("thank you")
        await self.six_sides("lift a mute")

    @in_time
    @FOREVER_HELD
    async def test_a_kick(self) -> None:
        await self.furnish()
        await self.away()
        await self.owner.acts("kick", person=self.target.id, reason="enough")
        await self.is_out("kick")
        await self.six_sides("kick", target_out=True)
        await self.target.comes()

    @in_time
    @FOREVER_HELD
    async def test_a_ban_with_purge_and_its_lifting(self) -> None:
        await self.furnish()
        await self.target.says("buy my things")
        await self.away()
        await self.owner.acts("ban", person=self.target.id, reason="advertising", purge=True)
        out = await self.is_out("ban")
        self.assertEqual(out["reason"], "advertising")
        await self.six_sides("ban, with purge", gone=("buy my things",), target_out=True)
        refusal = await self.refusal(self.join(name="Tom", cookie=self.target.cookie))
        self.assertEqual(refusal.code, 403)
        why = await self.get("/api/rooms/default/messages", headers={"Cookie": self.target.cookie})
        self.assertEqual((why.code, json.loads(why.body)["code"]), (403, "banned"))
        await self.resumer.leaves()
        await self.owner.acts("ban", person=self.target.id, seconds=0)
        await self.target.comes()
        await self.six_sides("lift a ban")

    @in_time
    @FOREVER_HELD
    async def test_a_ban_by_address(self) -> None:
        """Whoever has a role stays; whoever else is on the address goes."""
        await self.furnish()
        card = await self.owner.asks("person", person=self.target.id)
        self.assertEqual(card["from_address"], 4)
        await self.owner.acts("role", person=self.bystander.id, role="moderator")
        await self.away()
        await self.owner.acts("ban", person=self.target.id, seconds=60, address=True)
        await self.is_out("ban")
        refusal = await self.refusal(self.join(name="another"))
        self.assertEqual(refusal.code, 403)
        await self.owner.acts("ban", person=self.target.id, seconds=0)
        await self.six_sides("ban an address, and lift it", target_out=True)

    @in_time
    @FOREVER_HELD
    async def test_roles(self) -> None:
        await self.furnish()
        await self.away()
        await self.refused(self.target, "forbidden", "role", person=self.bystander.id, role="moderator")
        await self.owner.acts("role", person=self.target.id, role="moderator")
        self.assertEqual((await self.target.hears("you"))["role"], "moderator")
        await self.refused(self.target, "forbidden", "mute", person=self.owner.id, seconds=60)
        await self.six_sides("name a moderator")
        self.assertEqual(self.resumer.picture.roles[self.target.id], "moderator")
        await self.resumer.leaves()
        await self.owner.acts("role", person=self.target.id, role="")
        await self.refused(self.target, "forbidden", "mute", person=self.bystander.id, seconds=60)
        await self.six_sides("take a role")

    async def is_out(self, why: str) -> dict[str, Any]:
        out = await self.target.hears("out")
        self.assertEqual(out["why"], why)
        with self.assertRaises(SocketClosed) as closed:
            while True:
                await self.target.next()
        self.assertEqual(str(closed.exception), "1008")
        return out

    # The room

    @in_time
    @FOREVER_HELD
    async def test_rules(self) -> None:
        """Each holds at once, for all but the moderators."""
        await self.furnish()
        for act, rules, code in (
            ("read-only", {"read_only": True}, "read_only"),
            ("slow mode", {"slow_s": 60}, "slow_mode"),
            ("links off", {"links": "off"}, "refused"),
        ):
            await self.away()
            await self.owner.acts("rules", **rules)
            await self.target.hears("rules")
            if code == "slow_mode":
                await self.target.says("the first in a while")
            self.target.member.say("see https://example.org/", f"r{code}")  # type: ignore[union-attr]
            self.assertEqual((await self.target.hears("error", client_id=f"r{code}"))["code"], code)
            await self.owner.says(f"{act}: see https://example.org/")
            await self.six_sides(act)
            await self.owner.acts("rules", read_only=False, slow_s=0, links="on")

    @in_time
    @FOREVER_HELD
    async def test_an_announcement(self) -> None:
        await self.furnish()
        plain = await self.join_plain()
        await self.away()
        await self.owner.acts("rules", announcement="We begin at eight.")
        await self.six_sides("announcement")
        self.assertEqual(self.resumer.picture.rules["announcement"]["text"], "We begin at eight.")
        self.assertEqual(await plain.next(), "We begin at eight.")

    @in_time
    @FOREVER_HELD
    async def test_a_lock(self) -> None:
        """Who was in may leave and come back; nobody new comes in."""
        await self.furnish()
        await self.owner.acts("rules", locked=True)
        await self.away()
        refusal = await self.refusal(self.join(name="New"))
        self.assertEqual(refusal.code, 403)
        await self.resumer.resumes()
        await self.resumer.leaves()
        await self.owner.acts("rules", locked=False)
        await self.six_sides("lock, and unlock")

    @in_time
    @FOREVER_HELD
    async def test_a_raid(self) -> None:
        """Slow mode, no links, newcomers muted, until it is over."""
        await self.furnish()
        await self.away()
        await self.owner.acts("raid", seconds=600)
        self.assertIn("muted_until", await self.target.hears("you"))
        self.target.member.say("hello?", "h1")  # type: ignore[union-attr]
        self.assertEqual((await self.target.hears("error", client_id="h1"))["code"], "muted")
        await self.six_sides("raid")
        self.assertGreater(self.resumer.picture.rules["raid_until"], 0)
        await self.resumer.leaves()
        await self.owner.acts("raid", seconds=0)
        await self.target.says("hello again")
        await self.six_sides("end of a raid")

    @in_time
    @FOREVER_HELD
    async def test_the_filter(self) -> None:
        """What it refuses is told to its author alone; what it holds to the moderators, too, until one decides."""
        await self.furnish()
        patterns = [{"pattern": "casino"}, {"pattern": "lott[eo]ry", "is_regex": True, "action": "hold"}]
        await self.owner.acts("filter", patterns=patterns)
        await self.away()
        self.target.member.say("a casino nearby", "f1")  # type: ignore[union-attr]
        self.assertEqual((await self.target.hears("error", client_id="f1"))["code"], "refused")
        await self.six_sides("filter: refuse", gone=("a casino nearby",))
        await self.resumer.leaves()
        for number, show in enumerate((True, False)):
            self.target.member.say(f"lottery {number}", f"l{number}")  # type: ignore[union-attr]
            self.assertEqual((await self.target.hears("error", client_id=f"l{number}"))["code"], "held")
            await self.owner.hears("waiting", held=1)
            await self.refused(self.bystander, "forbidden", "held")
            held = (await self.owner.asks("held"))["held"]
            self.assertEqual([each["text"] for each in held], [f"lottery {number}"])
            await self.six_sides("filter: hold")
            await self.resumer.leaves()
            await self.owner.acts("review", held=held[0]["id"], show=show)
            if show:
                await self.target.hears("ack", client_id="l0")
                await self.six_sides("review: show")
            else:
                await self.target.hears("error", client_id="l1", code="refused")
                await self.six_sides("review: refuse", gone=("lottery 1",))
            if show:
                await self.resumer.leaves()

    @in_time
    @FOREVER_HELD
    async def test_keeping(self) -> None:
        """What is too old goes from the screens, too."""
        await self.furnish()
        for number in range(10):
            await self.target.says(f"of old, {number}")
        await self.away()
        await self.app.event_log.keep("default", 0, 4)
        await self.six_sides("keep the newest", gone=("of old, 0", "of old, 5"))

    # What moderators read

    @in_time
    @FOREVER_HELD
    async def test_every_act_is_in_the_moderators_log(self) -> None:
        """With reason, by whom and until when; nobody else reads it."""
        await self.furnish()
        await self.owner.acts("mute", person=self.target.id, seconds=60, reason="too loud")
        await self.owner.acts("rules", slow_s=5, reason="busy")
        await self.refused(self.bystander, "forbidden", "acts")
        acts = (await self.owner.asks("acts"))["acts"]
        self.assertEqual([act["act"] for act in acts], ["rules", "mute"])
        mute = acts[1]
        self.assertEqual((mute["whom"]["name"], mute["by"]["name"], mute["reason"]), ("Tom", "Olga", "too loud"))
        self.assertGreater(mute["until"], mute["at"])


def tearDownModule() -> None:
    """Write the table, if it is wanted."""
    if file := os.environ.get("SIDES_TABLE"):
        lines = ["| act | " + " | ".join(SIDES) + " |", "|---" * (len(SIDES) + 1) + "|"]
        lines += [f"| {act} | " + " | ".join(row.get(side, "") for side in SIDES) + " |" for act, row in TABLE.items()]
        with open(file, "w") as out:
            out.write("\n".join(lines) + "\n")
