"""The people whom other servers have in the same room: told to each other, so that all count and name the same ones.

Each server tells of its own: who came, went and was renamed, numbered; everybody, when it is asked or begins anew.
Knows no clock and no connection. Invariants: what another server told is taken in its order, and where a number is
missing everybody is asked; a server that is not heard of any more takes its people along.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from chat.presence import Naming, People
from chat.protocol import Person


class Present(Struct, frozen=True):
    """Somebody, and since when he is in the room (ms)."""

    id: str
    name: str
    since: int
    times_named: int = 0
    operator: bool = False


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

    def __init__(
        self,
        me: str,
        people: People,
        tell: Callable[[Telling], None],
        is_operator: Callable[[str], bool],
    ) -> None:
        self._me, self._people, self._tell, self._is_operator_here = me, people, tell, is_operator
        self._operators: dict[str, set[str]] = {}  # by server
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
        gone = telling.gone if isinstance(telling, Delta) else set(self._people.on(telling.server)) - here
        operators = self._operators.setdefault(telling.server, set())
        operators -= here | set(gone)
        operators |= {present.id for present in telling.here if present.operator}
        for id in gone:
            self._people.is_gone(telling.server, id)
        renamed: list[str] = []
        for present in telling.here:
            theirs = Naming(Person(present.id, present.name), present.since, present.times_named)
            renamed += self._people.is_here(telling.server, theirs)
        return renamed

    def forget(self, server: str) -> bool:
        """A server is gone; True if it had anybody."""
        self._numbers.pop(server, None)
        self._operators.pop(server, None)
        people = self._people.on(server)
        for id in people:
            self._people.is_gone(server, id)
        return bool(people)

    def is_operator(self, id: str) -> bool:
        """Whether somebody is here as an operator on another server."""
        return any(id in operators for operators in self._operators.values())

    def _tell_all(self) -> None:
        self._noted.clear()
        self._told = {id: present for id in self._people.ours() if (present := self._our(id))}
        self._tell(Everybody(self._me, self._number, list(self._told.values())))

    def _our(self, id: str) -> Present | None:
        ours = self._people.our(id)
        if ours is None:
            return None
        return Present(id, ours.person.name, ours.since_ms, ours.times_named, self._is_operator_here(id))
