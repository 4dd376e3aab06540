"""What the command line can ask for instead of a server: the operator's link, and the erasure of a person.

Owns what these print. Invariant: a command is done, or refused with one sentence, and no server starts.
"""

from chat.eventlog import erasing, expunging
from chat.settings import Settings
from chat.starting import admin_link


def run_command(settings: Settings) -> bool:
    """Whether there was a command, which is done now; raises BadOption and LogRefused."""
    if settings.admin_link:
        print(_introduced(admin_link(settings)))
    elif settings.erase:
        print(_erased(settings))
    else:
        return False
    return True


def _introduced(link: str) -> str:
    return (
        "Open this link within ten minutes, once, in the browser that is to be the operator's. Where the server\n"
        "is reached under another address, put that in the place of this one.\n\n"
        f"  {link}\n"
    )


def _erased(settings: Settings) -> str:
    person = settings.erase
    found = expunging.erase(settings.redis, person) if settings.redis else erasing.erase(settings.database, person)
    lines = [f"{room}: {count} removed" for room, count in found]
    kept_in = "that Redis" if settings.redis else settings.database
    return "\n".join(lines) if lines else f"Nothing of {person} is kept in {kept_in}."
