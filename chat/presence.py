"""Who is in a room and what changed since it was last said.

Owns the people of one room, their sockets and their names. Knows no clock and sends nothing.
Invariants: no two people present carry names that look alike; what is reported is netted, so
that whoever came and went in between is not mentioned.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Any

from chat.identity import MAX_DISPLAY_NAME, folded_skeleton, lookalike_keys
from chat.protocol import Person, Presence

# Above 100 people a room tells only how many they are; back to lists below 80.
CROWD = 100
_SMALL_AGAIN = 80
_KINDS = 10_000  # names whose next number is remembered


@dataclass(slots=True)
class _Here:
    person: Person
    sockets: set[Any] = field(default_factory=set)


class People:
    """The people of one room."""

    def __init__(self) -> None:
        self._here: dict[str, _Here] = {}
        self._taken: dict[str, str] = {}  # look-alike key -> id of who carries such a name
        self._next_number: dict[str, int] = {}  # so that 10,000 people of one name are no search
        self._by_name: list[tuple[str, str]] = []  # (folded name, id), sorted
        self._told: dict[str, Person | None] = {}  # who changed -> what the room last heard of him
        self._told_count = 0
        self.is_crowd = False

    def __len__(self) -> int:
        return len(self._here)

    # Coming and going

    def join(self, id: str, wish: str, socket: Any) -> Person:
        """Let a socket of a person in; his name is the wish, or the next one that is free."""
        here = self._here.get(id)
        if here is None:
            self._remember(id)
            here = self._here[id] = _Here(Person(id, self._free_name(id, wish)))
            self._take_name(here.person)
        here.sockets.add(socket)
        return here.person

    def leave(self, id: str, socket: Any) -> bool:
        """Let a socket go, if it was here; True if with his last one the person is gone and his name free."""
        here = self._here.get(id)
        if here is None or socket not in here.sockets:
            return False
        here.sockets.remove(socket)
        if here.sockets:
            return False
        self._remember(id)
        self._free(here.person)
        del self._here[id]
        return True

    def rename(self, id: str, wish: str) -> Person:
        """Give a person another name, as near to the wish as is free."""
        here = self._here[id]
        self._remember(id)
        self._free(here.person)
        here.person = Person(id, self._free_name(id, wish))
        self._take_name(here.person)
        return here.person

    def get(self, id: str) -> Person:
        return self._here[id].person

    def find(self, id: str) -> Person | None:
        return self._here[id].person if id in self._here else None

    def ids(self) -> list[str]:
        return list(self._here)

    def sockets(self, id: str) -> list[Any]:
        return list(self._here[id].sockets) if id in self._here else []

    # Asking

    def page(self, query: str, offset: int, limit: int) -> tuple[int, list[Person]]:
        """How many people's names contain `query`, and some of them by name."""
        folded = query.casefold()
        # Without a query nothing is copied but the page: in a crowd many ask for it, a quiet page as a sign of life.
        found = [entry for entry in self._by_name if folded in entry[0]] if folded else self._by_name
        return len(found), [self._here[id].person for _, id in found[offset : offset + limit]]

    def changes(self) -> Presence | None:
        """What changed since the last call, netted; None if nothing did."""
        told, self._told = self._told, {}
        was_crowd, self.is_crowd = self.is_crowd, len(self) > (_SMALL_AGAIN - 1 if self.is_crowd else CROWD)
        now = Presence(len(self))
        if not (was_crowd or self.is_crowd):
            _net(now, told, {id: self._here[id].person for id in told if id in self._here})
        unchanged = not (now.joined or now.left or now.renamed) and now.present == self._told_count
        self._told_count = now.present
        return None if unchanged else now

    def names(self) -> dict[str, Person | None]:
        """Everybody here as he is called now, to be compared by `changes_since`."""
        return {id: here.person for id, here in self._here.items()}

    def changes_since(self, then: dict[str, Person | None]) -> Presence:
        """What changed since `names` was called, for somebody who has heard nothing meanwhile."""
        now = Presence(len(self))
        if not self.is_crowd:
            present = {id: here.person for id, here in self._here.items()}
            _net(now, {id: then.get(id) for id in then.keys() | present.keys()}, present)
        return now

    # Names

    def _remember(self, id: str) -> None:
        """Note what the room last heard of somebody, before he changes."""
        if id not in self._told:
            self._told[id] = self._here[id].person if id in self._here else None

    def _free_name(self, id: str, wish: str) -> str:
        if not self._is_taken(id, wish):
            return wish
        base = wish[: MAX_DISPLAY_NAME - 7].rstrip()
        kind = folded_skeleton(base)
        number = self._next_number.get(kind, 2) % 1_000_000  # six digits at most, so that it fits behind the base
        while self._is_taken(id, f"{base} {number}"):
            number += 1
        if len(self._next_number) >= _KINDS:
            self._next_number.clear()
        self._next_number[kind] = number + 1
        return f"{base} {number}"

    def _is_taken(self, id: str, name: str) -> bool:
        return any(self._taken.get(key, id) != id for key in lookalike_keys(name))

    def _take_name(self, person: Person) -> None:
        for key in lookalike_keys(person.name):
            self._taken[key] = person.id
        insort(self._by_name, (person.name.casefold(), person.id))

    def _free(self, person: Person) -> None:
        for key in lookalike_keys(person.name):
            self._taken.pop(key, None)
        del self._by_name[bisect_left(self._by_name, (person.name.casefold(), person.id))]
        if not self._by_name:
            self._next_number.clear()


def _net(presence: Presence, before: dict[str, Person | None], now: dict[str, Person]) -> None:
    """Sort who changed into joined, left and renamed, comparing then with now."""
    for id, old in before.items():
        new = now.get(id)
        if old is None and new is not None:
            presence.joined.append(new)
        elif old is not None and new is None:
            presence.left.append(id)
        elif old is not None and new is not None and old.name != new.name:
            presence.renamed.append(new)
