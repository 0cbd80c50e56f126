"""A serving process that is none: what it says and what is done to it is the test's."""

from __future__ import annotations

import os
import socket
from collections import deque

from gearshift.processes import messages


class FakeMember:
    def __init__(self, pages: dict[bytes, bytes] | None = None) -> None:
        self._here, self.there = socket.socketpair()
        self._here.setblocking(False)
        self.pid = 0
        self.pages = pages or {}
        self.late = False
        self.full = False
        self.killed = self.stopped = self.closed = False
        self.code: int | None = None
        self.handed = 0
        self.told: list[bytes] = []
        self.signs_told = b""
        self._asked: deque[bytes] = deque()
        self._letters: list[bytes] = []

    # --- what the test does

    def say(self, signs: bytes) -> None:
        self.there.sendall(signs)

    def end(self, code: int = -9) -> None:
        self.code = code
        self.there.close()

    def write(self, body: bytes) -> None:
        """A letter to the parent."""
        self._letters.append(body)
        self.say(messages.LETTER)

    # --- what the parent does

    def letters(self) -> list[bytes]:
        taken, self._letters = self._letters, []
        return taken

    def fileno(self) -> int:
        return self._here.fileno()

    def signs(self) -> bytes:
        return self._here.recv(1000)

    def hand(self, accepted: socket.socket, *, inside: bool = False) -> None:
        if self.code is not None:
            raise BrokenPipeError
        if self.full:
            raise BlockingIOError
        self.handed += 1

    def tell(self, answer: int, sign: bytes) -> None:
        if self.code is not None:
            raise BrokenPipeError
        if self.full:
            raise BlockingIOError
        self.told.append(os.pread(answer, 1_000, 0))
        self.signs_told += sign

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        if self.code is None:
            self.killed = True
            self.end()

    def wait(self, within: float) -> int | None:
        return self.code

    def close(self) -> None:
        self.closed = True
        self._here.close()
        self.there.close()

    def ask(self, question: bytes) -> int:
        if self.code is not None:
            raise BrokenPipeError
        self._asked.append(question)
        return 0

    def answer(self, number: int, deadline: float) -> bytes:
        if self.late:
            raise TimeoutError
        return self.pages.get(self._asked.pop(), b"")
