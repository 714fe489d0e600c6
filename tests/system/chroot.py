"""Runs a static scalesocket in a root directory that holds itself, a static program and nothing else:
`chroot.py BINARY TARGET`, as root, with Python's standard library only."""

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE = 20


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
            preexec_fn=lambda: (os.chroot(root), os.chdir("/"), os.setgid(65534), os.setuid(65534)),
            env={},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            port = re.search(r"listening on 127\.0\.0\.1:(\d+)", server.stderr.readline())[1]
            echo(int(port))
            server.terminate()
            status = server.wait(PATIENCE)
            assert status == 0, f"exit status {status}: {server.stderr.read()}"
        finally:
            server.kill()
            server.wait()
    print(f"{binary} serves in an empty root directory")


def echo(port):
    """One websocket conversation by hand (RFC 6455)."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(
            f"GET /room HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
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


main(*sys.argv[1:])
