"""Who is in a room, under which name, and what the room is told of it."""

from typing import Any

import pytest

from chat.identity import lookalike_keys
from chat.presence import CROWD, People
from chat.protocol import Person, Presence


class Socket:
    """One socket, as far as the people of a room care."""


def room_of(*names: str) -> People:
    """A room in which the people, whose ids are their names, have been announced."""
    people = People()
    for name in names:
        people.join(name, name, name)
    people.changes()
    return people


def changes(people: People) -> Presence:
    told = people.changes()
    assert told is not None
    return told


# Coming and going


def test_who_comes_is_told_once() -> None:
    """The first socket of a person is news, and only until it was told."""
    people = People()
    ann = people.join("a", "Ann", Socket())
    assert ann == people.get("a") == Person("a", "Ann")
    assert changes(people) == Presence(1, joined=[ann])
    assert people.changes() is None


def test_who_leaves_is_told_by_id() -> None:
    """With his last socket a person is gone."""
    people = room_of("ann", "bob")
    assert people.leave("ann", "ann")
    assert changes(people) == Presence(1, left=["ann"])
    assert len(people) == 1


def test_several_sockets_are_one_person() -> None:
    """Tabs share a name and a presence; only the last to close is a farewell."""
    people = room_of("ann")
    first, second = Socket(), Socket()
    assert people.join("ann", "Other", first).name == people.join("ann", "Third", second).name == "ann"
    assert len(people) == 1
    assert set(people.sockets("ann")) == {"ann", first, second}
    assert [people.leave("ann", socket) for socket in (first, "ann")] == [False, False]
    assert people.changes() is None
    assert people.leave("ann", second)
    assert changes(people) == Presence(0, left=["ann"])


@pytest.mark.parametrize(("id", "socket"), [("nobody", "ann"), ("ann", "stranger")])
def test_a_socket_that_is_not_here_leaves_nothing(id: str, socket: Any) -> None:
    """Leaving twice, or before having come in, changes nothing."""
    people = room_of("ann")
    assert not people.leave(id, socket)
    assert people.changes() is None
    assert len(people) == 1


def test_what_came_and_went_in_between_is_netted() -> None:
    """The room hears the difference, not the way to it."""
    people = room_of("ann", "bob")
    people.join("visitor", "Visitor", 1)
    people.leave("visitor", 1)
    people.leave("ann", "ann")
    people.join("ann", "ann", 2)
    assert people.changes() is None
    people.leave("bob", "bob")
    people.join("bob", "Robert", 3)
    people.leave("ann", 2)
    people.join("cleo", "Cleo", 4)
    told = changes(people)
    assert told == Presence(2, joined=[Person("cleo", "Cleo")], left=["ann"], renamed=[Person("bob", "Robert")])


def test_a_rename_there_and_back_is_no_news() -> None:
    """Renames are netted, too; who joined meanwhile is told under his newest name."""
    people = room_of("ann")
    people.rename("ann", "Anna")
    people.rename("ann", "ann")
    assert people.changes() is None
    people.rename("ann", "Anna")
    people.join("bob", "Bob", 1)
    people.rename("bob", "Robert")
    assert changes(people) == Presence(2, joined=[Person("bob", "Robert")], renamed=[Person("ann", "Anna")])


@pytest.mark.parametrize("size", [3, CROWD + 50])
def test_who_came_in_between_hears_of_who_was_there_then(size: int) -> None:
    """He was told another number than the others, who have nothing to hear: as many went as came."""
    people = room_of(*(f"name{number}" for number in range(size)))
    people.join("new", "New", "socket")
    assert people.count_for("new") == size + 1
    people.leave("name0", "name0")
    told = changes(people)
    assert told.present == size
    assert told.left == ([] if size > CROWD else ["name0"])


def test_who_was_told_of_somebody_hears_that_they_are_fewer() -> None:
    """Who came and went is no news to the others; whoever was told of him can ask."""
    people = room_of("ann", "bob")
    people.join("short", "Short", "socket")
    people.count_for("ann")
    people.leave("short", "socket")
    assert changes(people) == Presence(2)
    assert people.changes() is None


