"""Several servers on one Redis: whoever is on one is in the same rooms as whoever is on another."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import websocket
from tornado.testing import ExpectLog

from chat.protocol import REACTIONS
from tests.redis_server import RedisServer, running
from tests.support import DEADLINE_S, Client, ServerProcess


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def servers(tmp_path: Path, redis: RedisServer) -> Iterator[list[ServerProcess]]:
    """Two of them."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(ServerProcess(tmp_path / f"{name}.db", redis=redis.url, message_rate=0))
            for name in ("one", "two")
        ]


def told(client: Client, type: str, **fields: Any) -> Any:
    """A frame of a type (and with these fields) that somebody has heard, or is going to."""
    for frame in client.heard:
        if frame["type"] == type and all(name in frame and frame[name] == value for name, value in fields.items()):
            return frame
    return client.hear(type, **fields)


def messages(client: Client) -> list[Any]:
    return [frame for frame in client.heard if frame["type"] == "message"]


def test_members_of_two_servers_hear_each_other(servers: list[ServerProcess]) -> None:
    """In one order, with the same seqs and times; each his own ack first."""
    with Client(servers[0].url, name="Ann") as ann, Client(servers[1].url, name="Bo") as bo:
        for number in range(20):
            speaker = (ann, bo)[number % 2]
            client_id = speaker.say(f"text {number}")
            told(speaker, "ack", client_id=client_id)
        for each in (ann, bo):
            told(each, "message", seq=20)
        assert messages(ann) == messages(bo)
        assert [message["seq"] for message in messages(ann)] == list(range(1, 21))


def test_one_resumes_on_another_server(servers: list[ServerProcess]) -> None:
    """What was missed follows, and nothing twice; again at once with nothing in between, too."""
    with Client(servers[0].url, name="Ann") as ann:
        with Client(servers[0].url, name="Bo") as bo:
            epoch, cookie = bo.welcome["epoch"], bo.cookie
            ann.say("one")
            assert bo.hear("message")["seq"] == 1
        ann.say("two")
        ann.hear("message", text="two")
        with Client(servers[1].url, name="Bo", cookie=cookie, epoch=epoch, after=1) as bo:
            assert bo.welcome["resumed"] == "whole"
            assert bo.hear("message")["text"] == "two"
        for server in servers:
            with Client(server.url, name="Bo", cookie=cookie, epoch=epoch, after=2) as bo:
                assert (bo.welcome["resumed"], bo.welcome["head"]) == ("whole", 2)


def test_one_is_the_same_person_on_every_server(servers: list[ServerProcess]) -> None:
    """They sign with one secret, and what was said on one is not stored again by another."""
    with Client(servers[0].url, name="Ann") as ann, Client(servers[1].url, cookie=ann.cookie) as again:
        assert again.welcome["you"]["id"] == ann.welcome["you"]["id"]
        for each in (ann, again):
            each.say("once", client_id="c")
            assert each.hear("ack")["seq"] == 1


def test_members_stay_while_redis_is_restarted(servers: list[ServerProcess], redis: RedisServer) -> None:
    """They hear that nothing can be stored, then that it can again and in which epoch; what they said goes through."""
    with Client(servers[0].url, name="Ann") as ann, Client(servers[1].url, name="Bo") as bo:
        ann.say("before")
        bo.hear("message")
        redis.stop()
        assert bo.hear("status")["storing"] is False
        bo.say("meanwhile", client_id="c")
        redis.start()
        assert told(bo, "ack", client_id="c")["seq"] == 2
        assert told(ann, "message", seq=2)["text"] == "meanwhile"
        with Client(servers[0].url, name="Cy") as cy:
            epoch = cy.welcome["epoch"]
        assert epoch != ann.welcome["epoch"]
        for each in (ann, bo):
            told(each, "status", storing=True, epoch=epoch)
        with Client(servers[1].url, name="Cy", epoch=epoch, after=1) as cy:
            assert cy.welcome["resumed"] == "whole"


