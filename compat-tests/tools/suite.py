"""Runs Kafka's own command-line tools against a broker, and with --compare against a real Kafka at the same time.

Each case is a function of tools/cases.py, or with --nodes 3 of tools/cluster_cases.py; both sides go through it step by
step. A case passes when every step kept its own promises (exit code, expected lines), and with --compare when both
outputs are equal after tools/normalise.py. What was printed is kept beside the logs (run.py --keep).
"""

import argparse
import difflib
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cases  # noqa: E402
import cluster_cases  # noqa: E402
import normalise  # noqa: E402
from harness.broker import exit_on_sigterm  # noqa: E402
from harness.report import Report, log  # noqa: E402
from session import Session  # noqa: E402
from cluster_session import ClusterSession  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compare", action="store_true", help="also run against a real Kafka and compare")
    parser.add_argument("--nodes", type=int, choices=[1, 3], default=1, help="1: cases.py; 3: cluster_cases.py")
    parser.add_argument("cases", nargs="*", help="only these cases")
    options = parser.parse_args()
    exit_on_sigterm()
    work, scripts = os.environ["OTTLA_WORK"], os.environ["OTTLA_KAFKA_SCRIPTS"]
    kinds = [os.environ.get("OTTLA_TARGET", "ottla")]
    if options.compare and "kafka" not in kinds:
        kinds.append("kafka")
    against, todo = (ClusterSession, cluster_cases.CASES) if options.nodes == 3 else (Session, cases.CASES)
    sessions = [against(kind, work, scripts) for kind in kinds]
    report = Report()
    try:
        together(sessions, lambda session: session.open())
        sessions[0].warm_up()
        for case in todo:
            if not options.cases or case.__name__ in options.cases:
                run_case(case, sessions, report)
    finally:
        for session in sessions:
            session.close()
    return report.exit_code()


def together(sessions, work):
    """Does the same with every session at once; raises what the first of them raised."""
    errors = []

    def guarded(session):
        try:
            work(session)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def run_case(case, sessions, report):
    """One case on all brokers: the promises of each, then the comparison."""
    for session in sessions:
        session.outcomes, session.problems = {}, {}
    with report.check(case.__name__):
        together(sessions, case)
        for session in sessions:
            session.write_outcomes(case.__name__)
            for label, problem in session.problems.items():
                log(f"{session.kind} {case.__name__}/{label}: {problem}")
        broken = sum(len(session.problems) for session in sessions)
        if broken:
            raise AssertionError(f"{broken} of {len(sessions[0].outcomes)} steps broke a promise")
    report.figure(f"steps-{case.__name__}", len(sessions[0].outcomes), "steps")
    if len(sessions) == 2:
        with report.check(f"{case.__name__}-as-kafka"):
            (compare_apis if case is cases.versions else compare)(sessions, case.__name__, report)


def compare(sessions, name, report):
    """Both outputs of every step, line by line."""
    ours, theirs = sessions
    different = 0
    for label, outcome in ours.outcomes.items():
        expected = theirs.outcomes[label].shown()
        if outcome.shown() != expected:
            different += 1
            log(f"{name}/{label} differs:")
            for line in difflib.unified_diff(expected, outcome.shown(), "kafka", "ottla", lineterm="", n=1):
                log("   " + line)
    if different:
        raise AssertionError(f"{different} of {len(ours.outcomes)} outputs differ")


# Kafka advertises these once a plugin of its operator takes what clients push (KIP-714).
WITH_A_PLUGIN = {"GetTelemetrySubscriptions", "PushTelemetry"}


def compare_apis(sessions, name, report):
    """APIs that are not built yet are not advertised: each range must lie within Kafka's, never outside."""
    ours, theirs = (normalise.api_ranges(session.outcomes["versions"].lines) for session in sessions)
    equal = narrower = missing = 0
    wrong = []
    for api in sorted(set(ours) | set(theirs)):
        mine, full = ours.get(api), theirs.get(api)
        if mine == full:
            equal += 1
        elif mine is None:
            missing += 1
        elif full is None and api[1] in WITH_A_PLUGIN:
            log(f"{api[1]}: {mine[0]} to {mine[1]}, Kafka only with a plugin")
        elif full is None or mine[0] < full[0] or mine[1] > full[1]:
            wrong.append(f"{api[1]} {mine}, Kafka {full}")
        else:
            narrower += 1
            log(f"{api[1]}: {mine[0]} to {mine[1]}, Kafka {full[0]} to {full[1]}")
    for word, count in (("equal", equal), ("narrower", narrower), ("absent", missing)):
        report.figure(f"apis-{word}", count, "APIs")
    if wrong:
        raise AssertionError("advertised but not in Kafka: " + "; ".join(wrong))


if __name__ == "__main__":
    sys.exit(main())
