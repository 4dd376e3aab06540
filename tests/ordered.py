"""A room's order as its log would keep it, without a room and without a log, for the tests of judging and of acts."""

from collections.abc import Iterable
from typing import Any

import pytest

from chat.decisions import Actor, Decision, Moment, Target, admit, decide
from chat.order import RANKS, Barred, Order, Standing
from chat.protocol import AnyAct, Person, ProtocolError, encode

NOW = 1_800_000_000_000
MINUTE = 60_000


def person(name: str) -> Person:
    return Person((name.lower() + "a" * 16)[:16], name)


ANN, BEA, CEM, DAN = map(person, ("Ann", "Bea", "Cem", "Dan"))


class House:
    """A room's order with the entries that its log would keep, and a clock."""

    def __init__(self, **roles: str) -> None:
        self.entries: dict[str, bytes] = {}
        self.order = Order.of({})
        self.now_ms = NOW
        self.operators = {person(name).id for name, role in roles.items() if role == "operator"}
        for name, role in roles.items():
            if role != "operator":
                self.put(**{f"person:{person(name).id}": Standing(name=name, role=role)})

    def put(self, **entries: Any) -> None:
        self.take({key: encode(value) for key, value in entries.items()})

    def decide(
        self, by: Person, frame: AnyAct, whom: Person | None = None, here: Iterable[str] = (), **more: Any
    ) -> Decision:
        """Decide, and leave everything as it is; `here`: the addresses from which `whom` is here."""
        target = Target(whom, whom is not None and whom.id in self.operators, frozenset(here))
        return decide(self.order, frame, Actor(by, by.id in self.operators), target, Moment(self.now_ms, **more))

    def do(self, by: Person, frame: AnyAct, whom: Person | None = None, *here: Iterable[str], **more: Any) -> Decision:
        return self._store(self.decide(by, frame, whom, *here, **more))

    def refusal(self, by: Person, frame: AnyAct, whom: Person | None = None, *here: Iterable[str], **more: Any) -> str:
        """The code by which an act is refused."""
        with pytest.raises(ProtocolError) as refused:
            self.decide(by, frame, whom, *here, **more)
        assert refused.value.sentence.endswith(".") and "\n" not in refused.value.sentence
        return refused.value.code

    def admit(self, who: Person, how: str) -> Decision:
        return self._store(admit(self.order, who, how, self.now_ms))

    def say(self, who: Person, text: str = "hello") -> str:
        """Why it is held, "" or the code by which it is refused."""
        try:
            return self.order.check_say(who.id, self.rank(who), text, self.now_ms)
        except ProtocolError as error:
            assert error.sentence.endswith(".")
            return error.code

    def rename(self, who: Person, name: str) -> str:
        """The code by which a name is refused, or ""."""
        try:
            self.order.check_name(who.id, self.rank(who), name, self.now_ms)
        except ProtocolError as error:
            assert error.sentence.endswith(".")
            return error.code
        return ""

    def barred(self, who: Person, address: str = "somewhere") -> str:
        """The code by which somebody is kept out, or ""."""
        try:
            self.order.admission(who.id, self.rank(who), address, self.now_ms)
        except Barred as barred:
            assert barred.sentence == str(barred) and barred.sentence.endswith(".")
            return barred.code
        return ""

    def rank(self, who: Person) -> int:
        return RANKS["operator" if who.id in self.operators else self.order.role_of(who.id)]

    def standing(self, who: Person) -> Standing | None:
        return self.order.people.get(who.id)

    def _store(self, decision: Decision) -> Decision:
        self.take(decision.entries)
        for extra in decision.extra:
            self.take(extra.entries)
        return decision

    def take(self, entries: dict[str, bytes | None] | dict[str, bytes]) -> None:
        self.order = self.order.changed(entries)
        for key, value in entries.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
