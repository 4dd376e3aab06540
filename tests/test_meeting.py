"""Whether a Redis can be used, and what is said of what it keeps."""

from pathlib import Path

import pytest

from chat.eventlog.meeting import Meeting
from tests.redis_server import running


@pytest.mark.parametrize(
    ("options", "durability", "warned"),
    [
        (["--appendfsync", "always"], "is on its disk", []),
        (["--appendfsync", "everysec"], "up to a second", []),
        (["--appendfsync", "no"], "last half minute", ["appendfsync everysec"]),
        (["--appendonly", "no"], "last snapshot", ["appendonly yes"]),
        (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "up to a second", ["noeviction"]),
        (["--maxmemory-policy", "allkeys-lru"], "up to a second", []),  # it is never full
        (["--rename-command", "CONFIG", "", "--appendonly", "no"], "up to whoever runs it", []),
    ],
)
def test_what_an_ack_survives_is_said(tmp_path: Path, options: list[str], durability: str, warned: list[str]) -> None:
    """In the greeting; and what should be set otherwise is warned of."""
    with running(tmp_path / "redis", *options) as redis:
        meeting = Meeting(redis.url)
    assert durability in meeting.durability
    assert [any(word in warning for warning in meeting.warnings) for word in warned] == [True] * len(warned)
    assert len(meeting.warnings) == len(warned)
