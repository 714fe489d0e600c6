"""Runs the system tests, quietly: `run.py [NAME…]`. Bounded in time; ends with a count."""

import faulthandler
import os
import sys
import time
import unittest
from pathlib import Path

# Seconds for all; then every thread says where it stands, and the processes end with us.
LIMIT = 300

sys.path.insert(0, str(Path(__file__).resolve().parent))
faulthandler.dump_traceback_later(LIMIT, exit=True)


class Result(unittest.TextTestResult):
    """Counts what passed, and can say how long each test took."""

    passed = 0

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        if os.environ.get("TIMES"):
            print(f"{time.monotonic() - self.began:6.2f} s  {test.id()}", file=sys.stderr)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main():
    loader = unittest.TestLoader()
    if sys.argv[1:]:
        suite = loader.loadTestsFromNames(sys.argv[1:])
    else:
        suite = loader.discover(str(Path(__file__).resolve().parent))
    runner = unittest.TextTestRunner(verbosity=0, resultclass=Result, warnings="ignore")
    result = runner.run(suite)
    failed = len({test.id().partition(" (")[0] for test, _ in result.failures + result.errors})
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    # That nothing ran is no success.
    sys.exit(0 if result.wasSuccessful() and result.passed else 1)


main()
