"""The options of the server: one table, and how they are read and checked.

Owns their names, defaults, units and ranges. Invariant: a value with which the server could not
keep its promises is refused with one sentence that says what to do.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from tornado.options import Error as OptionError
from tornado.options import OptionParser

_RANGES = {
    "keep_days": (0, 36500),
    "history": (0, 1000),
    "port": (0, 65535),
    "processes": (1, 256),
    "send_buffer_bytes": (128 * 1024, 2**31),
    "shutdown_grace_s": (0.1, 3600),
}


class BadOption(Exception):
    """An option cannot be used; the text is one sentence that says what to do."""


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


def _command(default: Any, help: str) -> Any:
    """What is done instead of starting a server; only the command line can ask for it."""
    return field(default=default, metadata={"help": help, "is_command": True})


def is_command(option: "Field[Any]") -> bool:
    return option.metadata.get("is_command", False) is True


@dataclass(frozen=True)
class Settings:
    """The options of the server, as values; `python chatroom.py --help` lists them."""

    port: int = _option(8888, "TCP port; 0 picks a free one and prints it")
    address: str = _option("", "address to listen on; empty: all, IPv4 and IPv6")
    database: str = _option("chatroom.db", "SQLite file that holds the rooms' logs; ':memory:' keeps nothing")
    redis: str = _option("", "redis://host:port/0: the log that several servers share, in place of SQLite")
    processes: int = _option(1, "server processes on this machine sharing the port; more than 1 needs redis")
    secret: str = _option("", "signs identities; empty: made at first start and kept beside the database")
    history: int = _option(50, "messages shown to someone who enters a room")
    message_rate: float = _option(5.0, "messages a second one person may send, bursts of four times that; 0 = no limit")
    connections_per_address: int = _option(0, "open sockets from one address; 0 = no limit")
    max_members: int = _option(0, "open sockets in all; 0 = what the open-file limit allows, less a reserve")
    send_buffer_bytes: int = _option(1048576, "bytes that may wait in the server for one member before he is cut off")
    allowed_origins: str = _option("", "extra Origins besides the page's own, as https://host, separated by commas")
    base_path: str = _option("", "path under which everything is served, as /chat; empty: at the root of the host")
    trusted_proxies: str = _option("", "proxies whose X-Forwarded-* are believed: addresses, networks, with commas")
    certificate: str = _option("", "PEM file of the certificate and its chain, to speak TLS itself; needs key")
    key: str = _option("", "PEM file of the certificate's private key, without a password")
    shutdown_grace_s: float = _option(10.0, "seconds to drain on SIGTERM")
    keep_days: int = _option(0, "days that messages are kept in every room; 0 = for ever")
    keep_events: int = _option(0, "newest messages and acts that are kept in every room; 0 = all")
    admin_link: bool = _command(False, "print a link that makes a browser the operator's, once and within 10 minutes")
    erase: str = _command("", "remove all that the person with this id said, in every room, while no server runs")


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The command line over `--config=FILE` over the environment (`CHATROOM_NAME`); raises BadOption."""
    parser = _parser()
    variables = {
        option.name: f"CHATROOM_{option.name.upper()}" for option in fields(Settings) if not is_command(option)
    }
    kept = [f"--{name}={environment[variable]}" for name, variable in variables.items() if variable in environment]
    _parse(parser, [*kept, *arguments])
    if parser.config:
        _parse_file(parser, parser.config)
        _parse(parser, arguments)
    settings = Settings(**{option.name: parser[option.name] for option in fields(Settings)})
    settings = replace(settings, base_path=settings.base_path.rstrip("/"))
    check_settings(settings)
    return settings


def _parser() -> OptionParser:
    parser = OptionParser()
    parser.define("config", type=str, help="file of options, as NAME = VALUE in Python", group="chatroom")
    for option in fields(Settings):
        parser.define(
            option.name, option.default, type=type(option.default), help=option.metadata["help"], group="chatroom"
        )
    return parser


