"""What has to hold over a slow link: `slow_link_cases.py CASE RATE`, one case in one process.

test_slow_links.py runs all of them side by side. A case that fails says what came and how long it took.
"""

import base64
import os
import re
import select
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import HERE, Server, until
from slow_link import Link

SAYS = (sys.executable, "--", HERE / "programs" / "says.py")
# Seconds: how much later than promised is still in time. The delay of the link, the server's own clocks, and a
# machine that does a lot at once.
MARGIN = 4
# Bytes that a kernel takes for one connection, if it takes a lot: everything that a program says here. A
# connection comes to that by itself in the course of a long transfer.
LARGE = 16 << 20
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Peer:
    """A websocket client on a socket. Reads at once, and answers pings and a close when it sees them."""

    def __init__(self, connection, room="room", answers=True):
        self.socket, self.answers = connection, answers
        self.began = time.monotonic()
        self.bytes = 0
        self._buffer = bytearray()
        self._at = 0
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /{room} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head, head

    def _fill(self):
        more = self.socket.recv(1 << 16)
        if not more:
            raise EOFError("the end of TCP without a close frame")
        self.bytes += len(more)
        self._buffer += more

    def _take(self, count):
        while len(self._buffer) - self._at < count:
            del self._buffer[: self._at]
            self._at = 0
            self._fill()
        taken = bytes(self._buffer[self._at : self._at + count])
        self._at += count
        return taken

    def send(self, payload, opcode=TEXT):
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
        self.socket.sendall(bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload)

    def next(self):
        """The next message; a close is raised as one."""
        while True:
            first, size = self._take(2)
            if size > 125:
                size = int.from_bytes(self._take(2 if size == 126 else 8))
            payload = self._take(size)
            if first & 15 == TEXT:
                return payload.decode()
            if first & 15 == PING and self.answers:
                self.send(payload, PONG)
            if first & 15 == CLOSE:
                if self.answers:
                    self.send(payload[:2], CLOSE)
                raise Closed(int.from_bytes(payload[:2]), payload[2:].decode())

    def number(self):
        return int(self.next().split(" ", 1)[0])

    def lines(self, first, end):
        """Reads the lines with these numbers, none missing."""
        number = first - 1
        try:
            for wanted in range(first, end):
                number = self.number()
                assert number == wanted, f"line {number} in place of {wanted}"
        except (OSError, EOFError, Closed) as end_of_it:
            so_far = f"{number + 1 - first} of {end - first} lines, {self.so_far()}"
            raise AssertionError(f"{so_far}, then {end_of_it!r}") from end_of_it

    def ends(self, code):
        """A close with this code comes next, and then the orderly end of TCP."""
        try:
            came = self.next()
            raise AssertionError(f"{came[:20]!r} in place of a close, {self.so_far()}")
        except Closed as closed:
            assert closed.code == code, f"{closed!r}, {self.so_far()}"
        except (OSError, EOFError) as end:
            raise AssertionError(f"{end!r} in place of close {code}, {self.so_far()}") from end
        try:
            assert not self.socket.recv(1), "something behind the close"
        except OSError as end:
            raise AssertionError(f"{end!r} behind close {code}, {self.so_far()}") from end

    def so_far(self):
        return f"{self.bytes} bytes in {time.monotonic() - self.began:.1f} s"


class Closed(Exception):
    """The server's close frame."""

    def __init__(self, code, reason):
        super().__init__(code, reason)
        self.code = code


class Case:
    """A link, and a server in the namespace at its near end."""

    def __init__(self, rate, *arguments, buffer=None):
        self.link = Link(rate, buffer=buffer)
        with self.link.server.inside():
            self.server = Server("--metrics", *arguments, address="0.0.0.0:0")
        self.port = int(self.server.address.rpartition(":")[2])

    def join(self, room="room", answers=True, **options):
        """A client at the far end."""
        return Peer(self.link.connect(self.port, **options), room, answers)

    def join_nearby(self, room="room"):
        """A client that does not pass the link."""
        return Peer(self.link.connect_nearby(self.port), room)

    def connections(self):
        """How many connections the server has."""
        with self.link.connect_nearby(self.port) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
        return int(re.search(r"^scalesocket_connections (\d+)", text, re.MULTILINE)[1]) - 1

    def gone(self, since, least, most, others=0):
        """Waits until the server has given up all but so many connections: not before `least` seconds, for who
        stalls for that long may go on, and before `most`."""
        until(lambda: self.connections() > others, "the client is there")
        while self.connections() > others:
            waited = time.monotonic() - since
            assert waited < most + MARGIN, f"still there after {waited:.1f} s, which is more than {most} s"
            time.sleep(0.1)
        waited = time.monotonic() - since
        assert waited > least, f"gone after {waited:.1f} s already"


