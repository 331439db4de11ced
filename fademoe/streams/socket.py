"""A socket that is read in large pieces. websocket-client reads a frame in three parts, each by a call of the system,
and spends more on that than all the rest costs; so a text frame that lies whole in memory is taken from there.
"""

import socket
from typing import Any

import websocket
from websocket import ABNF

PIECE = 65_536
TEXT = 0x80 | ABNF.OPCODE_TEXT  # first byte of a whole text message in one frame, not compressed
SHORT, MEDIUM = (
    125,
    126,
)  # second byte: the payload's size itself, or that two bytes with the size follow (RFC 6455, 5.2)


class BufferedSocket:
    """Stands in for a connected socket, TLS or not; everything but reading is the socket's own."""

    def __init__(self, connected: socket.socket) -> None:
        """Take over reading from `connected`, between two frames."""
        self._socket = connected
        self._piece = b""
        self._at = 0
        self._is_amid = False  # websocket-client has read a part of a frame
        self.gettimeout = connected.gettimeout

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes, b"" when the other side has closed; raise as the socket does."""
        if self._at >= len(self._piece):
            self._piece, self._at = self._socket.recv(PIECE), 0
        part = self._piece[self._at : self._at + size]
        self._at += len(part)
        return part

    def receive(self, connection: websocket.WebSocket) -> tuple[int, bytes]:
        """Return opcode and payload of the connection's next message; raise as its own recv_data does."""
        if not self._is_amid:
            payload = self._whole_text()
            if payload is not None:
                return ABNF.OPCODE_TEXT, payload
        self._is_amid = True
        opcode, payload = connection.recv_data(control_frame=True)
        self._is_amid = False
        return opcode, payload

    def _whole_text(self) -> bytes | None:
        """Return the payload of the next frame when it is a text message of up to 64 KB and all of it is here."""
        piece, at = self._piece, self._at
        if len(piece) - at < 4 or piece[at] != TEXT:
            return None
        size, start = piece[at + 1], at + 2
        if size == MEDIUM:
            size, start = int.from_bytes(piece[start : start + 2], "big"), start + 2
        elif size > SHORT:
            return None
        end = start + size
        if end > len(piece):
            return None
        self._at = end
        return piece[start:end]

    def __getattr__(self, name: str) -> Any:
        """Leave all else to the socket."""
        return getattr(self._socket, name)
