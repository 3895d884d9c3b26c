"""Lines for the person who waits. On stderr: stdout is the result."""

import sys
import time

_began = time.monotonic()


def say(text):
    """One line, with the seconds since the program started."""
    print(f"[{time.monotonic() - _began:6.1f} s] {text}", file=sys.stderr, flush=True)
