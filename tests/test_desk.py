"""What moderators ask about the order, and who hears it."""

from tests.house import in_time
from tests.test_acts import ActsTestCase


class DeskTest(ActsTestCase):
    @in_time
    async def test_a_mute_and_a_ban_have_reasons_of_their_own(self) -> None:
        """Each beside its end; what was lifted is on the card no more."""
        ann, bob = await self.pair()
        await self.act(ann, "mute", person=bob.id, seconds=60, reason="noise")
        await self.act(ann, "ban", person=bob.id, reason="spam")
        card = await self.act(ann, "person", person=bob.id)
        self.assertEqual((card["muted_for"], card["banned_for"], card["banned_until"]), ("noise", "spam", -1))
        self.assertGreater(card["muted_until"], 0)
        await self.act(ann, "ban", person=bob.id, seconds=0)
        card = await self.act(ann, "person", person=bob.id)
        self.assertEqual((card["muted_for"], "banned_for" in card, "banned_until" in card), ("noise", False, False))

    @in_time
    async def test_the_card_of_who_is_here_says_how_he_stands(self) -> None:
        """His name, his role and what he said."""
        ann, bob = await self.pair()
        await self.say(bob, "hello")
        await self.act(ann, "role", person=bob.id, role="moderator")
        card = await self.act(ann, "person", person=bob.id)
        self.assertEqual((card["name"], card["role"], card["here"]), ("Bob", "moderator", True))
        self.assertEqual([event["text"] for event in card["events"]], ["hello"])

    @in_time
    async def test_nobody_without_a_role_is_told(self) -> None:
        """Nor who lost his role while the answer was looked up."""
        ann, bob = await self.pair()
        questions = ({"type": "acts"}, {"type": "held"}, {"type": "order"}, {"type": "person", "person": ann.id})
        for question in questions:
            self.assertEqual(await self.code(bob, **question), "forbidden", question)
        await self.act(ann, "role", person=bob.id, role="moderator")
        with self.reading_held():
            bob.send(type="acts", ref=1)
            await self.reading_asked()
            await self.act(ann, "role", person=bob.id, role="")
        self.assertEqual((await bob.hears("error", ref=1))["code"], "forbidden")
