"""What `make audit` makes of the answer of the advisory database."""

import json

import pytest

from tests.audit import verdict

FINE = {"name": "tornado", "version": "6.6.1", "vulns": []}
BAD = {"name": "segno", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNASKED = {"name": "msgspec", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([FINE], 0, "Nothing is known against any of 1 packages."),
        ([FINE, BAD, UNASKED], 1, "segno 1.0: PYSEC-1, mended in 1.1"),
        ([FINE, UNASKED], 2, "The advisory database could not be asked about 1 of 2 packages."),
        ([], 2, "The advisory database could not be asked about 0 of 0 packages."),
    ],
)
def test_an_audit_says_what_is_known_and_what_was_not_asked(packages: list[object], status: int, words: str) -> None:
    """A package that nobody was asked about is not one against which nothing is known."""
    assert verdict(json.dumps({"dependencies": packages, "fixes": []})) == (status, words)


@pytest.mark.parametrize("report", ["", "Traceback (most recent call last)"])
def test_an_audit_without_an_answer_is_none(report: str) -> None:
    """As without a network."""
    assert verdict(report)[0] == 2
