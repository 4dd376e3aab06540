"""What a server must survive: each fault a few times in `make test`, and often in `make faults`.

How often is one number a fault, from the environment. A test that went through says what came of it in one line.
"""

import os

REPORT = os.environ.get("FAULTS_REPORT", "")


def times(fault: str, at_least: int) -> int:
    """How often a fault is tried: `CHATROOM_KILLS` and the like say more."""
    return int(os.environ.get(f"CHATROOM_{fault}", at_least))


def report(line: str) -> None:
    """Print what came of a fault, and add it to the file that `FAULTS_REPORT` names."""
    print(f"\n{line}")
    if REPORT:
        with open(REPORT, "a") as file:
            file.write(f"{line}\n")