def test_who_was_shown_what_redis_has_forgotten_begins_anew(
    servers: list[ServerProcess], redis: RedisServer, tmp_path: Path
) -> None:
    """He is asked to come back, and told that his past is gone: never a silent hole."""
    with Client(servers[0].url, name="Ann") as ann:
        epoch, cookie = ann.welcome["epoch"], ann.cookie
        for number in range(3):
            ann.say(f"text {number}")
            ann.hear("message")
        redis.kill()
        for file in (redis.folder / "appendonlydir").iterdir():
            file.unlink()
        redis.start()
        ann.hear("bye")
        with pytest.raises((ValueError, websocket.WebSocketConnectionClosedException)):  # closed, and no frame
            ann.next()
    with Client(servers[0].url, cookie=cookie, epoch=epoch, after=3) as ann:
        assert (ann.welcome["resumed"], ann.welcome["head"]) == ("reset", 0)
        ann.say("anew")
        assert ann.hear("message")["seq"] == 1


# What is decided in a room


def test_a_room_belongs_to_who_spoke_in_it_first(servers: list[ServerProcess]) -> None:
    """Two servers may each have let somebody in first; one of the two hears that it is not his."""
    with Client(servers[0].url, name="Ann") as ann, Client(servers[1].url, name="Bo") as bo:
        assert [each.welcome["you"]["role"] for each in (ann, bo)] == ["owner", "owner"]
        ann.say("mine")
        assert "role" not in told(bo, "you", id=bo.welcome["you"]["id"])
        bo.say("hello")
        told(bo, "ack")
        bo.send(type="rules", ref="r", slow_s=5)
        assert told(bo, "error", ref="r")["code"] == "forbidden"
        ann.send(type="rules", ref="r", slow_s=5)
        assert told(ann, "done", ref="r")["seq"] == 3


@pytest.fixture
def house(servers: list[ServerProcess]) -> Iterator[tuple[Client, Client]]:
    """Ann, who owns the room, on one server, and Bo on the other."""
    with Client(servers[0].url, name="Ann") as ann:
        ann.say("mine")
        told(ann, "message", seq=1)
        with Client(servers[1].url, name="Bo") as bo:
            bo.say("hello")
            told(ann, "message", seq=2)
            yield ann, bo


def test_a_mute_holds_on_every_server(house: tuple[Client, Client]) -> None:
    """From its event on; and so does its end."""
    ann, bo = house
    bo_id = bo.welcome["you"]["id"]
    ann.send(type="mute", person=bo_id, seconds=60)
    assert told(bo, "you", muted_until=told(bo, "act")["until"])["id"] == bo_id
    bo.say("but", client_id="muted")
    assert told(bo, "error", client_id="muted")["code"] == "muted"
    ann.send(type="mute", person=bo_id, seconds=0)
    told(bo, "act", until=0)
    bo.say("again", client_id="again")
    assert told(bo, "ack", client_id="again")["seq"] == 5


@pytest.mark.parametrize("act", ["kick", "ban"])
def test_who_is_put_out_is_put_out_of_every_server(
    house: tuple[Client, Client], servers: list[ServerProcess], act: str
) -> None:
    """And the banned do not come in again."""
    ann, bo = house
    ann.send(type=act, person=bo.welcome["you"]["id"], reason='said "no" \u2028')
    out = told(bo, "out")
    assert (out["why"], out["reason"]) == (act, 'said "no" \u2028')
    if act == "ban":
        with pytest.raises(websocket.WebSocketBadStatusException):
            Client(servers[0].url, cookie=bo.cookie)


def test_an_address_is_banned_on_every_server(house: tuple[Client, Client], servers: list[ServerProcess]) -> None:
    """That of somebody on another server: who else is there from it is put out, too, and nobody new comes in."""
    ann, bo = house
    with Client(servers[1].url, name="Cy") as cy:
        present(ann, 3)
        ann.send(type="person", ref="card", person=bo.welcome["you"]["id"])
        assert told(ann, "person", ref="card")["from_address"] == 3
        ann.send(type="ban", ref="b", person=bo.welcome["you"]["id"], seconds=60, address=True)
        told(ann, "done", ref="b")
        assert {told(each, "out")["why"] for each in (bo, cy)} == {"ban"}
        cy.socket.shutdown()
    with pytest.raises(websocket.WebSocketBadStatusException):
        Client(servers[0].url, name="Dan")


