"""Runs a static scalesocket in a root directory that holds itself, a static program and nothing else:
`chroot.py BINARY TARGET`, as root, with Python's standard library only."""

import base64
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE = 20

# The soft limit on open files: half of it in use, the server raises its own, and starts programs through its file.
SOFT = 256


def main(binary, target):
    if os.geteuid() != 0:
        sys.exit("chroot.py: NOT RUN: only root may change the root directory")
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        shutil.copy(binary, Path(root, "scalesocket"))
        subprocess.run(
            ["rustc", "--edition", "2024", "-O", "--target", target]
            + ["-o", Path(root, "echo"), HERE / "echo.rs"],
            check=True,
        )
        assert sorted(os.listdir(root)) == ["echo", "scalesocket"]
        server = subprocess.Popen(
            ["/scalesocket", "--addr", "127.0.0.1:0", "/echo"],
            preexec_fn=lambda: enter(root),
            env={},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            port = re.search(r"listening on 127\.0\.0\.1:(\d+)", server.stderr.readline())[1]
            echo(int(port), server.pid)
            crowd = [socket.create_connection(("127.0.0.1", int(port)), PATIENCE) for _ in range(SOFT // 2)]
            echo(int(port), server.pid)
            assert limit(server.pid) != SOFT, "the server's limit on open files is as it was"
            for client in crowd:
                client.close()
            server.terminate()
            status = server.wait(PATIENCE)
            assert status == 0, f"exit status {status}: {server.stderr.read()}"
        finally:
            server.kill()
            server.wait()
    print(f"{binary} serves in an empty root directory")


def enter(root):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard))
    os.chroot(root)
    os.chdir("/")
    os.setgid(65534)
    os.setuid(65534)


def limit(pid):
    """The soft limit on open files of a process."""
    return int(re.search(r"^Max open files\s+(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.M)[1])


def programs(server):
    """The process numbers of the server's programs."""
    lists = Path(f"/proc/{server}/task").glob("*/children")
    return {int(pid) for children in lists for pid in children.read_text().split()}


def echo(port, server):
    """One websocket conversation by hand (RFC 6455), in a room of its own, whose program has the limit of the
    start."""
    before = programs(server)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(
            f"GET /{os.urandom(4).hex()} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        stream = client.makefile("rb")
        status = stream.readline()
        assert b" 101 " in status, status
        while stream.readline() != b"\r\n":
            pass
        # A mask of zeros leaves the text as it is.
        client.sendall(b"\x81\x85\0\0\0\0hello")
        answer = stream.read(7)
        assert answer == b"\x81\x05hello", answer
        (program,) = programs(server) - before
        assert limit(program) == SOFT, f"a program's limit on open files is {limit(program)}"


main(*sys.argv[1:])
