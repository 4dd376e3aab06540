"""`python -m loadtest COMMAND`: the harness against a server of its own, against rivals, against itself."""

import importlib
import sys
from typing import Final

COMMANDS: Final = {
    "run": ("own", "a chat room of its own on a free port, and one run against it; locust's options pass through"),
    "rivals": ("rivals", "the same plan against this chat room and other servers, in turns, and the table of ratios"),
    "raid": ("raid", "a raid on a chat room of its own, and what its owner does about it: is every promise kept"),
    "compare": ("compare", "lay the results of runs over each other: folders A and B"),
    "selftest": ("selftest", "what the generator can do on this machine, and how quiet the machine is"),
    "performance": ("performance", "the table: a swarm in C on this chat room and its rivals, and what is kept"),
    "agree": ("agree", "a second generator, in C, in the same room: do both measure the same"),
}


def main(argv: list[str]) -> int:
    """Carry out one command; return the exit code."""
    if sys.platform != "linux":
        print("The load harness needs Linux: epoll, timerfd and the kernel's receive times.", file=sys.stderr)
        return 2
    if not argv or argv[0] not in COMMANDS:
        print("python -m loadtest COMMAND [--help]\n")
        print("\n".join(f"  {name:11} {what}" for name, (_, what) in COMMANDS.items()))
        return 0 if argv in (["-h"], ["--help"]) else 2
    module = importlib.import_module(f"loadtest.{COMMANDS[argv[0]][0]}")
    return int(module.main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