def seconds(rate, count, length=1000):
    """Lines that take the link so many seconds."""
    return int(rate * count / length)


# What takes bytes all the time


def download(rate):
    """A file arrives whole, however long the server's kernel has enough to send."""
    # 8 Mbit/s would have to go on for a long time for its kernel to hold ten seconds.
    took, buffer = (36, 33 * rate) if rate < 1_000_000 else (12, None)
    with tempfile.TemporaryDirectory() as site:
        content = os.urandom(1000) * (rate * took // 1000)
        Path(site, "file").write_bytes(content)
        case = Case(rate, "--staticdir", site, "cat", buffer=buffer)
        connection, began = case.link.connect(case.port), time.monotonic()
        connection.sendall(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        came, end = bytearray(), "nothing for a minute"
        try:
            while len(came.partition(b"\r\n\r\n")[2] if len(came) < 2000 else came) < len(content):
                more = connection.recv(1 << 16)
                if not more:
                    end = "the end"
                    break
                came += more
            else:
                end = None
        except OSError as error:
            end = repr(error)
        took = time.monotonic() - began
        body = came.partition(b"\r\n\r\n")[2]
        assert body == content, f"{len(body)} of {len(content)} bytes in {took:.1f} s, then {end}"


def burst_then_exit(rate, talks=False):
    """All that a program said before it ended arrives, and then its close."""
    count = seconds(rate, 12 if rate < 1_000_000 else 9)
    case = Case(rate, *SAYS, "go", count, 1000, "exit", buffer=LARGE)
    peer = case.join()
    peer.send(b"go")
    done = threading.Event()

    def talk():
        while not done.wait(1):
            try:
                peer.send(b"still here")
            except OSError:
                return

    if talks:
        threading.Thread(target=talk, daemon=True).start()
    try:
        peer.lines(0, count)
        # What is said behind the close would be answered with a reset.
        done.set()
        peer.ends(1000)
    finally:
        done.set()


def burst_then_exit_while_the_client_talks(rate):
    """The same, and the client says something now and then."""
    burst_then_exit(rate, talks=True)


def history(rate):
    """A joiner gets all of the history and stays, and no other client waits."""
    length, period = 700, 0.05
    count = seconds(rate, 10, length)
    # Nearly as much as may be kept, so that it is as much as may wait.
    bound = count * (length + 70) + 40_000
    options = ("--cache", "65536", "--maxqueue", bound, "--patience", "2")
    case = Case(rate, *options, *SAYS, "now", count, length, "tick", period)
    others = [case.join_nearby(), case.join_nearby()]
    for other in others:
        other.lines(0, count + 1)
    watches = [Watch(other, count + 1, period) for other in others]
    joiner = case.join()
    first = joiner.number()
    assert first < count / 10, f"the history begins with line {first}"
    joiner.lines(first + 1, count)
    # What came meanwhile, and some of what is live.
    joiner.lines(count, watches[0].next + 20)
    longest = max(watch.stop() for watch in watches)
    assert longest < 0.3, f"somebody else got nothing for {longest:.2f} s"


class Watch:
    """Reads what a client gets, a line every `period` seconds, and notes the longest time without one."""

    def __init__(self, peer, first, period):
        self.next, self.longest = first, 0.0
        self._peer, self._period = peer, period
        self._stop = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        silent, step = 0.0, 0.02
        try:
            while not self._stop.is_set():
                # Only the time in which this thread looked and found nothing.
                if not select.select([self._peer.socket], [], [], step)[0]:
                    silent += step
                    self.longest = max(self.longest, silent)
                    continue
                silent = 0.0
                self._peer.lines(self.next, self.next + 1)
                self.next += 1
        except AssertionError as failure:
            self._failure = failure

    def stop(self):
        self._stop.set()
        self._thread.join()
        if self._failure:
            raise self._failure
        return self.longest


def ping(rate):
    """A client that sees a ping only behind a backlog of more than three intervals stays."""
    count = seconds(rate, 12 if rate < 1_000_000 else 10)
    case = Case(rate, "--ping", "2", *SAYS, "go", count, 1000, "echo", buffer=LARGE)
    peer = case.join()
    peer.send(b"go")
    peer.lines(0, count)
    peer.send(b"0 still here")
    peer.lines(0, 1)


def told(rate):
    """A client that is too slow for its room is told so in a close frame."""
    waits = seconds(rate, 2)
    # More than the kernel and the queue hold; what the kernel has is on its way for longer than a close waits.
    count = seconds(rate, 8) + 3 * waits
    options = ("--patience", "1", "--maxqueue", waits * 1000)
    case = Case(rate, *options, *SAYS, "go", count, 1000, "tick", buffer=8 * rate)
    other, slow = case.join_nearby(), case.join()
    other.send(b"go")
    other.lines(0, count)
    wanted = 0
    try:
        while (number := slow.number()) == wanted:
            wanted += 1
        raise AssertionError(f"line {number} in place of {wanted}")
    except Closed as closed:
        assert closed.code == 1013, f"{closed!r} after {wanted} lines, {slow.so_far()}"
    except (OSError, EOFError) as end:
        raise AssertionError(f"{end!r} after {wanted} lines in place of a close, {slow.so_far()}") from end


# What takes nothing


def stalled_download(rate):
    """Ten seconds without progress are enough."""
    with tempfile.TemporaryDirectory() as site:
        Path(site, "file").write_bytes(b"x" * 20_000_000)
        case = Case(rate, "--staticdir", site, "cat")
        connection = case.link.connect(case.port, receive_buffer=4096)
        connection.sendall(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        case.gone(time.monotonic(), 6, 10)


def stalled_at_the_end(rate, buffer=None):
    """A close waits for five seconds, wherever the data before it is held."""
    count = 2000 if buffer is None else 300
    case = Case(rate, *SAYS, "go", count, 1000, "exit", buffer=buffer)
    peer = case.join(receive_buffer=4096)
    peer.send(b"go")
    case.server.wait_for("program ended")
    case.gone(time.monotonic(), 3, 7)


def stalled_at_the_end_in_the_kernel(rate):
    """The same where the kernel has taken everything."""
    stalled_at_the_end(rate, LARGE)


def stalled_joiner(rate):
    """A joiner that does not take the history is behind as soon as the queue is full, and then out of patience."""
    # Half a megabyte a second, so that the queue is full after one.
    ticks = ("tick", "0.002", "1000")
    options = ("--cache", "65536", "--maxqueue", "256k", "--patience", "1", "--ping", "0")
    case = Case(rate, *options, *SAYS, "now", 300, 700, *ticks)
    other = case.join_nearby()
    watch = Watch(other, other.number() + 1, 0.002)
    joiner = case.join(receive_buffer=4096)
    # Its patience, and then five seconds for the close.
    case.gone(time.monotonic(), 3, 1 + 1 + 5, others=1)
    joiner.socket.close()
    longest = watch.stop()
    assert longest < 1.5, f"somebody else got nothing for {longest:.2f} s, in spite of --patience 1"


def stalled_ping(rate, count=0):
    """Three intervals without a sign of life, with nothing in front of the ping."""
    case = Case(rate, "--ping", "2", *SAYS, "go", count, 1000, "echo")
    peer = case.join(receive_buffer=4096)
    peer.send(b"go")
    case.gone(time.monotonic(), 4, 6)


def stalled_ping_behind_a_backlog(rate):
    """The same with more in front of it than the client's kernel takes."""
    stalled_ping(rate, 1000)


def vanished_while_its_program_is_deaf(rate):
    """A client that is gone is noticed within three intervals although its messages are not read; others stay."""
    case = Case(rate, "--ping", "2", *SAYS, "now", 0, 0, "deaf")
    there, gone = case.join_nearby("one"), case.join("two")
    for peer in (there, gone):
        fill(peer)
    case.link.cut()
    case.gone(time.monotonic(), 1, 6, others=1)
    time.sleep(2 * 3)
    assert case.connections() == 1, "a client that is there was given up"


def fill(peer):
    """Sends until nothing is taken for a second."""
    peer.socket.settimeout(1)
    message = bytes([0x81, 0xFE]) + struct.pack(">H", 1000) + b"\0\0\0\0" + b"x" * 1000
    try:
        while True:
            peer.socket.sendall(message)
    except TimeoutError:
        peer.socket.settimeout(60)


RATES = {"160 kbit/s": 20_000, "1 Mbit/s": 125_000, "8 Mbit/s": 1_000_000}
# A case, and the links on which it is tried. Who takes nothing takes nothing of any link.
AT_EACH = [download, burst_then_exit, burst_then_exit_while_the_client_talks, history, ping, told]
AT_ONE = [
    stalled_download,
    stalled_at_the_end,
    stalled_at_the_end_in_the_kernel,
    stalled_joiner,
    stalled_ping,
    stalled_ping_behind_a_backlog,
    vanished_while_its_program_is_deaf,
]
CASES = [(case.__name__, rate) for case in AT_EACH for rate in RATES]
CASES += [(case.__name__, "1 Mbit/s") for case in AT_ONE]


if __name__ == "__main__":
    name, rate = sys.argv[1:]
    globals()[name](RATES[rate])
