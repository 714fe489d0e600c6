"""As process 1 of a container the server reaps the orphans that it inherits."""

import os
import signal
import unittest

from clients import PythonClients
from harness import BINARY, Process, children, until

# The subshell exits at once, so its child is an orphan while it sleeps.
PROGRAM = "(sleep 1 &); echo started; cat"


@unittest.skipUnless(os.geteuid() == 0, "only root may make a PID namespace")
class ProcessOne(unittest.TestCase):
    def test_an_orphan_is_reaped_and_programs_are_left_alone(self):
        container = Process(
            "unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
            BINARY, "--addr", "127.0.0.1:0", "--", "sh", "-c", PROGRAM,
        )
        self.addCleanup(container.stop)
        address = container.wait_for(r"listening on (\S+)")[1]
        (server,) = children(container.popen.pid)
        # unshare itself takes no TERM; it ends with the server.
        self.addCleanup(container.wait)
        self.addCleanup(os.kill, server, signal.SIGTERM)
        client = PythonClients().open(f"ws://{address}/room")
        self.assertEqual(client.take(), ["started"])
        until(lambda: "sleep" in children(server).values(), "the orphan is the server's child")
        until(lambda: "sleep" not in children(server).values(), "it is reaped")
        client.send("still here")
        self.assertEqual(client.take(), ["still here"])
        client.close()