def _parse(parser: OptionParser, arguments: Sequence[str]) -> None:
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if not argument.startswith("--") or (name != "help" and name not in parser):
            raise BadOption(f"{argument} is no option: they are written --name=value, see python chatroom.py --help.")
        if argument == "--erase=":
            raise BadOption("--erase= names nobody: write the id of a person behind it.")
        try:
            parser.parse_command_line(["chatroom.py", argument], final=False)
        except (OptionError, ValueError) as error:
            raise BadOption(f"{argument} cannot be used ({error}): see python chatroom.py --help.") from None


def _parse_file(parser: OptionParser, path: str) -> None:
    try:
        parser.parse_config_file(path, final=False)
    except Exception as error:  # the file is a program: anything may go wrong in it
        raise BadOption(f"The options in {path} cannot be read ({error}): mend it or leave --config out.") from None
    for command in filter(is_command, fields(Settings)):  # else it would be done again at every start
        setattr(parser, command.name, command.default)


def check_settings(settings: Settings) -> None:
    """Refuse values with which the server could not keep its promises; raises BadOption."""
    for option in fields(Settings):
        value = getattr(settings, option.name)
        low, high = _RANGES.get(option.name, (0, 2**31))
        if not isinstance(value, str) and not low <= value <= high:
            raise BadOption(f"--{option.name}={value} is out of range: choose a number from {low} to {high}.")
    if not settings.database:
        raise BadOption("--database is empty: name a file, or ':memory:' to keep nothing.")
    if 0 < len(settings.secret) < 16:
        raise BadOption("--secret is too short to keep one: give at least 16 characters, or none to have one made.")
    if settings.redis and not settings.redis.startswith(("redis://", "rediss://", "unix://")):
        raise BadOption(
            "--redis is no address of a Redis: write it as redis://host:6379/0, a password as :it@ before the host."
        )
    if settings.processes > 1 and not settings.redis:
        raise BadOption(f"--processes={settings.processes} needs --redis, as they share no --database: give both.")
    if settings.erase and not re.fullmatch("[a-z2-7]{16}", settings.erase):
        raise BadOption(
            f"--erase={settings.erase} is nobody's id: one has 16 of a to z and 2 to 7, as `by` in messages."
        )
    if settings.erase and settings.admin_link:
        raise BadOption("--erase and --admin-link are done one at a time: leave one of them out.")
    for origin in origins(settings):
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise BadOption(f"--allowed_origins has {origin!r}: write each as https://host or https://host:port.")
    _check_surroundings(settings)


def _check_surroundings(settings: Settings) -> None:
    """The same for what stands around the server: its proxies, its place on a host, its certificate."""
    networks(settings)
    steps = settings.base_path.split("/")
    if settings.base_path and (
        not re.fullmatch("(/[A-Za-z0-9._~-]+)+", settings.base_path) or {".", ".."} & set(steps)
    ):
        raise BadOption(
            f"--base_path={settings.base_path!a} is no path: write it as /chat, of letters, digits and - . _ ~ alone."
        )
    if bool(settings.certificate) != bool(settings.key):
        has, lacks = ("certificate", "key") if settings.certificate else ("key", "certificate")
        raise BadOption(f"--{has} needs --{lacks}: give both to speak TLS, or neither.")


def origins(settings: Settings) -> list[str]:
    return _listed(settings.allowed_origins)


def networks(settings: Settings) -> list[IPv4Network | IPv6Network]:
    """Those of the trusted proxies; raises BadOption."""
    found = []
    for name in _listed(settings.trusted_proxies):
        try:
            found.append(ip_network(name))
        except ValueError:
            advice = "write each as 127.0.0.1 or as a network, 10.0.0.0/8"
            raise BadOption(f"--trusted_proxies has {name!a}: {advice}.") from None
    return found


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
