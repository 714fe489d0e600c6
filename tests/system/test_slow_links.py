"""Clients on slow links: who takes bytes all the time is alive, and who takes none is gone in time."""

import subprocess
import sys
import time
import unittest

from harness import HERE, end_with_us
from slow_link import unavailable
from slow_link_cases import CASES

# Seconds for the longest case, on a machine that is busy with the others.
LIMIT = 90


class SlowLinks(unittest.TestCase):
    """All cases run side by side, each in a process of its own: most of their time is waiting."""

    @classmethod
    def setUpClass(cls):
        if reason := unavailable():
            raise unittest.SkipTest(f"no slow link can be made: {reason}")
        cls.deadline = time.monotonic() + LIMIT
        cls.processes = {}
        for case in CASES:
            cls.processes[case] = subprocess.Popen(
                [sys.executable, HERE / "slow_link_cases.py", *case],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=end_with_us,
            )
            cls.addClassCleanup(cls.end, cls.processes[case])

    @staticmethod
    def end(process):
        process.kill()
        process.communicate()


def test(case):
    def run(self):
        process = self.processes[case]
        try:
            said, _ = process.communicate(timeout=max(0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.fail(f"not done after {LIMIT} s")
        self.assertEqual(process.returncode, 0, "\n" + said)

    return run


for case in CASES:
    name = "_".join(case).replace(" ", "_").replace("/", "_per_")
    setattr(SlowLinks, f"test_{name}", test(case))
