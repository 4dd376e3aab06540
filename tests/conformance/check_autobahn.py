"""`make conformance`: Autobahn|Testsuite, cases 1 to 7 and 10, against the chat's own base class of sockets."""

import pytest

from tests.conformance import autobahn


def test_autobahn_finds_no_failure() -> None:
    """None of 247 cases fails; what is not strict or only noted is named."""
    if not (python := autobahn.python2()):
        pytest.skip("Autobahn|Testsuite needs Python 2.7, and there is none here: pyenv install 2.7.18 brings it")
    autobahn.fetch(python)
    with autobahn.serving() as port:
        verdict = autobahn.judge(port)
    print(f"\nAutobahn|Testsuite {autobahn.SUITE.partition('==')[2]}\n{verdict}\n{autobahn.REPORT}/index.html")
    assert sum(map(len, verdict.behaviour.values())) == 247
    assert set(verdict.behaviour) <= {"OK", "NON-STRICT", "INFORMATIONAL"}
    assert set(verdict.closing) <= {"OK", "INFORMATIONAL"}