def test_moderators_of_every_server_hear_what_waits_for_review(house: tuple[Client, Client]) -> None:
    """The filter of one holds what is said on the other."""
    ann, bo = house
    ann.send(type="filter", ref="f", patterns=[{"pattern": "spam", "action": "hold"}])
    told(ann, "done", ref="f")
    for number in range(100):  # until his server has heard of it
        bo.say("spam", client_id=f"s{number}")
        while not (answers := [frame for frame in bo.heard if frame.get("client_id") == f"s{number}"]):
            bo.next()
        if answers[0]["type"] == "error":
            break
    assert answers[0]["code"] == "held"
    assert told(ann, "waiting")["held"] == 1


# Who is there


def present(client: Client, count: int) -> None:
    """Return once somebody knows of so many people."""
    if client.welcome["present"] != count or any(frame["type"] == "presence" for frame in client.heard):
        told(client, "presence", present=count)


def test_people_of_all_servers_are_counted_and_listed(servers: list[ServerProcess]) -> None:
    """By whoever is on any of them; who leaves one of two is still there."""
    with Client(servers[0].url, name="Ann") as ann, Client(servers[1].url, name="Bo") as bo:
        for each in (ann, bo):
            present(each, 2)
            each.send(type="people", ref="p")
            assert [person["name"] for person in told(each, "people", ref="p")["people"]] == ["Ann", "Bo"]
        with Client(servers[1].url, name="Cy") as cy:
            cy_id = cy.welcome["you"]["id"]
            with Client(servers[0].url, cookie=cy.cookie):
                for each in (ann, bo):
                    present(each, 3)
            ann.say("the other tab of Cy is closed")
            told(bo, "message", seq=1)
        assert told(ann, "presence", left=[cy_id])["present"] == 2
        assert told(bo, "presence", left=[cy_id])["present"] == 2


def test_no_two_people_of_different_servers_have_one_name(servers: list[ServerProcess]) -> None:
    """Who came later gets another one and is told, and so are all."""
    with Client(servers[0].url, name="Ann") as ann, Client(servers[1].url, name="Ann") as later:
        names = {"Ann", "Ann 2"}
        present(ann, 2)
        ann.send(type="people", ref="p")
        if {person["name"] for person in told(ann, "people", ref="p")["people"]} != names:
            told(later, "you", name="Ann 2")
            ann.send(type="people", ref="q")
            assert {person["name"] for person in told(ann, "people", ref="q")["people"]} == names
        assert ann.welcome["you"]["name"] == "Ann"


def test_people_of_a_killed_server_are_gone_soon(tmp_path: Path, redis: RedisServer) -> None:
    """Nobody has to tell: there is no sign of life any more."""
    hurry = "from chat.eventlog import redis; redis.BEAT_S, redis.SILENT_S = 0.1, 1.0"
    one, two = (ServerProcess(tmp_path / f"{name}.db", redis=redis.url, before=hurry) for name in ("one", "two"))
    with one, two, Client(one.url, name="Ann") as ann, Client(two.url, name="Bo") as bo:
        present(ann, 2)
        two.kill()
        assert told(ann, "presence", left=[bo.welcome["you"]["id"]])["present"] == 1


def test_what_cannot_be_read_is_said_so(tmp_path: Path, redis: RedisServer) -> None:
    """By pages, programs and sockets, in one sentence that says to come back; and soon it can."""
    hurry = "from chat.eventlog import asking; asking.WAIT_S = 0.5"
    with ServerProcess(tmp_path / "one.db", redis=redis.url, before=hurry) as server:
        with Client(server.url, name="Ann") as ann:
            ann.say("one")
            ann.hear("message")
            redis.stop()
            ann.hear("status", storing=False)
            ann.send(type="history", before=1, ref="h")
            assert ann.hear("error", ref="h")["code"] == "away"
            ann.say("two", client_id="two")
            assert ann.hear("error", client_id="two")["code"] == "not_stored"
            for path in ("/api/rooms/other/messages", "/healthz"):
                with pytest.raises(HTTPError) as refused:
                    urlopen(server.url + path, timeout=DEADLINE_S)
                assert refused.value.code == 503
                refused.value.close()
            redis.start()
            ann.hear("status", storing=True)
            ann.say("two", client_id="two")
            assert ann.hear("ack", client_id="two")["seq"] == 2
        assert not [line for line in server.log if "fault" in line or "Traceback" in line]