def test_who_is_told_out_of_turn_and_goes_leaves_no_trace() -> None:
    """As whoever came and went in between; and who is told when all know the same has nothing to hear later."""
    people = room_of("ann")
    people.count_for("ann")
    people.join("short", "Short", "socket")
    people.count_for("short")
    people.leave("short", "socket")
    assert people.changes() is None


# Names


def test_the_later_one_of_a_name_gets_a_number() -> None:
    """Counting from 2, for what looks alike as for what is the same."""
    people = People()
    wishes = ["Ann", "Ann", "ann", "Аnn", "Bob", "Ann"]
    names = [people.join(str(number), wish, number).name for number, wish in enumerate(wishes)]
    assert names[0] == "Ann"
    assert names[1] == "Ann 2"
    assert names[4] == "Bob"
    assert [name.rpartition(" ")[0] for name in names[2:4]] == ["ann", "Аnn"]
    assert not any(
        lookalike_keys(name) & lookalike_keys(other) for place, name in enumerate(names) for other in names[:place]
    )


@pytest.mark.parametrize(
    "wish", ["n" * 32, "n" * 31, "中" * 32, "\U0001f600" * 32, "a" * 24 + " " + "b" * 7], ids=lambda wish: wish[-1]
)
def test_a_numbered_name_still_fits(wish: str) -> None:
    """Of a long name the end makes room: never more than 32 code points, no space doubled."""
    people = People()
    names = [people.join(str(number), wish, number).name for number in range(1200)]
    assert len(set(names)) == 1200
    assert names[0] == wish
    assert all(len(name) <= 32 and "  " not in name for name in names)
    assert all(name.startswith(wish[:20]) for name in names)


def test_a_number_that_somebody_wished_for_is_passed_over() -> None:
    """`Ann 2` may be a name of its own."""
    people = room_of("Ann", "Ann 2", "ann 3")
    assert people.join("x", "Ann", 1).name == "Ann 4"


def test_a_name_is_free_again_when_its_person_is_gone() -> None:
    """Not with his first socket, but with his last; the same after a rename."""
    people = room_of("Ann")
    people.join("Ann", "", "second")
    people.leave("Ann", "second")
    assert people.join("x", "Ann", 1).name != "Ann"
    people.leave("Ann", "Ann")
    assert people.rename("x", "ANN").name == "ANN"
    people.rename("x", "Zoe")
    assert people.join("y", "Ann", 2).name == "Ann"


def test_a_person_may_keep_or_respell_his_own_name() -> None:
    """One does not stand in one's own way."""
    people = room_of("Ann")
    assert [people.rename("Ann", wish).name for wish in ("Ann", "ann", "Аnn")] == ["Ann", "ann", "Аnn"]
    assert changes(people).renamed == [Person("Ann", "Аnn")]


def test_a_rename_to_a_taken_name_is_numbered() -> None:
    """As at the door; the old name is free."""
    people = room_of("Ann", "Bob")
    assert people.rename("Bob", "ann").name == "ann 2"
    assert people.join("x", "Bob", 1).name == "Bob"


def test_a_name_that_looks_like_two_others_is_taken_by_either() -> None:
    """`Iris` looks like `iris` and like `lris`, which may both be here."""
    people = room_of("iris", "lris")
    assert people.join("x", "Iris", 1).name == "Iris 2"
    people.leave("iris", "iris")
    assert people.join("y", "Iris", 2).name == "Iris 3"
    people.leave("x", 1)
    people.leave("y", 2)
    people.leave("lris", "lris")
    assert people.join("z", "Iris", 3).name == "Iris"


