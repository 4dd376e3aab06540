"""The people whom other servers have in the same room: told to each other, so that all count and name the same ones.

Each server tells of its own: who came, went and was renamed, numbered; everybody, when it is asked or begins anew.
Knows no clock and no connection. Invariants: what another server told is taken in its order, and where a number is
missing everybody is asked; a server that is not heard of any more takes its people along.
"""

from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct

from chat.presence import Naming, People
from chat.protocol import Person


class Present(Struct, frozen=True, omit_defaults=True):
    """Somebody, since when he is in the room (ms), and the keys of the addresses from which he is there."""

    id: str
    name: str
    since: int
    times_named: int = 0
    operator: bool = False
    addresses: list[str] = []


class Delta(Struct, tag="delta", tag_field="kind"):
    """What changed on a server since what it told before; `here`: who came, or is called otherwise."""

    server: str
    number: int
    here: list[Present]
    gone: list[str]


class Everybody(Struct, tag="everybody", tag_field="kind"):
    """All whom a server has in the room."""

    server: str
    number: int
    here: list[Present]


class WhoIsHere(Struct, tag="who", tag_field="kind"):
    """A server asks the others."""

    server: str


class Writing(Struct, tag="writing", tag_field="kind"):
    """Somebody on a server writes; not numbered, as it may be missed."""

    server: str
    by: Person


Telling = Delta | Everybody | WhoIsHere | Writing
decode_telling = msgspec.json.Decoder(Telling).decode


class Neighbours:
    """What is told and heard of one room; `tell` sends to all servers that have it, this one included."""

    def __init__(self, me: str, people: People, tell: Callable[[Telling], None]) -> None:
        self._me, self._people, self._tell = me, people, tell
        self._there: dict[str, dict[str, Present]] = {}  # by server and id
        self._number = 0
        self._told: dict[str, Present] = {}  # whom the others know of us
        self._noted: dict[str, None] = {}  # of whom this may not be so any more, in order
        self._numbers: dict[str, int] = {}  # of what each other server told last

    def note(self, id: str) -> None:
        """Somebody has come, gone or got another name here."""
        self._noted[id] = None

    def tell_changes(self) -> None:
        """Tell what changed here since it was told last."""
        noted, self._noted = self._noted, {}
        now = {id: self._our(id) for id in noted}
        here = [present for id, present in now.items() if present and self._told.get(id) != present]
        gone = [id for id, present in now.items() if present is None and id in self._told]
        for id in gone:
            del self._told[id]
        self._told.update((present.id, present) for present in here)
        if here or gone:
            self._number += 1
            self._tell(Delta(self._me, self._number, here, gone))

    def begin(self) -> None:
        """Ask the others for theirs, and tell ours: at the start, and after anything may have been missed."""
        self._tell(WhoIsHere(self._me))
        self._tell_all()

    def hear(self, telling: Telling) -> list[str]:
        """Take what a server told; returns who of ours is called otherwise now."""
        if telling.server == self._me or isinstance(telling, Writing):
            return []
        if isinstance(telling, WhoIsHere):
            if self._number or self._told:
                self._tell_all()
            return []
        if isinstance(telling, Delta) and telling.number != self._numbers.get(telling.server, -1) + 1:
            self._tell(WhoIsHere(self._me))
            return []
        self._numbers[telling.server] = telling.number
        here = {present.id for present in telling.here}
        there = self._there.setdefault(telling.server, {})
        gone = telling.gone if isinstance(telling, Delta) else set(there) - here
        for id in gone:
            there.pop(id, None)
            self._people.is_gone(telling.server, id)
        renamed: list[str] = []
        for present in telling.here:
            there[present.id] = present
            theirs = Naming(Person(present.id, present.name), present.since, present.times_named)
            renamed += self._people.is_here(telling.server, theirs)
        return renamed

    def forget(self, server: str) -> bool:
        """A server is gone; True if it had anybody."""
        self._numbers.pop(server, None)
        people = self._there.pop(server, {})
        for id in people:
            self._people.is_gone(server, id)
        return bool(people)

    def is_operator(self, id: str) -> bool:
        """Whether somebody is here as an operator on another server."""
        return any(present.operator for present in self._all(id))

    def addresses_of(self, id: str) -> set[str]:
        """The keys of those from which somebody is here on other servers."""
        return {key for present in self._all(id) for key in present.addresses}

    def people_at(self, addresses: set[str]) -> set[str]:
        """Who is here from any of these on other servers."""
        return {id for there in self._there.values() for id in there if not addresses.isdisjoint(there[id].addresses)}

    def _all(self, id: str) -> Iterator[Present]:
        return (there[id] for there in self._there.values() if id in there)

    def _tell_all(self) -> None:
        self._noted.clear()
        self._told = {id: present for id in self._people.ours() if (present := self._our(id))}
        self._tell(Everybody(self._me, self._number, list(self._told.values())))

    def _our(self, id: str) -> Present | None:
        ours = self._people.our(id)
        if ours is None:
            return None
        members = self._people.sockets(id)
        addresses = sorted({member.address_key for member in members})
        is_operator = any(member.is_operator for member in members)
        return Present(id, ours.person.name, ours.since_ms, ours.times_named, is_operator, addresses)
