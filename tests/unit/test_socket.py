"""Messages come out of a buffered socket as they went in, however the network has cut and joined them."""

import random
import socket
import struct

import pytest
import websocket
from websocket import ABNF

from fademoe.streams.socket import LiveSocket, SocketError


def frame(opcode, payload, *, last=True):
    size = len(payload)
    head = struct.pack("!B", (0x80 if last else 0) | opcode)
    if size < 126:
        return head + struct.pack("!B", size) + payload
    if size < 65_536:
        return head + struct.pack("!BH", 126, size) + payload
    return head + struct.pack("!BQ", 127, size) + payload


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    connection = websocket.WebSocket(skip_utf8_validation=True)
    connection.connected = True
    ours.settimeout(0.05)
    connection.sock = ours
    yield LiveSocket(connection), theirs
    ours.close()
    theirs.close()


SIZES = (0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000)


def test_every_size_arrives_whole_in_any_pieces(ends):
    line, theirs = ends
    dice = random.Random(3)
    payloads = [bytes([97 + n % 26]) * size for n, size in enumerate(SIZES * 3)]
    dice.shuffle(payloads)
    stream = b"".join(frame(ABNF.OPCODE_TEXT, payload) for payload in payloads)
    found = []
    while stream or len(found) < len(payloads):
        cut = dice.choice((1, 2, 3, 7, 200, 40_000))
        theirs.sendall(stream[:cut])
        stream = stream[cut:]
        while (payload := line.receive()) is not None:
            found.append(payload)
    assert found == payloads


def test_control_frames_and_fragments_are_websocket_clients_work(ends):
    line, theirs = ends
    theirs.sendall(
        frame(ABNF.OPCODE_TEXT, b"one")
        + frame(ABNF.OPCODE_PING, b"there?")
        + frame(ABNF.OPCODE_TEXT, b"tw", last=False)
        + frame(ABNF.OPCODE_PING, b"amid")
        + frame(ABNF.OPCODE_CONT, b"o")
        + frame(ABNF.OPCODE_BINARY, b"three")
        + frame(ABNF.OPCODE_TEXT, b"four")
        + frame(ABNF.OPCODE_CLOSE, struct.pack("!H", 1001) + b"bye")
    )
    assert [line.receive() for _ in range(6)] == [b"one", b"", b"", b"two", b"three", b"four"]
    with pytest.raises(SocketError, match="closed by the exchange with code 1001 bye"):
        line.receive()
    theirs.settimeout(1)
    assert theirs.recv(100)[:1] == bytes([0x80 | ABNF.OPCODE_PONG])


def test_a_cut_connection_is_an_error(ends):
    line, theirs = ends
    theirs.sendall(frame(ABNF.OPCODE_TEXT, b"last") + frame(ABNF.OPCODE_TEXT, b"torn")[:3])
    theirs.close()
    assert line.receive() == b"last"
    with pytest.raises(SocketError):
        line.receive()


def test_an_address_where_nobody_listens_is_an_error():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(SocketError, match="refused"):
        LiveSocket.connect(f"ws://127.0.0.1:{port}")
