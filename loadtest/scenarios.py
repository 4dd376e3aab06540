"""The scenarios: a name for each question that is asked of a chat room, and the plan that answers it.

Owns the defaults of every option; an option that is given outranks its scenario's. It knows no socket and no locust.
"""

from typing import Any, Final

STEADY: Final[dict[str, Any]] = {
    "members": 500,
    "rooms": 1,
    "senders": 8,
    "rate": 20.0,
    "arrivals": "constant",
    "text_bytes": 100,
    "warmup": 2.0,
    "duration": 20.0,
    "drain": 10.0,
    "churn": 0.0,
    "stuck": 0,
    "slo": "missing==0",
}

SCENARIOS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "steady": ("how late messages are at a steady rate: 500 members, 20 messages/s", {}),
    "crowd": ("a full hall: 10,000 members, 1 message/s", {"members": 10_000, "rate": 1.0, "duration": 30.0}),
    "storm": (
        "everybody is cut off at once and comes back: how long until 99 % are resumed without a hole",
        {"members": 1000, "duration": 30.0, "drain": 20.0},
    ),
    "slow": (
        "ten members never read: do the others notice, and are the ten cut off",
        {"stuck": 10, "text_bytes": 4000, "duration": 30.0},
    ),
    "churn": ("members come and go, twenty a second, while messages flow", {"churn": 20.0}),
    "capacity": (
        "climbs by a quarter until the goal or the generator fails, and says which",
        {"members": 200, "rate": 20.0, "slo": "p99<100ms,missing==0", "duration": 6.0},
    ),
    "flood": (
        "as fast as it goes: 64 messages under way, the next when everybody has one; says how many, not how late",
        {"arrivals": "inflight:64", "duration": 10.0},
    ),
    "rooms": (
        "1,000 rooms of 3 members, everybody speaks",
        {"members": 3000, "rooms": 1000, "senders": 3, "rate": 300.0},
    ),
}


def defaults(scenario: str) -> dict[str, Any]:
    """Return every option's value in a scenario.

    Raises ValueError for a name that there is not.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"--scenario={scenario}: there are {', '.join(SCENARIOS)}")
    return {**STEADY, **SCENARIOS[scenario][1]}
