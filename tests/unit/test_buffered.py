"""Messages come out of a buffered socket as they went in, however the network has cut and joined them."""

import random
import socket
import struct

import pytest
import websocket
from websocket import ABNF

from fademoe.streams.socket import BufferedSocket


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
    connection.sock = BufferedSocket(ours)
    yield connection, theirs
    ours.close()
    theirs.close()


SIZES = (0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000)


def test_every_size_arrives_whole_in_any_pieces(ends):
    connection, theirs = ends
    dice = random.Random(3)
    payloads = [bytes([97 + n % 26]) * size for n, size in enumerate(SIZES * 3)]
    dice.shuffle(payloads)
    stream = b"".join(frame(ABNF.OPCODE_TEXT, payload) for payload in payloads)
    found = []
    while stream or len(found) < len(payloads):
        cut = dice.choice((1, 2, 3, 7, 200, 40_000))
        theirs.sendall(stream[:cut])
        stream = stream[cut:]
        try:
            while True:
                found.append(connection.sock.receive(connection))
        except websocket.WebSocketTimeoutException:
            continue
    assert found == [(ABNF.OPCODE_TEXT, payload) for payload in payloads]


def test_control_frames_and_fragments_are_websocket_clients_work(ends):
    connection, theirs = ends
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
    found = [connection.sock.receive(connection) for _ in range(7)]
    assert found == [
        (ABNF.OPCODE_TEXT, b"one"),
        (ABNF.OPCODE_PING, b"there?"),
        (ABNF.OPCODE_PING, b"amid"),
        (ABNF.OPCODE_TEXT, b"two"),
        (ABNF.OPCODE_BINARY, b"three"),
        (ABNF.OPCODE_TEXT, b"four"),
        (ABNF.OPCODE_CLOSE, struct.pack("!H", 1001) + b"bye"),
    ]
    theirs.settimeout(1)
    assert theirs.recv(100)[:1] == bytes([0x80 | ABNF.OPCODE_PONG])


def test_a_cut_connection_is_an_error(ends):
    connection, theirs = ends
    theirs.sendall(frame(ABNF.OPCODE_TEXT, b"last") + frame(ABNF.OPCODE_TEXT, b"torn")[:3])
    theirs.close()
    assert connection.sock.receive(connection) == (ABNF.OPCODE_TEXT, b"last")
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        connection.sock.receive(connection)
