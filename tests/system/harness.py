"""Servers, and other processes that print when they are ready: started, waited for, ended by pid."""

import ctypes
import os
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
BINARY = os.environ.get("SCALESOCKET") or str(
    Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / "debug" / "scalesocket"
)
# Seconds that anything may take before a test gives up.
PATIENCE = 20

os.environ["PATH"] += ":/usr/sbin:/sbin"
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def end_with_us():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """A process whose standard error is read line by line. `stop` ends it and nothing else."""

    def __init__(self, *command, **options):
        self.lines = []
        self._news = queue.Queue()
        self.popen = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            preexec_fn=end_with_us,
            **options,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.popen.stderr:
            self._news.put(line.rstrip("\n"))
        self._news.put(None)

    def wait_for(self, pattern):
        """The match of the next line that fits."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._news.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                said = "\n".join(self.lines)
                raise AssertionError(f"{self.popen.args[0]} never said {pattern!r}; it said:\n{said}")
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match

    def wait(self):
        """Its exit status."""
        return self.popen.wait(PATIENCE)

    def stop(self):
        """Ends it as a user would; its exit status."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(PATIENCE)
            raise
        finally:
            self._reader.join(PATIENCE)
            self.popen.stderr.close()


class Server(Process):
    """A scalesocket that listens; on a port that the system picks, unless it is told otherwise."""

    def __init__(self, *arguments, address="127.0.0.1:0", **options):
        super().__init__(BINARY, "--addr", address, *arguments, **options)
        try:
            self.address = self.wait_for(r"listening on (\S+)")[1]
        except BaseException:
            self.stop()
            raise

    def url(self, room="room"):
        return f"ws://{self.address}/{room}"


def example(name):
    """The arguments of the command line that an example's first lines give, without the address."""
    directory = TOP / "examples" / name
    program = directory / f"{name}.py"
    text = (program if program.exists() else directory / "index.html").read_text()
    command = re.search(r"^ +scalesocket (.*(?<=\\)\n)*.*$", text, re.MULTILINE)[0].replace("\\\n", "")
    words = shlex.split(command)[1:]
    assert words[:2] == ["--addr", "localhost:9000"], words
    return words[2:]


def free_port():
    """A port for a program that cannot pick one itself."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(condition, what, pause=0.02):
    """Waits for something that sends no event."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(pause)
    raise AssertionError(f"never happened: {what}")


def is_alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid):
    """Its children's pids, by name of their program."""
    found = {}
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in entry.read_text().split():
            found[int(child)] = Path(f"/proc/{child}/comm").read_text().strip()
    return found


def tool(name):
    """The path of a tool that `prepare` has installed."""
    found = shutil.which(name)
    assert found, f"{name} is not here; run tests/system/prepare"
    return found
