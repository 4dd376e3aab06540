"""A raid on a chat room of its own: `python -m loadtest raid`, and what became of every promise.

Owns the server's processes for the time of the raid, the options, and the report. The room's past is made by a server
whose clock is eleven minutes slow, so that the raid itself is played against one that is as it is for everybody.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtest import machine, promises
from loadtest.hall import Hall, Stuck
from loadtest.handshake import Refused
from loadtest.machine import Cores
from loadtest.peers import Serving, end, started
from loadtest.play import ROOM, Outcome, Play, Script, yesterday
from loadtest.promises import Promise
from loadtest.result import FILE_NAME, FORMAT, save_result
from loadtest.tally import Figures

KEPT, BROKEN = 0, 1
SLOW_CLOCK: Final = "import time; now_ns = time.time_ns; time.time_ns = lambda: now_ns() - 660 * 10**9"
OPEN_FILES_BESIDES: Final = 500


def main(argv: Sequence[str]) -> int:
    """Play a raid; return 0 if every promise was kept, 1 if one was broken."""
    options = read_options(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with us
    machine.allow_open_files(options.members + options.raiders + OPEN_FILES_BESIDES)  # the server inherits it
    cores = Cores.split()
    cores.take_load()
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        outcome = played(script_of(options), cores)
    except (Stuck, Refused, RuntimeError) as error:
        print(f"BROKEN: the raid could not be played to its end: {error}.")
        return BROKEN
    figures = promises.measured(outcome)
    found = promises.judged(figures, options.within_ms, options.held_ms)
    text = report(figures, found, promises.notes(outcome))
    print(text)
    out = Path(options.out or f"results/{began.replace(':', '')}-raid")
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.txt").write_text(text + "\n", encoding="utf-8")
    result = result_of(options, figures, found)
    save_result({**result, "started_at": began, "command": ["raid", *argv]}, out / FILE_NAME)
    print(f"\nResult: {out / FILE_NAME}")
    return int(result["verdict"]["exit_code"])


def read_options(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; what cannot be ends with status 2."""
    parser = argparse.ArgumentParser(prog="python -m loadtest raid", description=__doc__)
    for name, default, what in (
        ("members", 500, "ordinary members, who were there before"),
        ("raiders", 50, "who flood the room, all from one address"),
        ("banned", 10, "how many of them are banned one by one, before their address is"),
        ("said", 10_000, "messages of one person, which are purged at once"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} (default: {default})")
    for name, figure, what in (
        ("flood-rate", 300.0, "messages a second of all raiders"),
        ("flood", 5.0, "seconds until the owner presses the button"),
        ("rate", 10.0, "messages a second of the ordinary members, each in his turn"),
        ("within-ms", 1000.0, "how soon everybody must have heard of an act, and sockets be closed"),
        ("held-ms", 100.0, "how long the server's loop may be held"),
    ):
        parser.add_argument(f"--{name}", type=float, default=figure, help=f"{what} (default: {figure:g})")
    parser.add_argument("--out", default="", help="folder for result.json and report.txt")
    options = parser.parse_args(argv)
    if not 0 < options.banned < options.raiders or min(options.members, options.said) < 1:
        parser.error(
            "there are at least one member, one message, and two raiders, of whom not all are banned one by one"
        )
    return options


def script_of(options: argparse.Namespace) -> Script:
    """Return what is to be played."""
    return Script(
        members=options.members,
        raiders=options.raiders,
        banned=options.banned,
        flood_per_s=options.flood_rate,
        flood_s=options.flood,
        talk_per_s=options.rate,
        said=options.said,
    )


class Server(NamedTuple):
    """A server that runs: where it is reached, and its process."""

    base: str
    pid: int

    def waited_ns(self) -> int:
        """Return for how long its loop was ready and had no core, since others had them."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[1])


def played(script: Script, cores: Cores) -> Outcome:
    """Play the room's past and the raid; raises Stuck, Refused and RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="chatroom-raid-") as name:
        folder = Path(name)
        with chatroom(folder, cores, SLOW_CLOCK, "--message_rate=0") as server:
            past = yesterday(server.base, script)
        with chatroom(folder, cores) as server, Hall(server.base, ROOM) as hall:
            began_s, waited_ns = time.monotonic(), server.waited_ns()
            outcome = Play(hall, server.base, folder, script, past).run()
            outcome.waited = (server.waited_ns() - waited_ns) / 1e9 / (time.monotonic() - began_s)
            return outcome


@contextlib.contextmanager
def chatroom(folder: Path, cores: Cores, before: str = "", *options: str) -> Iterator[Server]:
    """The chat room, on this folder's database; `before` is what its process runs first."""
    program = f"{before}\nimport chatroom\nchatroom.main()"
    command = [sys.executable, "-c", program, "--port=0", f"--database={folder / 'room.db'}", *options]
    process = started(command, folder, cores)
    try:
        serving = Serving(process, folder)
        serving.await_port()
        yield Server(f"ws://127.0.0.1:{serving.port}", process.pid)
    finally:
        end(process, signal.SIGTERM, signal.SIGKILL)


# What is told of it


def report(figures: Figures, found: list[Promise], notes: Sequence[str] = ()) -> str:
    """Return what a raid came to, for people."""
    lines = [f"{'✓' if promise.is_kept else '✕'} {promise.text}: {promise.seen}" for promise in found]
    return "\n".join([headline(found), "", *TOLD.format_map(figures).splitlines(), "", *lines, *notes])


def headline(found: list[Promise]) -> str:
    """Return the verdict."""
    broken = sum(not promise.is_kept for promise in found)
    return f"BROKEN: {broken} of {len(found)} promises" if broken else f"KEPT: all {len(found)} promises"


TOLD: Final = """\
{members:,} members; {raiders:,} raiders said {raid_said:,} messages, and {raid_shown:,} of them were shown,
{raid_shown_after_press:,} after the button was pressed and {raid_shown_after_button:,} after the room had heard of it

the last of the members heard of
  the button             after {the_button_last_member_ms:7,.0f} ms
  a ban with a purge     after {ban_with_purge_last_member_ms:7,.0f} ms at most
  a ban by address       after {ban_by_address_last_member_ms:7,.0f} ms
  a purge of {purged_messages:<11,} after {the_purge_last_member_ms:7,.0f} ms, by {purge_frame_bytes:,} bytes
whoever was put out had his socket closed after {closed_last_ms:,.0f} ms at most
the server's loop was held at most
  {held_calm_ms:,.0f} ms while all was calm, {held_flood_ms:,.0f} ms in the flood, {held_the_button_ms:,.0f} ms at the \
button, {held_bans_ms:,.0f} ms at the bans, {held_the_purge_ms:,.0f} ms at the purge"""


def result_of(options: argparse.Namespace, figures: Figures, found: list[Promise]) -> dict[str, Any]:
    """Return what a raid came to, for programs."""
    is_kept = all(promise.is_kept for promise in found)
    return {
        "format": FORMAT,
        "scenario": "raid",
        "machine": machine.facts(),
        "options": vars(options),
        "verdict": {
            "headline": headline(found),
            "broken": [promise.text for promise in found if not promise.is_kept],
            "exit_code": KEPT if is_kept else BROKEN,
        },
        "figures": figures,
    }
