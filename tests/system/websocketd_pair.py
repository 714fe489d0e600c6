"""Debian's websocketd and ours: the same command line, the same requests, and what came of them in one form."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from harness import BINARY, PATIENCE, end_with_us, free_port, tool

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Websocketd:
    """One of the two, serving on a free port of 127.0.0.1. Its log is in `log`."""

    def __init__(self, command, *flags, cwd=None, environment=None):
        self.port = free_port()
        self.out = tempfile.TemporaryFile("a+")
        self.popen = subprocess.Popen(
            [*command, f"--port={self.port}", "--address=127.0.0.1", *map(str, flags)],
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=subprocess.DEVNULL,
            cwd=cwd,
            env=environment,
            preexec_fn=end_with_us,
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self.popen.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{command} does not listen: {self.log()}") from None
                time.sleep(0.02)

    def log(self):
        self.out.seek(0)
        return self.out.read()

    def stop(self):
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.out.close()

    def connect(self, path="/", *fields, host=None, protocol=None):
        return Client(self.port, path, fields, host, protocol)

    def http(self, path, *fields, method="GET", body=b"", host=None, version="1.1"):
        """Status, header fields by lower-case name, body."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as stream:
            head = [f"{method} {path} HTTP/{version}", f"Host: {host or f'127.0.0.1:{self.port}'}"]
            head += ["Connection: close", *fields]
            stream.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
            return response(read_all(stream))


def read_all(stream):
    parts = []
    while part := stream.recv(65536):
        parts.append(part)
    return b"".join(parts)


def response(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if fields.get("transfer-encoding") == "chunked":
        whole, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            size = int(size.partition(b";")[0], 16)
            if not size:
                break
            whole, rest = whole + rest[:size], rest[size + 2 :]
        body = whole
    return int(first.split()[1]), fields, body


class Client:
    """A websocket of the plainest kind, so that what is sent and what comes is seen to the byte."""

    def __init__(self, port, path, fields, host, protocol):
        self.stream = socket.create_connection(("127.0.0.1", port), PATIENCE)
        head = [
            f"GET {path} HTTP/1.1",
            f"Host: {host or f'127.0.0.1:{port}'}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
            *fields,
        ]
        self.stream.sendall("\r\n".join([*head, "", ""]).encode("latin-1"))
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            part = self.stream.recv(65536)
            if not part:
                break
            self.rest += part
        self.head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        self.status = int(self.head.split()[1]) if self.head else None
        if self.status != 101:
            length = re.search(rb"(?i)content-length: (\d+)", self.head)
            while length and len(self.rest) < int(length[1]):
                self.rest += self.stream.recv(65536)

    def send(self, text, opcode=1):
        data = text.encode() if isinstance(text, str) else text
        mask = b"\1\2\3\4"
        size = len(data)
        if size < 126:
            head = bytes([0x80 | opcode, 0x80 | size])
        elif size < 65536:
            head = bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2, "big")
        else:
            head = bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8, "big")
        body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.stream.sendall(head + mask + body)

    def _exactly(self, size):
        while len(self.rest) < size:
            part = self.stream.recv(65536)
            if not part:
                return None
            self.rest += part
        part, self.rest = self.rest[:size], self.rest[size:]
        return part

    def take(self):
        """The next frame as (opcode, payload); None at the end of the connection."""
        try:
            head = self._exactly(2)
            if head is None:
                return None
            size = head[1] & 127
            if size >= 126:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
            return head[0] & 15, self._exactly(size)
        except ConnectionResetError:
            return None

    def texts(self):
        """All messages up to the end, and the code of the close frame (None: there was none)."""
        found = []
        while (frame := self.take()) is not None:
            if frame[0] == 8:
                return found, int.from_bytes(frame[1][:2], "big") if frame[1] else 1005
            if frame[0] in (1, 2):
                found.append(frame[1].decode("utf-8", "replace"))
        return found, None

    def close(self):
        self.stream.close()


def theirs():
    return [tool("websocketd")]


def ours(directory):
    """Ours under its name: a link, as `make install` makes it."""
    link = Path(directory) / "websocketd"
    if not link.exists():
        link.symlink_to(BINARY)
    return [str(link)]


# The whole environment of both.
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "LANG": "C.UTF-8"}
