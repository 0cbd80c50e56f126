"""A serving process as its parent sees it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from gearshift.processes import messages
from gearshift.processes.messages import ANSWER, QUESTION, Orders

COMMAND = "serve-process"
"""The hidden command of `gearshift` that is a serving process."""

FILE_VARIABLE = "GEARSHIFT_CONFIG"
"""Not handed on: the orders have every setting, and the file may have changed since."""

SENT_WITHIN = 5.0
"""Seconds until the process's end of the control socket must have room."""

MAX_PAGE = 256 * 1024 * 1024

SIGNS_AT_ONCE = 65_536


class Member:
    """One life of a serving process: from its start to its end."""

    def __init__(
        self, process: subprocess.Popen[bytes], connections: socket.socket, control: socket.socket
    ) -> None:
        self._process = process
        self._connections = connections
        self._control = control
        self._received = bytearray()
        self._letters: list[bytes] = []
        self._asked = 0
        connections.setblocking(False)
        control.settimeout(SENT_WITHIN)

    @classmethod
    def launch(cls, orders: Orders) -> Member:
        """Start a process of this very program and tell it what to do."""
        connections, its_connections = socket.socketpair()
        control, its_control = socket.socketpair()
        with its_connections, its_control:
            handed = (its_connections.fileno(), its_control.fileno())
            environment = {k: v for k, v in os.environ.items() if k != FILE_VARIABLE}
            process = subprocess.Popen(
                _command(handed),
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__,  # the one line on standard output is the parent's
                pass_fds=handed,
                # Ctrl-C in a terminal is for the parent, which then lets the processes drain.
                start_new_session=True,
                env=environment,
            )
        member = cls(process, connections, control)
        with suppress(OSError):  # It has ended already, which `signs` will tell.
            control.sendall(orders.pack())
        return member

    @property
    def pid(self) -> int:
        """The number of the process, for the log."""
        return self._process.pid

    def fileno(self) -> int:
        """What becomes readable when there are signs, or the end."""
        return self._connections.fileno()

    def signs(self) -> bytes:
        """What the process has said since; nothing when it has ended."""
        try:
            said, descriptors, _, _ = socket.recv_fds(self._connections, SIGNS_AT_ONCE, 4)
        except ConnectionResetError:
            return b""
        self._letters += map(messages.read_letter, descriptors)
        return said

    def letters(self) -> list[bytes]:
        """What came with the signs that were heard since this was asked before."""
        taken, self._letters = self._letters, []
        return taken

    def hand(self, accepted: socket.socket, *, inside: bool = False) -> None:
        """Give a connection to the process, one from `inside` if it is our own. BrokenPipeError
        or ConnectionResetError if it has ended, another OSError if it has too many that it has not
        taken."""
        kind = messages.INSIDE if inside else messages.CONNECTION
        socket.send_fds(self._connections, [kind], [accepted.fileno()])

    def tell(self, answer: int, sign: bytes) -> None:
        """Answer a question with the file that has this descriptor. Errors as in `hand`."""
        socket.send_fds(self._connections, [sign], [answer])

    def stop(self) -> None:
        """Let the process finish what it has taken in, and end."""
        self._control.sendall(QUESTION.pack(messages.STOP, 0))

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def wait(self, within: float) -> int | None:
        """How the process ended; None if it still runs after `within` seconds."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Give the sockets back, after the end and when nobody is asking."""
        self._connections.close()
        self._control.close()

    def ask(self, question: bytes) -> int:
        """Ask for a page; the number under which `answer` finds it. OSError if that fails."""
        self._asked += 1
        self._control.sendall(QUESTION.pack(question, self._asked))
        return self._asked

    def answer(self, number: int, deadline: float) -> bytes:
        """The page that was asked for under `number`. TimeoutError if it is not there by
        `deadline` (`time.monotonic`), ConnectionResetError if the process has ended."""
        while True:
            head = self._exactly(ANSWER.size, deadline, keep=True)
            told, size = ANSWER.unpack(head)
            if size > MAX_PAGE:
                raise ConnectionResetError(f"a page of {size} bytes, above {MAX_PAGE}")
            whole = self._exactly(ANSWER.size + size, deadline, keep=False)
            # An answer that came too late for an earlier question is of no use any more.
            if told == number:
                return whole[ANSWER.size :]

    def _exactly(self, size: int, deadline: float, *, keep: bool) -> bytes:
        """That many bytes; they are read again next time if `keep`, or if too few came."""
        while len(self._received) < size:
            # What is there already is taken however late it is: another process may have used up
            # the time.
            self._control.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                part = self._control.recv(max(65_536, size - len(self._received)))
            except BlockingIOError:
                raise TimeoutError("no answer in time") from None
            if not part:
                raise ConnectionResetError("the process has ended")
            self._received += part
        taken = bytes(self._received[:size])
        if not keep:
            del self._received[:size]
        return taken


def _command(handed: Sequence[int]) -> list[str]:
    return [sys.executable, "-m", "gearshift", COMMAND, *map(str, handed)]
