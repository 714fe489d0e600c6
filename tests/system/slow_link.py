"""A link that is slow: two network namespaces of our own, and between them a rate, a delay and a queue.

The link is a tun device in each namespace, and a thread that carries packets from one to the other. So it needs
nothing of the kernel but namespaces and tun (no netem, which many kernels lack), and everything of it goes when
this process ends, however it ends. Needs root and `ip`.

What goes to the client passes the slow direction; what comes from it is carried at once. The queue in front of
the slow direction holds as many packets as Linux gives a device of its own (100), but no more than what takes a
second: at 160 kbit/s a hundred packets would be a delay of seven, and would hide what is tested.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from pathlib import Path

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
# Bytes of the largest packet of a tun device, as of Ethernet.
MTU = 1500
QUEUE = 100
# Seconds in which packets are gathered; so much is the delay inexact.
STEP = 0.004

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result:
        raise OSError(ctypes.get_errno(), what)


class Namespace:
    """A network namespace, there for as long as a process is in it or this is held."""

    def __init__(self):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            _check(_libc.setns(home, CLONE_NEWNET), "setns")
        finally:
            os.close(home)
        self.ip("link", "set", "lo", "up")

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the namespace: what it starts stays there, and so do sockets that it makes."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, CLONE_NEWNET), "setns")
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET), "setns")
            os.close(home)

    def ip(self, *words):
        with self.inside():
            subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def sysctl(self, name, value):
        with self.inside():
            Path("/proc/sys/net/ipv4", name).write_text(value)

    def tun(self, address, peer):
        """The descriptor of a new device that has this address, with the other one behind it."""
        with self.inside():
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"slow0", IFF_TUN | IFF_NO_PI))
        self.ip("addr", "add", address, "peer", peer, "dev", "slow0")
        self.ip("link", "set", "dev", "slow0", "up", "mtu", str(MTU))
        return fd


class Pipe:
    """One direction: a queue, a rate in bytes a second behind it, a delay in seconds behind that."""

    def __init__(self, rate, delay):
        self.rate, self.delay = rate, delay
        self.limit = min(QUEUE, max(4, rate // MTU))
        self._free = 0.0
        self._waiting, self._flying = deque(), deque()

    def put(self, packet, now):
        while self._waiting and self._waiting[0] <= now:
            self._waiting.popleft()
        if len(self._waiting) >= self.limit:
            return
        self._free = max(self._free, now) + len(packet) / self.rate
        self._waiting.append(self._free)
        self._flying.append((self._free + self.delay, packet))

    def next(self):
        return self._flying[0][0] if self._flying else None

    def arrived(self, now):
        while self._flying and self._flying[0][0] <= now:
            yield self._flying.popleft()[1]


class Link:
    """A server's namespace, a client's, and the link. `rate` in bytes a second, `delay` in seconds.

    `buffer`: what the server's kernel takes for a connection from its beginning, in bytes; it would grow to that
    in the course of a longer transfer (tcp_wmem, tcp(7)). Without it, the system's default.
    """

    def __init__(self, rate, delay=0.1, buffer=None):
        self.server, self.client = Namespace(), Namespace()
        for side in (self.server, self.client):
            # What Linux uses unless it is told otherwise, whatever this machine is told.
            with contextlib.suppress(OSError):
                side.sysctl("tcp_congestion_control", "cubic")
        if buffer:
            self.server.sysctl("tcp_wmem", f"4096 {buffer} {buffer}")
        self._ends = self.server.tun(SERVER, CLIENT), self.client.tun(CLIENT, SERVER)
        self._down = Pipe(rate, delay)
        self._is_cut = False
        threading.Thread(target=self._carry, daemon=True).start()

    def cut(self):
        """From now on nothing arrives at either side, and neither is told."""
        self._is_cut = True

    def _carry(self):
        near, far = self._ends
        poll = select.poll()
        for end in self._ends:
            poll.register(end, select.POLLIN)
        while True:
            due = self._down.next()
            # Rounded up: poll counts in milliseconds, and would spin.
            wait = None if due is None else max(0, int((due - time.monotonic()) * 1000) + 1)
            ready = {fd for fd, _ in poll.poll(wait)}
            # Several packets at a time, or this thread is what is slow.
            time.sleep(STEP)
            now = time.monotonic()
            if near in ready:
                for packet in self._packets(near):
                    self._down.put(packet, now)
            if far in ready:
                for packet in self._packets(far):
                    self._deliver(near, packet)
            for packet in self._down.arrived(now):
                self._deliver(far, packet)

    @staticmethod
    def _packets(end):
        for _ in range(64):
            try:
                yield os.read(end, MTU)
            except BlockingIOError:
                return

    def _deliver(self, end, packet):
        if not self._is_cut:
            # A packet that the other side has no room for is lost, as on any link.
            with contextlib.suppress(OSError):
                os.write(end, packet)

    def connect(self, port, receive_buffer=None, timeout=60):
        """A socket of the client's, over the link."""
        return self._connect(self.client, (SERVER, port), receive_buffer, timeout)

    def connect_nearby(self, port, timeout=60):
        """A socket beside the server, past the link."""
        return self._connect(self.server, ("127.0.0.1", port), None, timeout)

    @staticmethod
    def _connect(side, address, receive_buffer, timeout):
        with side.inside():
            connection = socket.socket()
        connection.settimeout(timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            # Before connecting: the window's scale is agreed on then (tcp(7)).
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(address)
        return connection


def unavailable():
    """Why there can be no such link here, or nothing."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    try:
        Link(1_000_000)
    except FileNotFoundError as missing:
        return f"{missing.filename} is not here"
    except (OSError, subprocess.CalledProcessError) as refused:
        return f"no network namespace with a tun device: {getattr(refused, 'stderr', None) or refused}"
    return None