def test_a_redis_that_was_emptied_while_it_runs_makes_all_begin_anew(
    servers: list[ServerProcess], redis: RedisServer
) -> None:
    """Whoever next says something finds out, then every server: nobody hears of other events under seqs he has seen."""
    with Client(servers[0].url, name="Ann") as ann, Client(servers[1].url, name="Bo") as bo:
        for number in range(3):
            ann.say(f"text {number}")
            told(bo, "message", seq=number + 1)
        with redis.client() as client:
            client.flushall()
        ann.say("and now?")
        told(ann, "bye")
        ann.socket.shutdown()
        with Client(servers[0].url, name="Cy") as cy:
            cy.say("anew")
            assert told(cy, "message")["seq"] == 1
            told(bo, "bye")
            bo.socket.shutdown()
        with Client(servers[1].url, name="Bo", epoch=bo.welcome["epoch"], after=3) as again:
            assert again.welcome["resumed"] == "reset"


def test_acts_of_one_moment_do_not_undo_each_other(house: tuple[Client, Client], servers: list[ServerProcess]) -> None:
    """Ann bans whom a moderator on the other server mutes at the same moment: in the end he is banned and muted."""
    ann, mod = house
    ann.send(type="role", ref="mod", person=mod.welcome["you"]["id"], role="moderator")
    told(ann, "done", ref="mod")
    told(mod, "you", role="moderator")
    for number in range(10):
        with ExpectLog("websocket", "close status", required=False), Client(servers[1].url, name=f"Cy {number}") as cy:
            cy.say("hello")
            who = cy.welcome["you"]["id"]
            for each in (ann, mod):
                told(each, "message", text="hello", by={"id": who, "name": f"Cy {number}"})
            ann.send(type="ban", ref=f"ban {number}", person=who, seconds=600)
            mod.send(type="mute", ref=f"mute {number}", person=who, seconds=600)
            told(ann, "done", ref=f"ban {number}")
            answer = next_of(mod, f"mute {number}")
            assert answer["type"] == "done" or answer["code"] == "forbidden", answer
            assert told(cy, "out")["why"] == "ban"
        with pytest.raises(websocket.WebSocketBadStatusException):
            Client(servers[1].url, cookie=cy.cookie)


def next_of(client: Client, ref: str) -> Any:
    """The answer to an act."""
    while True:
        for frame in client.heard:
            if frame.get("ref") == ref:
                return frame
        client.next()


# How often


def test_what_was_taken_at_one_server_is_taken_at_the_other(tmp_path: Path, redis: RedisServer) -> None:
    """One at a time, wherever it is said."""
    with (
        ServerProcess(tmp_path / "one.db", redis=redis.url, message_rate=0.05) as one,
        ServerProcess(tmp_path / "two.db", redis=redis.url, message_rate=0.05) as two,
        Client(one.url, name="Ann") as here,
        Client(two.url, cookie=here.cookie) as there,
        redis.client() as client,
        client.pubsub() as listening,
    ):
        listening.subscribe("0:chatroom:servers")
        here.say("the only one")
        while '"taken"' not in str(listening.get_message(timeout=DEADLINE_S)):
            pass
        here.send(type="react", message=1, kind=REACTIONS[0])
        told(there, "reactions")  # and what was told before, too
        assert refused(there) == "rate_limited"


def test_a_turn_in_slow_mode_was_had_on_every_server(
    house: tuple[Client, Client], servers: list[ServerProcess]
) -> None:
    """Whoever spoke on one waits on the other."""
    ann, bo = house
    ann.send(type="rules", ref="slow", slow_s=600)
    told(bo, "rules")
    with Client(servers[0].url, cookie=bo.cookie) as elsewhere:
        bo.say("my turn", client_id="turn")
        told(elsewhere, "message", text="my turn")
        assert refused(elsewhere) == "slow_mode"


def refused(client: Client) -> str:
    """With what code, if anything, something is refused that somebody says now."""
    client_id = client.say("another")
    while True:
        frame = client.next()
        if frame.get("client_id") == client_id:
            return str(frame.get("code", ""))
