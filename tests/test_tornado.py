"""What we lean on inside Tornado: none of it is promised, so each has its test and its reason.

Whoever raises the version reads chat/websocket.py again where one of these fails.
"""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tornado
from tornado import httputil, iostream, util, web, websocket
from tornado.websocket import WebSocketHandler, WebSocketProtocol13

from chat.websocket import _OF_THE_HANDSHAKE, BoundedProtocol, FramesHandler

ROOT = Path(__file__).parent.parent
CODE = [ROOT / "chatroom.py", *sorted((ROOT / "chat").rglob("*.py"))]


def test_tornado_is_the_version_that_was_read() -> None:
    """requirements-server.txt pins the one version whose insides this module names."""
    pinned = re.search(r"^tornado==([\d.]+)", (ROOT / "requirements-server.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] == tornado.version == "6.6.1"


@pytest.mark.parametrize(
    ("function", "parameters", "why"),
    [
        (util._websocket_mask, ["mask", "data"], "unmasks what a client sends"),
        (websocket._WebSocketParams, None, "is what a protocol is made with"),
        (WebSocketProtocol13, ["handler", "mask_outgoing", "params"], "is what BoundedProtocol is made as"),
        (WebSocketProtocol13._accept_connection, ["self", "handler"], "is replaced by the shorter answer"),
        (WebSocketProtocol13._receive_frame_loop, ["self"], "is replaced by the strict reader"),
        (
            WebSocketProtocol13._write_frame,
            ["self", "fin", "opcode", "data", "flags"],
            "is replaced by the bounded way",
        ),
        (WebSocketProtocol13._handle_message, ["self", "opcode", "data"], "answers pings and closes"),
        (WebSocketProtocol13._abort, ["self"], "ends a connection that has failed"),
        (WebSocketProtocol13.close, ["self", "code", "reason"], "writes its frame by _write_frame and sets a timer"),
        (WebSocketProtocol13.is_closing, ["self"], "tells when write_message must refuse"),
        (WebSocketHandler.get_websocket_protocol, ["self"], "is where BoundedProtocol comes in"),
        (web.RequestHandler._check_cross_origin, ["self", "check"], "refuses pages of other sites"),
        (WebSocketHandler._detach_stream, ["self"], "is the first place where the stream can be had"),
        (WebSocketHandler.on_ws_connection_close, ["self", "close_code", "close_reason"], "leads to on_close"),
        (WebSocketHandler.on_message, ["self", "message"], "is called by our reader instead of Tornado's"),
        (web.RequestHandler.detach, ["self"], "takes the stream from the HTTP connection"),
        (iostream.IOStream.read_bytes, ["self", "num_bytes", "partial"], "reads in bulk"),
        (iostream.IOStream.write, ["self", "data"], "takes what the kernel would not"),
        (iostream.IOStream.close, ["self", "exc_info"], "takes the exception itself"),
        (iostream.IOStream.set_nodelay, ["self", "value"], "turns Nagle off"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_private_thing_has_the_shape_we_use(
    function: Callable[..., Any], parameters: list[str] | None, why: str
) -> None:
    """It exists and takes what we give it."""
    names = list(inspect.signature(function).parameters) if function is not util._websocket_mask else parameters
    assert names == parameters if parameters is not None else "max_message_size" in names, why


# Every name with an underscore that our code has from Tornado, reads, calls or overrides.
LEANED_ON = {
    "_WebSocketParams": "what a protocol is made with",
    "_abort": "ends a connection that has failed",
    "_accept_connection": "replaced: the answer to a handshake goes the bounded way, too",
    "_check_cross_origin": "the check of `Origin`, so that its refusal is counted and readable",
    "_detach_stream": "the first place where the stream can be had",
    "_handle_message": "answers pings and closes",
    "_handle_request_exception": "a log that is away is answered with 503",
    "_headers": "of the answer, dropped after the handshake",
    "_headers_written": "of the answer, dropped after the handshake",
    "_new_cookie": "the cookie handed out, dropped after the handshake",
    "_reason": "of the answer, dropped after the handshake",
    "_on_close_called": "who went during his handshake may be told to us as gone once more",
    "_receive_frame_loop": "replaced by the strict reader",
    "_total_write_done_index": "how much the kernel has taken of a backlog",
    "_transforms": "of the answer, dropped after the handshake",
    "_websocket_mask": "unmasks what a client sends",
    "_write_buffer": "of the answer, dropped after the handshake",
    "_write_frame": "replaced by the bounded way",
}
OURS_BY_CHANCE = {"_finished", "_log", "_url"}  # names that Tornado uses as well, for something of its own


def private_names(code: str) -> set[str]:
    """Every name with one underscore in front: attributes, functions, imports, and such names in strings."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name) | ast.alias(name=name) | ast.Constant(value=str(name)):
                names.add(name)
    return {name for name in names if name.isidentifier() and name.startswith("_") and not name.startswith("__")}


def test_all_we_lean_on_is_named_here() -> None:
    """Whatever private thing of Tornado's our code touches stands in the list above, and nothing else does."""
    theirs = {
        name
        for module in (web, websocket, iostream, httputil, util)
        for name in private_names(inspect.getsource(module))
    }
    ours = {name for path in CODE for name in private_names(path.read_text())}
    assert (ours & theirs) - OURS_BY_CHANCE - {"_"} == set(LEANED_ON)


def test_what_is_ours_by_chance_is_defined_by_us() -> None:
    """No private thing of Tornado's hides behind a name that we use, too."""
    code = "\n".join(path.read_text() for path in CODE)
    for name in OURS_BY_CHANCE:
        assert re.search(rf"\b(def {name}\(|self\.{name} = )", code), name


def test_the_mask_is_applied_and_undone_by_the_same_function() -> None:
    """RFC 6455 section 5.3; an empty payload is no special case, and the result is bytes."""
    mask = b"\x01\x02\x03\x04"
    once = util._websocket_mask(mask, b"hello")
    assert once == bytes(byte ^ mask[place % 4] for place, byte in enumerate(b"hello"))
    assert util._websocket_mask(mask, once) == b"hello"
    assert util._websocket_mask(mask, b"") == b""
    assert type(once) is bytes


@pytest.mark.parametrize("name", sorted(_OF_THE_HANDSHAKE))
def test_what_only_the_handshake_needs_is_where_we_drop_it(name: str) -> None:
    """Kept for as long as the socket is open it would cost kilobytes a member."""
    source = inspect.getsource(web.RequestHandler) + inspect.getsource(WebSocketHandler)
    assert re.search(rf"\bself\.{name}\b[^=\n]*=(?!=)", source)


def test_what_every_protocol_begins_with_is_shared() -> None:
    """Our constructor sets nothing of Tornado's reader and compression: the class has it, and none of it can change."""
    begun = vars(WebSocketProtocol13(Any, False, websocket._WebSocketParams()))
    for name, value in begun.items():
        if name not in ("handler", "params"):
            assert getattr(BoundedProtocol, name) == value, name
            assert value is None or isinstance(value, int), name


def test_what_we_replace_is_ours() -> None:
    """The bounded way out and the strict way in are in force, and the rest is Tornado's."""
    assert BoundedProtocol._write_frame is not WebSocketProtocol13._write_frame
    assert BoundedProtocol._accept_connection is not WebSocketProtocol13._accept_connection
    assert BoundedProtocol._receive_frame_loop is not WebSocketProtocol13._receive_frame_loop
    assert FramesHandler.write_message is not WebSocketHandler.write_message
    assert BoundedProtocol.close is not WebSocketProtocol13.close
    for name in ("_handle_message", "_send_pong", "is_closing", "_abort", "accept_connection"):
        assert getattr(BoundedProtocol, name) is getattr(WebSocketProtocol13, name), name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("stream", "our writing and reading go by it"),
        ("client_terminated", "ends the reading after the client's close frame"),
        ("server_terminated", "after our close frame nothing counts any more"),
        ("handler", "hears the messages and the close"),
        ("close_code", "is handed to the handler"),
        ("close_reason", "is handed to the handler"),
        ("_waiting", "holds the timer of `close`, which ends the reading of _fail"),
    ],
)
def test_the_protocol_has_what_we_read_of_it(name: str, why: str) -> None:
    """The attributes are still set where they were."""
    source = inspect.getsource(websocket.WebSocketProtocol) + inspect.getsource(WebSocketProtocol13)
    assert re.search(rf"\bself\.{name}\b[^=\n]*=(?!=)", source), why


def test_close_gives_the_client_five_seconds() -> None:
    """_fail reads on until this timer aborts the stream; without it a faulty client would keep his socket."""
    source = inspect.getsource(WebSocketProtocol13.close)
    assert re.search(r"self\._waiting = self\.stream\.io_loop\.add_timeout\(\s*self.*\+ 5, self\._abort", source)


def test_control_frames_of_tornado_go_by_write_frame() -> None:
    """Otherwise pongs and close frames would overtake the backlog and escape its bound."""
    for function in (WebSocketProtocol13._send_pong, WebSocketProtocol13.close):
        assert "self._write_frame(True, " in inspect.getsource(function)
    for function in (WebSocketProtocol13._send_pong, WebSocketProtocol13.close, WebSocketProtocol13._handle_message):
        assert "stream.write" not in inspect.getsource(function)


def test_opening_is_awaited_before_the_first_frame_is_read() -> None:
    """A member is in his room before anything he says is heard."""
    source = inspect.getsource(BoundedProtocol._accept_connection)
    order = ("_detach_stream()", "handler.open(", "await opening", "await self._receive_frame_loop()")
    places = [source.index(step) for step in order]
    assert places == sorted(places)


def test_a_stream_keeps_its_socket_until_it_is_closed() -> None:
    """`send` writes to it directly while nothing waits, and finds None once it is gone."""
    source = inspect.getsource(iostream.IOStream)
    assert "self.socket = socket" in source
    assert "self.socket = None" in inspect.getsource(iostream.IOStream.close_fd)
    assert "self.socket.setblocking(False)" in source


def test_a_stream_counts_what_the_kernel_has_taken() -> None:
    """By this count a member who reads slowly is told from a dead one."""
    count = "self._total_write_done_index += num_bytes"
    assert count in inspect.getsource(iostream.BaseIOStream._handle_write)


def test_a_stream_under_tls_is_another_type() -> None:
    """So `type(stream) is IOStream` tells where writing to the socket would bypass the encryption."""
    assert issubclass(iostream.SSLIOStream, iostream.IOStream)
    assert iostream.SSLIOStream is not iostream.IOStream


def test_a_stream_never_complains_of_a_write_nobody_awaited() -> None:
    """The future of `write` has its exception looked at by Tornado; the pump does not always."""
    assert "future.add_done_callback(lambda f: f.exception())" in inspect.getsource(iostream.BaseIOStream.write)
