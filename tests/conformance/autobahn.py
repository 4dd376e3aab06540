"""Autobahn|Testsuite: a Python 2.7 that can run it is looked for, it is fetched, run, and its verdict is read.

Owns `.conformance/`, where what was fetched and the last report lie, and which may be deleted at any time.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".conformance"
REPORT = FOLDER / "report"
VENV = FOLDER / "python2.7"
INSTALLED = VENV / "installed"
VIRTUALENV, SUITE = "virtualenv==20.15.1", "autobahntestsuite==25.10.1"  # the last ones for Python 2.7
CASES = [*(f"{section}.*" for section in range(1, 8)), "10.*"]  # 9: speed; 12 and 13: compression, which we refuse
RUN_S, FETCH_S = 300, 900


class Verdict(NamedTuple):
    """What the suite made of a server: the cases, by how they ended."""

    behaviour: dict[str, list[str]]
    closing: dict[str, list[str]]

    def __str__(self) -> str:
        return f"behaviour: {_counted(self.behaviour)}\nclosing:   {_counted(self.closing)}"


def _counted(cases: dict[str, list[str]]) -> str:
    counts = Counter({how: len(names) for how, names in cases.items()})
    named = {how: names for how, names in sorted(cases.items()) if how != "OK"}
    return ", ".join(
        [f"{counts['OK']} OK", *(f"{len(names)} {how} ({', '.join(names)})" for how, names in named.items())]
    )


def python2() -> str:
    """The Python 2.7 of this machine; "" if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python2.7"), shutil.which("python2"), *pyenv.glob("versions/2.7*/bin/python")]
    return next((str(found) for found in candidates if found and _runs(str(found))), "")


def _runs(python: str) -> bool:
    # pyenv puts programs on the path that only say that they are not chosen.
    is_it = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    return subprocess.run([python, "-c", is_it], capture_output=True, check=False).returncode == 0


def fetch(python: str) -> None:
    """Install the suite into a virtualenv of its own, unless it is there already."""
    if INSTALLED.exists() and INSTALLED.read_text() == SUITE:
        return
    tools = FOLDER / "tools"
    shutil.rmtree(VENV, ignore_errors=True)
    _run([python, "-m", "pip", "install", "--quiet", f"--target={tools}", "--upgrade", VIRTUALENV])
    _run([python, "-m", "virtualenv", "--quiet", "--no-periodic-update", str(VENV)], PYTHONPATH=str(tools))
    _run([str(VENV / "bin" / "pip"), "install", "--quiet", SUITE])
    INSTALLED.write_text(SUITE)


def _run(command: list[str], **environment: str) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=FETCH_S,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")


def judge(port: int, cases: list[str] = CASES) -> Verdict:
    """Have the suite talk with a server on this machine."""
    shutil.rmtree(REPORT, ignore_errors=True)
    REPORT.mkdir(parents=True)
    spec = REPORT / "spec.json"
    servers = [{"agent": "chatroom", "url": f"ws://127.0.0.1:{port}", "options": {"version": 18}}]
    spec.write_text(
        json.dumps({"outdir": str(REPORT), "servers": servers, "cases": cases, "exclude-cases": []}),
    )
    done = subprocess.run(
        [str(VENV / "bin" / "wstest"), "-m", "fuzzingclient", "-s", str(spec)],
        cwd=REPORT,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )
    if not (index := REPORT / "index.json").exists():
        raise RuntimeError(f"the suite did not finish:\n{done.stdout}\n{done.stderr}")
    results = json.loads(index.read_text())["chatroom"]
    return Verdict(_by(results, "behavior"), _by(results, "behaviorClose"))


def _by(results: dict[str, Any], aspect: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case in sorted(results, key=_in_order):
        found.setdefault(results[case][aspect], []).append(case)
    return found


def _in_order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


@contextmanager
def serving(module: str = "tests.conformance.echo_server") -> Iterator[int]:
    """The echo server in a process of its own; yields its port."""
    with subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
