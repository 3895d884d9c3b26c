"""Three real nodes under load, and what may happen to processes, networks, disks and clocks.

Each check is one scenario of docs/chaos.md in a cluster of its own: load, a fault, what must be seen while it lasts,
its end, and the verdict (`bed.py`). A scenario's docstring begins with its number and says what would make it fail.
"""

import argparse
import os
import sys
from pathlib import Path

import clocks
import connections
import disks
import groups
import mix
import movements
import networks
import processes
import upgrades
import voters
from bed import Bed
from harness.broker import exit_on_sigterm
from harness.report import Report, log

GROUPS = [processes, networks, movements, voters, groups, connections, disks, clocks, upgrades,
          mix]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names of scenarios, comma-separated; all if empty")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is played")
    parser.add_argument("--mix", type=float, default=60, help="seconds of everything at once")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn for it")
    options = parser.parse_args()
    exit_on_sigterm()
    report = Report()
    scenarios = [scenario for group in GROUPS for scenario in group.SCENARIOS]
    only = [name for name in options.only.split(",") if name]
    unknown = set(only) - {name for name, _, _ in scenarios}
    if unknown:
        parser.error(f"no such scenario: {' '.join(sorted(unknown))}")
    for turn in range(options.rounds):
        os.environ.update(CHAOS_MIX_S=str(options.mix), CHAOS_SEED=str(options.seed + turn))
        for name, scenario, layout in scenarios:
            if not only or name in only:
                with report.check(name):
                    play(name, scenario, layout, Path(os.environ["OTTLA_WORK"]) / f"{name}-{turn}", report)
    return report.exit_code()


def play(name, scenario, layout, work, report):
    """One scenario from an empty directory to its verdict."""
    with Bed(work, **layout) as bed:
        scenario(bed, report)
        log(f"{name}: {bed.verdict()} records acknowledged")


if __name__ == "__main__":
    sys.exit(main())
