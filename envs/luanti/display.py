"""A virtual display without any X library: its pixels from the file that Xvfb maps, its keys by XTEST."""

from __future__ import annotations

import mmap
import select
import socket
import struct
from pathlib import Path

import numpy as np

KEYCODE_OF_1 = 10  # of the keys 1 to 9 in Xvfb's keyboard map
FLAG = 8  # pixels
PRESS, RELEASE = 2, 3
QUERY_TREE, SET_INPUT_FOCUS, QUERY_EXTENSION = 15, 42, 98


class Pixels:
    """The picture of a display, as it is at the moment of reading. `path`: the file of `Xvfb -fbdir`, in
    the format of xwd (X11/XWDFile.h), which is the display's own memory. ValueError for another depth than
    24 in 32 bits."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        head = struct.unpack(">25I", self._map[:100])
        offset, width, height = head[0] + 12 * head[19], head[4], head[5]
        order, bits, row = head[7], head[11], head[12]
        if bits != 32 or order != 0:
            raise ValueError(f"{path}: pixels of {bits} bits in byte order {order} are not read here")
        raw = np.frombuffer(self._map, np.uint8, count=row * height, offset=offset)
        self._view = raw.reshape(height, row // 4, 4)[:, :width, 2::-1]  # blue, green, red, unused
        self._last = self._view[-1, -FLAG:]
        self._flag = np.array(self._last)

    def read(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """A copy of a part, uint8 [H, W, 3]."""
        return np.array(self._view[rows, columns])

    def flag(self) -> None:
        """Write other colours into the last pixels: `redrawn` tells when they have been drawn over."""
        self._flag = 255 - np.array(self._last)
        self._flag[::2] ^= 85
        self._last[:] = self._flag

    def redrawn(self) -> bool:
        """Whether a whole picture was drawn since `flag`, or the one of that moment came to its end."""
        return not np.array_equal(self._last, self._flag)


class Keys:
    """Presses keys of a display, as a client that speaks the X11 protocol. ConnectionError where it does not
    let us."""

    def __init__(self, number: int, patience: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(patience)
            self._socket.connect(f"/tmp/.X11-unix/X{number}")
            self._root = self._set_up()
            name = b"XTEST"
            self._socket.sendall(struct.pack("<BxHHxx8s", QUERY_EXTENSION, 4, len(name), name))
            present, self._xtest = struct.unpack("<BB", self._reply()[8:10])
            if not present:
                raise ConnectionError("it has no XTEST extension")
        except OSError as error:
            self._socket.close()
            raise ConnectionError(f"display :{number} takes no keys: {error}") from None

    def focus(self) -> None:
        """Give the keyboard to the one window: no window manager does it here, and the game ignores keys
        without."""
        self._socket.sendall(struct.pack("<BxHI", QUERY_TREE, 2, self._root))
        reply = self._reply()
        count = struct.unpack("<H", reply[16:18])[0]
        windows = struct.unpack(f"<{count}I", reply[32 : 32 + 4 * count])
        if not windows:
            raise ConnectionError("the game has no window")
        self._socket.sendall(struct.pack("<BBHII", SET_INPUT_FOCUS, 0, 3, windows[-1], 0))

    def press(self, keycode: int) -> None:
        """One press and release."""
        while select.select([self._socket], [], [], 0)[0]:  # events that nobody reads must not pile up
            self._receive(32)
        fake = struct.Struct("<BBHBBxxIIxxxxxxxxhhxxxxxxxx")  # FakeInput: type, key, time, root, x, y
        events = (fake.pack(self._xtest, 2, 9, kind, keycode, 0, 0, 0, 0) for kind in (PRESS, RELEASE))
        self._socket.sendall(b"".join(events))

    def close(self) -> None:
        self._socket.close()

    def _set_up(self) -> int:
        """Introduce ourselves, without authorisation; the root window."""
        self._socket.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))
        accepted, size = struct.unpack("<BxxxxxH", self._receive(8))
        said = self._receive(4 * size)
        if accepted != 1:
            raise ConnectionError("it refuses the connection")
        vendor, formats = struct.unpack("<H", said[16:18])[0], said[21]
        screen = 32 + -(-vendor // 4) * 4 + 8 * formats
        root: int = struct.unpack("<I", said[screen : screen + 4])[0]
        return root

    def _reply(self) -> bytes:
        """The next reply; events before it, such as that the keyboard map was changed, are skipped."""
        while True:
            head = self._receive(32)
            if head[0] == 0:
                raise ConnectionError(f"it refuses a request (X error {head[1]})")
            if head[0] == 1:
                return head + self._receive(4 * struct.unpack("<I", head[4:8])[0])

    def _receive(self, size: int) -> bytes:
        held = b""
        while len(held) < size:
            part = self._socket.recv(size - len(held))
            if not part:
                raise ConnectionError("the connection was closed")
            held += part
        return held
