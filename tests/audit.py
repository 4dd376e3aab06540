"""`make audit`: asks PyPI's advisory database about every package that is installed for the server, load and tests.

Exit status: 0 nothing is known, 1 something is, 2 it could not be asked about all of them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".conformance" / "audit"
TOOL = "pip-audit==2.10.1"
ASK_S, FETCH_S = 300, 600


def fetch() -> None:
    """Install the tool into an environment of its own, unless it is there already."""
    done = VENV / "installed"
    if done.exists() and done.read_text() == TOOL:
        return
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True, timeout=FETCH_S)
    pip = [VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, TOOL], check=True, timeout=FETCH_S)
    done.write_text(TOOL)


def installed() -> str:
    """Every package of this environment as `name==version`: what the three requirements files brought."""
    freeze = [sys.executable, "-m", "pip", "freeze", "--disable-pip-version-check"]
    return subprocess.run(freeze, check=True, capture_output=True, text=True, timeout=ASK_S).stdout


def asked(packages: str) -> subprocess.CompletedProcess[str]:
    """What the tool has to say about them."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(packages)
        file.flush()
        tool = [VENV / "bin" / "pip-audit", "--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off"]
        command = [*tool, "-r", file.name]
        return subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)


def verdict(report: str) -> tuple[int, str]:
    """The exit status and what to say, by the tool's JSON; "" if it wrote none."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except ValueError:
        return 2, "The advisory database could not be asked: is there a way to the network?"
    found = [
        f"{each['name']} {each['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version'}"
        for each in packages
        for fault in each.get("vulns", [])
    ]
    # The tool itself calls it "no known vulnerabilities" if the index knows none of the packages, as a mirror may not.
    unasked = [each["name"] for each in packages if "skip_reason" in each]
    if found:
        return 1, "\n".join(found)
    if unasked or not packages:
        return 2, f"The advisory database could not be asked about {len(unasked)} of {len(packages)} packages."
    return 0, f"Nothing is known against any of {len(packages)} packages."


def main() -> int:
    """Ask and say."""
    try:
        fetch()
        answer = asked(installed())
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        print(f"{TOOL} could not be run: {error}")
        return 2
    status, words = verdict(answer.stdout)
    print(words)
    return status


if __name__ == "__main__":
    sys.exit(main())
