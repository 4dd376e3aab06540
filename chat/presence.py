"""Who is in a room and what changed since it was last said.

Owns the people of one room, their sockets here, the other servers they are on, and their names. Knows no clock and
sends nothing. Invariants: no two people present carry names that look alike, but for the moment in which another server
has yet to hear of it; what is reported is netted, so that whoever came and went in between is not mentioned; who was
told another number meanwhile hears the one that is, though nothing has changed for the others.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chat.identity import MAX_DISPLAY_NAME, folded_skeleton, lookalike_keys
from chat.protocol import Person, Presence

# Above 100 people a room tells only how many they are; back to lists below 80.
CROWD = 100
_SMALL_AGAIN = 80
_KINDS = 10_000  # names whose next number is remembered


class Naming(NamedTuple):
    """Somebody in a room, since when he is there, and how often he got another name."""

    person: Person
    since_ms: int
    times_named: int


@dataclass(slots=True)
class _Here:
    person: Person
    since_ms: int
    times_named: int = 0
    sockets: set[Any] = field(default_factory=set)
    servers: set[str] = field(default_factory=set)  # other ones on which he is


class People:
    """The people of one room."""

    def __init__(self) -> None:
        self._here: dict[str, _Here] = {}
        self._taken: dict[str, str] = {}  # look-alike key -> id of who carries such a name
        self._next_number: dict[str, int] = {}  # so that 10,000 people of one name are no search
        self._by_name: list[tuple[str, str]] = []  # (folded name, id), sorted
        self._told: dict[str, Person | None] = {}  # who changed -> what the room last heard of him
        self._told_count = 0
        self._counted_for: dict[str, int] = {}  # what single ones were told since
        self.is_crowd = False

    def __len__(self) -> int:
        return len(self._here)

    # Coming and going

    def join(self, id: str, wish: str, socket: Any, now_ms: int = 0) -> Person:
        """Let a socket of a person in; his name is the wish, or the next one that is free."""
        here = self._here.get(id)
        if here is None:
            self._remember(id)
            here = self._here[id] = _Here(Person(id, self._free_name(id, wish)), now_ms)
            self._take_name(here.person)
        here.sockets.add(socket)
        return here.person

    def leave(self, id: str, socket: Any) -> bool:
        """Let a socket go, if it was here; True if it was the person's last one here.

        With it he is gone, and his name free, unless another server has him.
        """
        here = self._here.get(id)
        if here is None or socket not in here.sockets:
            return False
        here.sockets.remove(socket)
        if not here.sockets:
            self._forget_absent(here)
        return not here.sockets

    def _forget_absent(self, here: _Here) -> None:
        if not here.sockets and not here.servers:
            self._remember(here.person.id)
            self._free(here.person)
            self._counted_for.pop(here.person.id, None)
            del self._here[here.person.id]

    def rename(self, id: str, wish: str) -> Person:
        """Give a person another name, as near to the wish as is free."""
        here = self._here[id]
        self._remember(id)
        self._free(here.person)
        here.person = Person(id, self._free_name(id, wish))
        here.times_named += 1
        self._take_name(here.person)
        return here.person

    # On other servers

    def is_here(self, server: str, theirs: Naming) -> list[str]:
        """Another server has somebody, under this name; returns who of us is called otherwise now.

        One who is on both has the name that was given him last. Of two whose names look alike the one who came later
        gives way, on the server where he is.
        """
        person = theirs.person
        here = self._here.get(person.id)
        renamed = []
        if here is None:
            self._remember(person.id)
            here = self._here[person.id] = _Here(person, theirs.since_ms, theirs.times_named)
            insort(self._by_name, _place(person))
        elif (theirs.times_named, person.name) > (here.times_named, here.person.name):
            self._remember(person.id)
            self._free(here.person)
            here.person, here.times_named = person, theirs.times_named
            insort(self._by_name, _place(person))
            renamed += [person.id] if here.sockets else []
        here.servers.add(server)
        here.since_ms = min(here.since_ms, theirs.since_ms)
        return renamed + self._make_way(here)

    def _make_way(self, here: _Here) -> list[str]:
        person = here.person
        others = {self._taken.get(key, person.id) for key in lookalike_keys(person.name)} - {person.id}
        yielding = [id for id in others if _came_later(self._here[id], here) and self._here[id].sockets]
        for id in yielding:
            self._free_keys(self._here[id].person)
        self._take_keys(person)
        for id in yielding:
            self.rename(id, self._here[id].person.name)
        return yielding

    def is_gone(self, server: str, id: str) -> None:
        """Another server has somebody no more."""
        here = self._here.get(id)
        if here is not None and server in here.servers:
            here.servers.remove(server)
            self._forget_absent(here)

    def ours(self) -> list[str]:
        """Who has a socket here."""
        return [id for id, here in self._here.items() if here.sockets]

    def our(self, id: str) -> Naming | None:
        """Somebody who has a socket here."""
        here = self._here.get(id)
        return Naming(here.person, here.since_ms, here.times_named) if here is not None and here.sockets else None

    def get(self, id: str) -> Person:
        return self._here[id].person

    def find(self, id: str) -> Person | None:
        return self._here[id].person if id in self._here else None

    def ids(self) -> list[str]:
        return list(self._here)

    def sockets(self, id: str) -> list[Any]:
        return list(self._here[id].sockets) if id in self._here else []

    # Asking

    def count_for(self, id: str) -> int:
        """How many people are here, for somebody here who is told that, or who they are, out of turn.

        By the next number he finds out whether he knows them all.
        """
        if self._told:
            self._counted_for[id] = len(self)
        return len(self)

    def page(self, query: str, offset: int, limit: int) -> tuple[int, list[Person]]:
        """How many people's names contain `query`, and some of them by name."""
        folded = query.casefold()
        # Without a query nothing is copied but the page: in a crowd many ask for it, a quiet page as a sign of life.
        found = [entry for entry in self._by_name if folded in entry[0]] if folded else self._by_name
        return len(found), [self._here[id].person for _, id in found[offset : offset + limit]]

    def changes(self) -> Presence | None:
        """What changed since the last call, netted; None if nothing did."""
        told, self._told = self._told, {}
        counted, self._counted_for = {*self._counted_for.values()}, {}
        was_crowd, self.is_crowd = self.is_crowd, len(self) > (_SMALL_AGAIN - 1 if self.is_crowd else CROWD)
        now = Presence(len(self))
        if not (was_crowd or self.is_crowd):
            _net(now, told, {id: self._here[id].person for id in told if id in self._here})
        unchanged = not (now.joined or now.left or now.renamed) and {self._told_count, *counted} == {now.present}
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
        self._take_keys(person)
        insort(self._by_name, _place(person))

    def _take_keys(self, person: Person) -> None:
        for key in lookalike_keys(person.name):
            self._taken.setdefault(key, person.id)

    def _free_keys(self, person: Person) -> None:
        for key in lookalike_keys(person.name):
            if self._taken.get(key) == person.id:
                del self._taken[key]

    def _free(self, person: Person) -> None:
        self._free_keys(person)
        del self._by_name[bisect_left(self._by_name, _place(person))]
        if not self._by_name:
            self._next_number.clear()


def _came_later(one: _Here, other: _Here) -> bool:
    return (one.since_ms, one.person.id) > (other.since_ms, other.person.id)


def _place(person: Person) -> tuple[str, str]:
    """Where somebody stands in the list by name."""
    return person.name.casefold(), person.id


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
