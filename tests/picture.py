"""What a member's screen shows: the fold of all that he heard, as docs/protocol.md tells a client to fold it."""

from typing import Any

Shown = tuple[str, str, tuple[tuple[str, int], ...]]  # who, what, and the reactions to it


class Picture:
    """The messages by seq, and the order of the room."""

    def __init__(self) -> None:
        self.messages: dict[int, dict[str, Any]] = {}
        self.rules: dict[str, Any] = {}
        self.roles: dict[str, str] = {}
        self.me: dict[str, Any] = {}
        self.epoch = ""
        self.head = 0  # the newest event heard
        self.target = 0  # the head that `welcome` promised

    def hear(self, frame: dict[str, Any]) -> None:
        """Fold one frame of the server; the events of a room must come without a hole."""
        if "seq" in frame and "at" in frame:
            assert self.head in (0, frame["seq"] - 1), f"{frame['seq']} after {self.head}"
            self.head = frame["seq"]
        if (fold := getattr(self, f"_{frame['type']}", None)) is not None:
            fold(frame)

    def merge(self, events: list[dict[str, Any]]) -> None:
        """Take a page of history: what it says of messages that are here already is not newer than what is known."""
        for event in events:
            if event["type"] == "message":
                self.messages.setdefault(event["seq"], event)

    @property
    def shown(self) -> dict[int, Shown]:
        return {seq: _shown(message) for seq, message in sorted(self.messages.items())}

    @property
    def texts(self) -> list[str]:
        return [message["text"] for _, message in sorted(self.messages.items())]

    # One frame each

    def _welcome(self, frame: dict[str, Any]) -> None:
        if frame.get("resumed") in (None, "reset", "gap"):
            self.messages.clear()
            self.head = 0
        self.epoch, self.target = frame["epoch"], frame["head"]
        self.rules, self.me = frame["rules"], frame["you"]
        self.roles = {person["id"]: person["role"] for person in frame["roles"]}

    def _you(self, frame: dict[str, Any]) -> None:
        self.me = {name: value for name, value in frame.items() if name != "type"}

    def _message(self, frame: dict[str, Any]) -> None:
        self.messages[frame["seq"]] = frame

    def _edit(self, frame: dict[str, Any]) -> None:
        if (message := self.messages.get(frame["message"])) is not None:
            message.update(text=frame["text"], edited=frame["at"], edit=frame["seq"])

    def _delete(self, frame: dict[str, Any]) -> None:
        self.messages.pop(frame["message"], None)

    def _purge(self, frame: dict[str, Any]) -> None:
        self.messages = {
            seq: message
            for seq, message in self.messages.items()
            if message["by"]["id"] != frame["person"] or seq > frame["seq"]
        }

    def _reactions(self, frame: dict[str, Any]) -> None:
        for change in frame["changes"]:
            if (message := self.messages.get(change["message"])) is not None:
                message["reactions"] = change["reactions"]

    def _trim(self, frame: dict[str, Any]) -> None:
        self.messages = {seq: message for seq, message in self.messages.items() if seq >= frame["before"]}

    def _rules(self, frame: dict[str, Any]) -> None:
        self.rules = frame["rules"]

    def _role(self, frame: dict[str, Any]) -> None:
        if frame["role"]:
            self.roles[frame["whom"]["id"]] = frame["role"]
        else:
            self.roles.pop(frame["whom"]["id"], None)


def picture_of(events: list[dict[str, Any]]) -> dict[int, Shown]:
    """What a page of events shows."""
    picture = Picture()
    picture.merge(events)
    return picture.shown


def _shown(message: dict[str, Any]) -> Shown:
    reactions = tuple((each["kind"], each["n"]) for each in message.get("reactions") or [] if each["n"])
    return message["by"]["id"], message["text"], reactions
