"""A person is taken out of what is stored as JSON, whatever engine stores it.

Pure. Invariant: only he loses anything: his name, his announcements, his reactions, the reasons given for or by him;
his id stays, which says nothing about anybody.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from chat.eventlog import Entries
from chat.protocol import encode


class Erased(NamedTuple):
    """A room in which somebody was found, and how many of his messages and edits went."""

    room: str
    n: int


def entries_without(entries: Mapping[str, bytes], person: str) -> Entries:
    """What changes in an order: his standing goes, unless it bans him; in the rest he loses his name."""
    changed: dict[str, bytes | None] = {}
    for key, body in entries.items():
        kept = _ban_alone(body) if key == f"person:{person}" else without(body, person)
        if key.startswith("address:") and kept and kept != body:
            kept = _without_reason(kept)
        if kept != body:
            changed[key] = kept
    return changed


def act_without(body: bytes, person: str) -> bytes:
    """A line of the moderators' log that is by him or about him."""
    return _without_reason(without(body, person))


def _ban_alone(standing: bytes) -> bytes | None:
    """What is left of a standing: that he is banned, and until when."""
    until = msgspec.json.decode(standing).get("banned_until")
    return encode({"banned_until": until}) if until else None


def _without_reason(body: bytes) -> bytes:
    value = msgspec.json.decode(body)
    value.pop("reason", None)
    return encode(value)


def without(body: bytes, person: str) -> bytes:
    """The same JSON in which a person has no name and announces nothing, and is not listed where reactions are."""
    value = msgspec.json.decode(body)
    for each in list(_objects(value)):
        if isinstance(said := each.get("announcement"), dict) and said["by"]["id"] == person:
            del each["announcement"]
        if isinstance(reactions := each.get("reactions"), list):
            each["reactions"] = [left for reaction in reactions if (left := _reaction_without(reaction, person))["n"]]
        if each.get("id") == person and "name" in each:
            each["name"] = ""
    return encode(value)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, itself included."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(part)


def _reaction_without(reaction: dict[str, Any], person: str) -> dict[str, Any]:
    others = [by for by in reaction["by"] if by["id"] != person]
    return {**reaction, "n": reaction["n"] - (len(reaction["by"]) - len(others)), "by": others}
