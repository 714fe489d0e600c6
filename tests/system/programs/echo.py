"""Echoes lines. `exit N` ends it with that status, `die` by a signal; `room` asks for its room."""

import os
import signal
import sys

for line in sys.stdin:
    line = line.removesuffix("\n")
    if line.startswith("exit "):
        print("last words", end="", flush=True)
        sys.exit(int(line.removeprefix("exit ")))
    if line == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if line == "room":
        line = f"{os.environ['ROOM']} {os.environ['QUERY_STRING']}"
    print(line, flush=True)
