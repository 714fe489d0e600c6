"""Says numbered lines: `says.py BEFORE COUNT LENGTH AFTER [PERIOD [LENGTH]]`.

BEFORE: `go` waits for a line first, `now` does not. AFTER: `exit` ends with status 0, `echo` gives back what comes,
`tick` says one more line every PERIOD seconds, `deaf` reads nothing.
"""

import sys
import time


def say(number, length):
    text = f"{number} "
    sys.stdout.write(text + "x" * (length - len(text)) + "\n")


def main(before, count, length, after, period="1", tick="0"):
    if before == "go":
        sys.stdin.readline()
    for number in range(int(count)):
        say(number, int(length))
    sys.stdout.flush()
    number = int(count)
    if after == "echo":
        for line in sys.stdin:
            sys.stdout.write(line)
            sys.stdout.flush()
    while after in ("tick", "deaf"):
        time.sleep(float(period))
        if after == "tick":
            say(number, int(tick))
            sys.stdout.flush()
            number += 1


main(*sys.argv[1:])
