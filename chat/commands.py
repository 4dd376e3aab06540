"""What the command line can ask for instead of a server: the operator's link, and the erasure of a person.

Owns what these print. Invariant: a command is done, or refused with one sentence, and no server starts.
"""

from chat.eventlog.erasing import erase
from chat.settings import Settings
from chat.starting import admin_link


def run_command(settings: Settings) -> bool:
    """Whether there was a command, which is done now; raises BadOption and LogRefused."""
    if settings.admin_link:
        print(_introduced(admin_link(settings)))
    elif settings.erase:
        print(_erased(settings.database, settings.erase))
    else:
        return False
    return True


def _introduced(link: str) -> str:
    return (
        "Open this link within ten minutes, once, in the browser that is to be the operator's. Where the server\n"
        "is reached under another address, put that in the place of this one.\n\n"
        f"  {link}\n"
    )


def _erased(database: str, person_id: str) -> str:
    lines = [f"{room}: {count} removed" for room, count in erase(database, person_id)]
    return "\n".join(lines) if lines else f"Nothing of {person_id} is kept in {database}."
