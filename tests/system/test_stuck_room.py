"""The end of a server while a room's thread does nothing: held by a tracer, as a debugger does, in place of work that
does not end."""

import ctypes
import errno
import os
import signal
import time
import unittest
from pathlib import Path

from clients import PythonClients
from harness import Server, is_alive, until

PTRACE_ATTACH, WALL = 16, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

# Neither of its processes ends by itself, at the end of its input or at a signal that can be ignored.
STUBBORN = "trap '' TERM INT HUP QUIT; sleep 1000 & echo $$ $!; while :; do sleep 1; done"


class StuckRoom(unittest.TestCase):
    def setUp(self):
        self.server = Server("-v", "--grace", "0.5", "sh", "--", "-c", STUBBORN)
        self.processes, self.thread = [], None
        self.addCleanup(self.end)
        client = PythonClients().open(self.server.url())
        (told,) = client.take()
        self.processes = [int(word) for word in told.split()]
        # What becomes of the client is another matter.
        self.addCleanup(client.socket.socket.close)

    def end(self):
        for process in self.processes:
            if is_alive(process):
                os.kill(process, signal.SIGKILL)
        self.server.popen.kill()
        self.wait_for_thread()
        self.server.stop()

    def wait_for_thread(self):
        """Waits for the end of the thread that is held: it is reported to the tracer before the server's is."""
        if self.thread:
            until(lambda: os.waitpid(self.thread, WALL | os.WNOHANG)[0], "the server ends")
            self.thread = None

    def hold(self, name):
        """Stops one thread of the server, and no other."""
        tasks = Path(f"/proc/{self.server.popen.pid}/task").iterdir()
        (thread,) = [int(task.name) for task in tasks if (task / "comm").read_text().strip() == name]
        if _libc.ptrace(PTRACE_ATTACH, thread, None, None):
            self.skipTest(f"a thread cannot be traced: {errno.errorcode[ctypes.get_errno()]}")
        self.thread = thread
        os.waitpid(thread, WALL)

    def assert_server_ends_with_1_and_nothing_is_left(self):
        self.wait_for_thread()
        self.assertEqual(self.server.wait(), 1)
        # What is killed is gone in a moment.
        until(lambda: not any(is_alive(process) for process in self.processes), "no program outlives the server")

    def test_a_program_whose_room_does_nothing_is_killed_by_the_server_s_last_act(self):
        self.hold("read room")
        self.server.popen.terminate()
        self.assert_server_ends_with_1_and_nothing_is_left()

    def test_a_program_whose_room_does_nothing_is_killed_at_the_second_signal(self):
        self.hold("read room")
        self.server.popen.terminate()
        self.server.wait_for("shutting down")
        # One that comes sooner is the first one still.
        time.sleep(0.2)
        self.server.popen.terminate()
        self.assert_server_ends_with_1_and_nothing_is_left()
