"""The promises: what must be true of a raid, and whether it was.

Pure. Owns the figures of a raid, what each promise says and the limit it is judged by. Invariant: a promise that cannot
be judged, because something it speaks of never came, is broken.
"""

import json
import math
from collections import Counter
from functools import lru_cache
from typing import Final, NamedTuple

from loadtest.adapters.chatroom import EVENT
from loadtest.hall import PRESENCE, Chunk, Person
from loadtest.picture import Event, Picture, event_of
from loadtest.play import ERASED_S, MARK, PHASES, WORD, Act, Outcome
from loadtest.tally import Figures


class Promise(NamedTuple):
    """Something that must be true, and what was seen of it."""

    text: str
    is_kept: bool
    seen: str


@lru_cache(1 << 16)
def events_of(chunk: Chunk) -> list[Event]:
    """Return the events in a chunk, read once for all who had it."""
    return [event_of(text) for text in chunk.texts if EVENT.match(text)]


class Report:
    """What one person was told."""

    def __init__(self, person: Person) -> None:
        self.at_ns: dict[int, int] = {}  # when he had each event
        self.events: list[Event] = []
        self.picture = Picture()
        for at_ns, chunk in person.heard:
            for event in events_of(chunk):
                self.at_ns[event.seq] = at_ns
                self.events.append(event)
                self.picture.hear(event)

    def messages(self) -> list[Event]:
        """Return what was said, as it was said."""
        return [event for event in self.events if event.type == "message"]


# What was seen


def measured(outcome: Outcome) -> Figures:
    """Return the figures of a raid."""
    reports = [Report(member) for member in outcome.members]
    return {
        "members": len(reports),
        "raiders": len(outcome.raiders),
        "purged_messages": outcome.script.said,
        **_of_raiders(outcome, reports),
        **_of_acts(outcome, reports),
        **_of_put_out(outcome),
        **_of_ordinary(outcome, reports),
        **_of_the_purge(outcome),
        **_of_what_is_left(outcome, reports),
        **{f"held_{name.replace(' ', '_')}_ms": outcome.held_ns.get(name, math.nan) / 1e6 for name in PHASES},
        "held_ms": max(outcome.held_ns.values(), default=math.inf) / 1e6,
        "waited_share": outcome.waited,
    }


def _of_raiders(outcome: Outcome, reports: list[Report]) -> Figures:
    press = _button(outcome)
    shown: dict[int, int] = {}  # when the first member had each message of a raider
    filtered = set()
    for report in reports:
        for event in report.messages():
            if event.by and event.by.id in outcome.raiders:
                shown[event.seq] = min(shown.get(event.seq, report.at_ns[event.seq]), report.at_ns[event.seq])
            if WORD in event.text:
                filtered.add(event.seq)
    return {
        "raid_said": len(outcome.raided),
        "raid_shown": len(shown),
        "raid_shown_after_press": sum(seq < press.seq and at_ns > press.sent_ns for seq, at_ns in shown.items()),
        "raid_shown_after_button": sum(seq > press.seq for seq in shown),
        "filtered_shown": len(filtered),
    }


def _button(outcome: Outcome) -> Act:
    return next(act for act in outcome.acts if act.name == "the button")


def _of_acts(outcome: Outcome, reports: list[Report]) -> Figures:
    """How long until the last member had each act, the slowest of a kind."""
    figures: Figures = {}
    for act in outcome.acts:
        if act.seq:
            key = f"{act.name.replace(' ', '_')}_last_member_ms"
            last_ns = max(report.at_ns.get(act.seq, math.inf) for report in reports)
            figures[key] = max(figures.get(key, 0.0), (last_ns - act.sent_ns) / 1e6)
    figures["act_last_member_ms"] = max(figures.values(), default=math.inf)
    return figures


def _of_put_out(outcome: Outcome) -> Figures:
    took_ms = [
        (person.ended_ns - act.sent_ns) / 1e6 if person.ended_ns else math.inf for act, person in outcome.put_out
    ]
    return {
        "put_out": len(took_ms),
        "closed_last_ms": max(took_ms, default=math.inf),
        "closed_untold": sum(one.close_code != 1008 or one.out.get("why") != "ban" for _, one in outcome.put_out),
        "came_back": len(outcome.came_back),
        "newcomers_spoke": int(outcome.newcomer_heard == "ack"),
    }


def _of_ordinary(outcome: Outcome, reports: list[Report]) -> Figures:
    acked = {text: answer["seq"] for text, answer in outcome.ordinary if answer.get("type") == "ack"}
    missing = doubled = 0
    for report in reports:
        times = Counter(event.text for event in report.messages())
        missing += sum(not times[text] for text in acked)
        doubled += sum(max(0, times[text] - 1) for text in acked)
    return {
        "ordinary_said": len(outcome.ordinary),
        "ordinary_after_button": sum(seq > _button(outcome).seq for seq in acked.values()),
        "ordinary_refused": len(outcome.ordinary) - len(acked),
        "ordinary_missing": missing,
        "ordinary_doubled": doubled,
        "out_of_order": sum(report.picture.out_of_order for report in reports),
    }


