"""The language in which a suite program tells the driver what it found: one line for each fact, on stdout.

    check <name> ok|failed|skipped [why]
    figure <name> <value> <unit>

Everything else a program prints is log. Clients in other languages print the same lines themselves.
"""

import sys
import time
import traceback
from contextlib import contextmanager


class Skipped(Exception):
    """Raised inside a check that does not apply to this client; carries the reason."""


class Report:
    """Counts the checks of one program and gives its exit code."""

    def __init__(self):
        self.failed = 0

    @contextmanager
    def check(self, name):
        """Runs the block as one check. A failure is reported and does not stop the checks that follow."""
        started = time.monotonic()
        try:
            yield
        except Skipped as why:
            print(f"check {name} skipped {why}", flush=True)
        except Exception as error:
            self.failed += 1
            traceback.print_exc()
            sys.stderr.flush()
            text = " ".join(str(error).split())[:300]
            print(f"check {name} failed {type(error).__name__}: {text}", flush=True)
        else:
            print(f"check {name} ok {time.monotonic() - started:.1f} s", flush=True)

    def figure(self, name, value, unit):
        """States a measured number."""
        print(f"figure {name} {value} {unit}", flush=True)

    def exit_code(self):
        """0 when every check passed."""
        return 1 if self.failed else 0


def log(text):
    """A line for a person who reads the log."""
    print(f"# {text}", flush=True)