def test_ten_thousand_people_of_one_name_all_get_one() -> None:
    """A class of guests costs no search through all its numbers."""
    people = People()
    lookups = lookalike_keys.cache_info().misses + lookalike_keys.cache_info().hits
    names = {people.join(str(number), "Guest", number).name for number in range(10_000)}
    assert len(names) == 10_000
    info = lookalike_keys.cache_info()
    assert info.misses + info.hits - lookups < 10 * 10_000
    assert people.page("", 0, 1)[0] == len(changes(people).joined) + 10_000


def test_another_spelling_among_many_namesakes_costs_no_search() -> None:
    """Whoever renames himself to ever new look-alikes of a common name does not stop the loop for it."""
    people = People()
    for number in range(300):
        people.join(str(number), "Moo", number)
    lookups = lookalike_keys.cache_info().misses + lookalike_keys.cache_info().hits
    spellings = [m + o + other for m in "MМ" for o in "oоο" for other in "oоο"]
    names = {people.rename("299", spelling).name for spelling in spellings}
    assert len(names) == len(spellings)
    info = lookalike_keys.cache_info()
    assert info.misses + info.hits - lookups < 20 * len(spellings)


# Crowds


def test_above_100_people_only_the_count_is_told() -> None:
    """From 101 on there are no lists; below 80 there are again."""
    people = room_of(*(f"person {number}" for number in range(CROWD - 1)))
    people.join("hundredth", "Hundredth", 1)
    assert (changes(people).joined, people.is_crowd) == ([Person("hundredth", "Hundredth")], False)
    people.join("next", "Next", 1)
    assert changes(people) == Presence(101)
    assert people.is_crowd
    people.rename("next", "Other")
    assert people.changes() is None
    people.leave("next", 1)
    people.join("new", "New", 1)
    assert people.changes() is None
    for number in range(21):
        people.leave(f"person {number}", f"person {number}")
    assert changes(people) == Presence(80)
    assert people.is_crowd
    people.leave("new", 1)
    assert changes(people) == Presence(79)
    assert not people.is_crowd
    people.leave("hundredth", 1)
    assert changes(people) == Presence(78, left=["hundredth"])


def test_a_crowd_that_comes_at_once_is_told_as_a_count() -> None:
    """A join storm is one small frame."""
    people = People()
    for number in range(1000):
        people.join(str(number), f"person {number}", number)
    assert changes(people) == Presence(1000)


# Asking


def test_people_are_listed_by_name() -> None:
    """In the order of their folded names, in pages, with the number of all."""
    people = room_of("bob", "Ann", "Zoe", "ann lee", "Cleo")
    total, everybody = people.page("", 0, 100)
    assert (total, [person.name for person in everybody]) == (5, ["Ann", "ann lee", "bob", "Cleo", "Zoe"])
    pages = [people.page("", offset, 2) for offset in (0, 2, 4, 6)]
    assert [person for _, page in pages for person in page] == everybody
    assert {total for total, _ in pages} == {5}


@pytest.mark.parametrize(
    ("query", "found"),
    [("ann", ["Ann", "Joanna"]), ("ANN", ["Ann", "Joanna"]), ("strasse", ["Straße"]), ("x", []), (" ", [])],
)
def test_people_are_found_by_any_part_of_their_names(query: str, found: list[str]) -> None:
    """Case does not matter; the total counts who was found."""
    people = room_of("Joanna", "Ann", "Straße", "Bob")
    total, page = people.page(query, 0, 100)
    assert (total, [person.name for person in page]) == (len(found), found)
    assert people.page(query, len(found), 100) == (len(found), [])


def test_the_list_follows_renames_and_farewells() -> None:
    """Who left is not found, who is renamed is found under his new name."""
    people = room_of("Ann", "Bob", "Cleo")
    people.rename("Ann", "Zoe")
    people.leave("Bob", "Bob")
    assert people.page("", 0, 100) == (2, [Person("Cleo", "Cleo"), Person("Ann", "Zoe")])
    assert people.page("ann", 0, 100) == (0, [])


def test_an_empty_room_has_nobody() -> None:
    """Nothing to list and nothing to tell."""
    people = People()
    assert (len(people), people.page("", 0, 100), people.changes()) == (0, (0, []), None)