def _of_the_purge(outcome: Outcome) -> Figures:
    """What each member was told between two words of the owner, in a quiet room, when very much was purged."""
    purges, others, sizes = [], 0, {0}
    for member, (since, until) in zip(outcome.members, outcome.quiet, strict=False):
        texts = [text for heard in member.heard[since:until] for text in heard.chunk.texts]
        found = [text for text in texts if text.startswith(b'{"type":"purge"')]
        purges.append(len(found))
        others += sum(not text.startswith(PRESENCE) for text in texts) - len(found) - 1
        sizes.update(map(len, found))
    return {
        "purge_frames_fewest": min(purges, default=0),
        "purge_frames_most": max(purges, default=0),
        "purge_frames_besides": others,
        "purge_frame_bytes": max(sizes),
    }


def _of_what_is_left(outcome: Outcome, reports: list[Report]) -> Figures:
    def was_purged(text: str) -> bool:
        return any(int(number) in outcome.purged for number in MARK.findall(text))

    left = [said.text for report in reports for said in report.picture.messages.values()]
    late = [text.decode() for person in outcome.late for _, text in person.texts()]
    return {
        "purged_in_pictures": sum(map(was_purged, left)),
        "purged_told_to_late": sum(map(was_purged, late)),
        "purged_in_pages": sum(map(was_purged, outcome.pages)),
        "told_to_late": len(late),
        "events_in_pages": sum(len(json.loads(body)["events"]) for body in outcome.pages),
        "erased_s": outcome.erased_s,
    }


def notes(outcome: Outcome) -> list[str]:
    """Say what explains a figure: why people were kept from speaking, and whether the machine was disturbed."""
    codes = Counter(answer.get("code", "no answer") for _, answer in outcome.ordinary if answer.get("type") != "ack")
    told = [f"{count} were kept from speaking by `{code}`." for code, count in codes.most_common()]
    if outcome.waited > WAITED:
        share = f"{outcome.waited:.0%}"
        told.append(
            f"Others used this machine: for {share} of the time the server had no core. Do not quote its times."
        )
    return told


# Whether it was as promised

NEVER: Final = {
    "raid_shown_after_button": "Nothing that raiders say is shown once the room has heard of the button",
    "filtered_shown": "Nothing that the filter refuses is shown",
    "newcomers_spoke": "Nobody who comes during the raid can speak",
    "ordinary_refused": "Nobody who was here before it is kept from speaking",
    "ordinary_missing": "Everything they say reaches every member",
    "ordinary_doubled": "It reaches him once",
    "out_of_order": "Every member hears every event, in order",
    "closed_untold": "Whoever is put out is told so, and his socket closed with 1008",
    "came_back": "Nobody who is banned comes in again, nor anybody new from a banned address",
    "purged_in_pictures": "No member is left with anything that was purged",
    "purged_told_to_late": "Nobody who comes later, or comes back, is told any of it",
    "purged_in_pages": "No page of history has any of it",
}
WITHIN: Final = {
    "act_last_member_ms": "Every act is heard by the last of the members within {:,.0f} ms",
    "closed_last_ms": "The sockets of all who are put out are closed within {:,.0f} ms",
    "held_ms": "The server's loop is never held for longer than {:,.0f} ms",
    "erased_s": "Nothing that was purged is in the server's files after {:,.0f} s",
}
WAITED: Final = 0.1  # more is not its own threads any more, and times say more of the machine than of the server
NEEDED: Final = ("raid_shown", "ordinary_after_button", "put_out", "told_to_late", "events_in_pages")


def judged(figures: Figures, within_ms: float, held_ms: float) -> list[Promise]:
    """Return all promises, by these limits."""
    limits = {"act_last_member_ms": within_ms, "closed_last_ms": within_ms, "held_ms": held_ms, "erased_s": ERASED_S}
    frames = [figures[f"purge_frames_{name}"] for name in ("fewest", "most", "besides")]
    lacking = [name for name in NEEDED if not figures[name]]
    return [
        Promise("There was a raid, and all of it can be judged", not lacking, ", ".join(lacking) or "yes"),
        *(Promise(text, not figures[key], f"{figures[key]:,.0f}") for key, text in NEVER.items()),
        Promise("A purge is one frame for each member, and nothing besides", frames == [1, 1, 0], f"{frames}"),
        *(
            Promise(text.format(limits[key]), figures[key] <= limits[key], f"{figures[key]:,.3g}")
            for key, text in WITHIN.items()
        ),
    ]
