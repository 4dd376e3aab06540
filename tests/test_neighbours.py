"""The people of several servers: whatever is told, missed or said anew, all end with the same ones."""

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.identity import lookalike_keys
from chat.neighbours import Delta, Everybody, Neighbours, Present, Telling, WhoIsHere, decode_telling
from chat.presence import People
from chat.protocol import encode


class Channel:
    """What is told goes to all servers, in one order."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.waiting: list[Telling] = []
        self.told: list[Telling] = []

    def tell(self, telling: Telling) -> None:
        self.waiting.append(telling)

    def flow(self, *, deaf: str = "") -> None:
        """Let everybody hear what was told, and what that makes others tell; but for one."""
        while self.waiting:
            telling = decode_telling(encode(self.waiting.pop(0)))
            self.told.append(telling)
            for name, server in self.servers.items():
                if name != deaf:
                    for id in server.neighbours.hear(telling):
                        server.neighbours.note(id)
                    server.neighbours.tell_changes()


@dataclass(eq=False)
class Socket:
    address_key: str
    is_operator: bool


class Server:
    def __init__(self, name: str, channel: Channel) -> None:
        self.people = People()
        self.sockets: list[tuple[str, Socket]] = []
        self.neighbours = Neighbours(name, self.people, channel.tell)
        channel.servers[name] = self
        self.neighbours.begin()
        channel.flow()

    def join(self, id: str, wish: str, now_ms: int, address: str = "somewhere") -> None:
        socket = Socket(address, is_operator=id == "op")
        self.people.join(id, wish, socket, now_ms)
        self.sockets.append((id, socket))
        self.neighbours.note(id)

    def leave(self, place: int) -> None:
        if self.sockets:
            id, socket = self.sockets.pop(place % len(self.sockets))
            self.people.leave(id, socket)
            self.neighbours.note(id)

    def named(self) -> dict[str, str]:
        return {id: person.name for id, person in self.people.names().items() if person}


@pytest.fixture
def channel() -> Channel:
    return Channel()


def test_who_comes_goes_and_is_renamed_is_told_in_one_delta(channel: Channel) -> None:
    """Netted: who came and went in between is not mentioned."""
    one, two = Server("one", channel), Server("two", channel)
    for id in ("a", "b", "c"):
        one.join(id, f"Name {id}", 5)
    one.leave(1)
    one.people.rename("c", "Cy")
    one.neighbours.tell_changes()

    def present(id: str, name: str, times_named: int = 0) -> Present:
        return Present(id, name, 5, times_named, addresses=["somewhere"])

    assert channel.waiting == [Delta("one", 1, [present("a", "Name a"), present("c", "Cy", 1)], [])]
    channel.flow()
    assert two.named() == {"a": "Name a", "c": "Cy"}
    one.neighbours.tell_changes()
    assert channel.waiting == []


def test_what_was_missed_is_asked_for(channel: Channel) -> None:
    """A delta that does not follow on the last one makes a server ask, and the answer is everybody."""
    one, two = Server("one", channel), Server("two", channel)
    one.join("a", "Ann", 1)
    one.neighbours.tell_changes()
    channel.flow(deaf="two")
    one.join("b", "Bo", 2)
    one.neighbours.tell_changes()
    channel.told.clear()
    channel.flow()
    assert [type(telling) for telling in channel.told] == [Delta, WhoIsHere, Everybody]
    assert two.named() == {"a": "Ann", "b": "Bo"}


def test_a_server_that_begins_anew_is_heard_again(channel: Channel) -> None:
    """Its numbers begin anew, too, and whom it no longer has is gone."""
    one, two = Server("one", channel), Server("two", channel)
    for number in range(3):
        one.join(f"old{number}", f"Old {number}", 1)
        one.neighbours.tell_changes()
    channel.flow()
    anew = Server("one", channel)
    assert two.named() == {}
    anew.join("new", "New", 2)
    anew.neighbours.tell_changes()
    channel.flow()
    assert two.named() == {"new": "New"}


def test_who_came_later_gives_way(channel: Channel) -> None:
    """Of two whose names look alike; by the id, if they came in the same moment."""
    one, two = Server("one", channel), Server("two", channel)
    one.join("later", "Ann", 9)
    two.join("earlier", "ann", 3)
    for server in (one, two):
        server.neighbours.tell_changes()
    channel.flow()
    assert one.named() == two.named() == {"earlier": "ann", "later": "Ann 2"}


def test_a_person_of_two_servers_is_one(channel: Channel) -> None:
    """Under one name, until he has left both."""
    one, two = Server("one", channel), Server("two", channel)
    one.join("a", "Ann", 1)
    one.neighbours.tell_changes()
    channel.flow()
    two.join("a", "Another", 2)
    two.neighbours.tell_changes()
    channel.flow()
    assert one.named() == two.named() == {"a": "Ann"}
    for server in (one, two):
        assert len(server.people) == 1
        server.leave(0)
        server.neighbours.tell_changes()
        channel.flow()
    assert one.named() == two.named() == {}


def test_a_server_that_is_gone_takes_its_people_along(channel: Channel) -> None:
    """Those alone who are on no other."""
    one, two = Server("one", channel), Server("two", channel)
    for id in ("a", "b"):
        one.join(id, f"Name {id}", 1)
    one.neighbours.tell_changes()
    channel.flow()
    two.join("a", "x", 2)
    del channel.servers["one"]
    assert two.neighbours.forget("one")
    assert two.named() == {"a": "Name a"}
    assert not two.neighbours.forget("one")


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b'{"kind":"delta"}', b'{"kind":"x","server":"y"}', b"\xff"])
def test_what_is_no_telling_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_telling(payload)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("join", "join", "join", "leave", "rename", "tell", "flow", "deaf", "anew")),
        st.integers(0, 2),
        st.integers(0, 7),
        st.sampled_from(("Ann", "ann", "Bo", "B0", "Cy")),
    ),
    max_size=60,
)


@given(STEPS)
def test_all_servers_end_with_the_same_people(steps: list[tuple[str, int, int, str]]) -> None:
    """Whatever came, went, was renamed or missed: after all were asked once they agree, and no two names look alike."""
    channel = Channel()
    servers = {name: Server(name, channel) for name in ("0", "1", "2")}
    for number, (what, which, who, wish) in enumerate(steps):
        server = servers[str(which)]
        if what == "join":
            server.join(f"p{who}", wish, number)
        elif what == "leave":
            server.leave(who)
        elif what == "rename" and server.sockets:
            id = server.sockets[who % len(server.sockets)][0]
            server.people.rename(id, wish)
            server.neighbours.note(id)
        elif what == "tell":
            server.neighbours.tell_changes()
        elif what == "flow":
            channel.flow()
        elif what == "deaf":
            channel.flow(deaf=str(which))
        elif what == "anew":
            servers[str(which)] = Server(str(which), channel)
    for _ in range(3):
        for server in servers.values():
            server.neighbours.begin()
            channel.flow()
    views = [server.named() for server in servers.values()]
    here = {id for server in servers.values() for id, _ in server.sockets}
    assert [set(view) for view in views] == [here] * 3
    assert views[0] == views[1] == views[2]
    keys = [key for name in views[0].values() for key in set(lookalike_keys(name))]
    assert len(keys) == len(set(keys))


def test_an_operator_is_known_on_every_server_while_he_is_there() -> None:
    """So that nobody can put him out where he is not."""
    channel = Channel()
    one, other, third = (Server(name, channel) for name in ("one", "other", "third"))
    for at in (one, third):
        at.join("op", "Olga", 1)
        at.join("bo", "Bo", 2)
        at.neighbours.tell_changes()
    channel.flow()
    assert [other.neighbours.is_operator(id) for id in ("op", "bo", "nobody")] == [True, False, False]
    one.leave(0)
    one.neighbours.tell_changes()
    channel.flow()
    assert other.neighbours.is_operator("op")
    other.neighbours.forget("third")
    assert not other.neighbours.is_operator("op")


def test_addresses_are_known_on_every_server_as_they_are_now() -> None:
    """Of whoever is there, from all servers on which he is; and who else comes from there."""
    channel = Channel()
    one, other, third = (Server(name, channel) for name in ("one", "other", "third"))
    for at, address in ((one, "home"), (one, "work"), (third, "train")):
        at.join("bo", "Bo", 1, address)
    third.join("cy", "Cy", 2, "home")
    for at in (one, third):
        at.neighbours.tell_changes()
    channel.flow()
    assert other.neighbours.addresses_of("bo") == {"home", "work", "train"}
    assert other.neighbours.people_at({"home"}) == {"bo", "cy"}
    one.leave(0)
    one.neighbours.tell_changes()
    channel.flow()
    assert other.neighbours.addresses_of("bo") == {"work", "train"}
    assert other.neighbours.people_at({"home"}) == {"cy"}
    other.neighbours.forget("third")
    assert other.neighbours.addresses_of("bo") == {"work"}
    assert other.neighbours.addresses_of("nobody") == other.neighbours.people_at({"train"}) == set()
