"""What operators of a cluster do: where replicas are, who leads, who votes, what is said while a node is down.

As in cases.py, every function runs on every cluster alike. Where Kafka places replicas by chance they are assigned.
"""

import json

import normalise

TOPICS, CONFIGS, GROUPS = "kafka-topics", "kafka-configs", "kafka-consumer-groups"
PRODUCE, OFFSETS, LOG_DIRS = "kafka-console-producer", "kafka-get-offsets", "kafka-log-dirs"
FEATURES, ELECT, REASSIGN = "kafka-features", "kafka-leader-election", "kafka-reassign-partitions"
QUORUM, CLUSTER = "kafka-metadata-quorum", "kafka-cluster"
KEYED = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]
FILTERS = ("under-replicated", "under-min-isr", "at-min-isr", "unavailable")
# More than a follower is given before its throttle counts, so that a slow move is still under way when it is looked at.
BULKY = ("--record-size", "10000", "--num-records", "1500", "--throughput", "-1", "--reporting-interval", "600000")


def create(s, topic, assignment, *settings, label=None):
    """A topic whose replicas are where the case wants them."""
    more = [part for setting in settings for part in ("--config", setting)]
    s.step(label or f"create-{topic}", TOPICS, "--create", "--topic", topic, "--replica-assignment", assignment, *more)


def describe(s, label, topic, **rest):
    """What kafka-topics says of one topic."""
    s.step(label, TOPICS, "--describe", "--topic", topic, **rest)


def filters(s, label, which=FILTERS):
    """What each filter of kafka-topics finds in the whole cluster."""
    for one in which:
        s.step(f"{label}-{one}", TOPICS, "--describe", "--exclude-internal", f"--{one}-partitions", unordered=True)


def await_full_isr(s, label, topic, size):
    """Waits until every replica of a topic is in sync."""

    def full(lines):
        found = [line.split("Isr: ")[1].split(" ")[0] for line in lines if "Isr: " in line]
        return found and all(len(isr.split(",")) == size for isr in found)

    s.until(label, full, TOPICS, "--describe", "--topic", topic, view=normalise.sorted_isr)


def plan(s, name, *partitions):
    """A file of a reassignment: (topic, partition, replicas) or (topic, partition, replicas, directories)."""
    wanted = []
    for topic, partition, replicas, *directories in partitions:
        one = {"topic": topic, "partition": partition, "replicas": replicas}
        wanted.append({**one, "log_dirs": directories[0]} if directories else one)
    return "--reassignment-json-file", s.file(f"{name}.json", json.dumps({"version": 1, "partitions": wanted}))


def await_verified(s, label, path, *more):
    """Waits until kafka-reassign-partitions finds a plan carried out."""

    def done(lines):
        return not any("still in progress" in line or "failed" in line for line in lines) and lines

    s.until(label, done, REASSIGN, "--verify", *path, *more, unordered=True)


def brokers(s):
    """kafka-cluster and kafka-broker-api-versions: three nodes, through each of them."""
    s.step("api-versions", "kafka-broker-api-versions", view=normalise.brokers_of_versions)
    for number in (1, 2, 3):
        with s.through(number):
            s.step(f"endpoints-{number}", f"{CLUSTER} list-endpoints", unordered=True,
                   expect=[rf"^{n} 127\.0\.0\.1 <port of node-{n}> null" for n in (1, 2, 3)])
            s.step(f"api-versions-{number}", "kafka-broker-api-versions", view=normalise.brokers_of_versions)
    s.step("cluster-id", f"{CLUSTER} cluster-id", view=normalise.cluster)
    s.step("endpoints-with-fenced", f"{CLUSTER} list-endpoints", "--include-fenced-brokers", unordered=True)
    s.step("unregister-unknown", f"{CLUSTER} unregister", "--id", "77", code=None)
    with s.through(controllers=True):
        s.step("controllers", f"{CLUSTER} list-endpoints", unordered=True)
        s.step("controllers-with-fenced", f"{CLUSTER} list-endpoints", "--include-fenced-brokers", code=None,
               unordered=True)
        s.step("controllers-cluster-id", f"{CLUSTER} cluster-id", view=normalise.cluster)
        s.step("controllers-unregister-unknown", f"{CLUSTER} unregister", "--id", "77", code=None)


def topics(s):
    """kafka-topics: assignments, placement, filters while all is well."""
    create(s, "spread", "1:2:3,2:3:1,3:1:2")
    describe(s, "describe-spread", "spread", expect=["Partition: 2 Leader: 3 Replicas: 3,1,2 Isr: 3,1,2"])
    for number in (1, 2, 3):
        with s.through(number):
            describe(s, f"describe-through-{number}", "spread")
    made = ("--create", "--topic")
    s.step("create-placed", TOPICS, *made, "placed", "--partitions", "6", "--replication-factor", "3")
    describe(s, "describe-placed", "placed", view=normalise.placement)
    s.step("create-four-copies", TOPICS, *made, "four", "--replication-factor", "4", code=1)
    s.step("create-no-copies", TOPICS, *made, "none", "--replication-factor", "0", code=1)
    for label, where in (("unknown-broker", "1:7"), ("twice-one-broker", "1:1"), ("uneven", "1:2,3"),
                         ("negative", "-1:2"), ("malformed", "1:x")):
        s.step(f"create-{label}", TOPICS, *made, label, "--replica-assignment", where, code=1)
    alter = ("--alter", "--topic", "spread", "--partitions")
    s.step("alter-assigned", TOPICS, *alter, "4", "--replica-assignment", "1:2:3,2:3:1,3:1:2,3:2:1")
    s.step("alter-fewer-copies", TOPICS, *alter, "5", "--replica-assignment", "1:2:3,2:3:1,3:1:2,3:2:1,1:2", code=1)
    s.step("alter-unknown-broker", TOPICS, *alter, "5", "--replica-assignment", "1:2:3,2:3:1,3:1:2,3:2:1,1:2:7", code=1)
    s.step("alter-too-few-assigned", TOPICS, *alter, "6", "--replica-assignment", "1:2:3,2:3:1,3:1:2,3:2:1,1:2:3",
           code=1)
    describe(s, "describe-altered", "spread")
    create(s, "strict", "1:2:3", "min.insync.replicas=3")
    create(s, "too-strict", "1:2", "min.insync.replicas=3")
    filters(s, "all-well")
    s.step("all-well-one-topic", TOPICS, "--describe", "--topic", "spread", "--at-min-isr-partitions")
    s.step("two-filters", TOPICS, "--describe", "--at-min-isr-partitions", "--under-min-isr-partitions",
           unordered=True)
    s.step("produce-too-strict", PRODUCE, "--topic", "too-strict", "--command-property", "delivery.timeout.ms=3000",
           "--command-property", "request.timeout.ms=2000", stdin="one\n", code=None)
    for topic in ("strict", "too-strict", "placed"):
        s.step(f"delete-{topic}", TOPICS, "--delete", "--topic", topic)


def configs(s):
    """kafka-configs: brokers one by one, and all of them."""
    for number in (1, 3):
        one = ("--entity-type", "brokers", "--entity-name", str(number))
        s.step(f"alter-{number}", CONFIGS, *one, "--alter", "--add-config", f"log.cleaner.threads={number}", code=None)
        s.step(f"describe-{number}", CONFIGS, *one, "--describe")
        s.step(f"delete-{number}", CONFIGS, *one, "--alter", "--delete-config", "log.cleaner.threads", code=None)
    default = ("--entity-type", "brokers", "--entity-default")
    s.step("describe-default", CONFIGS, *default, "--describe")
    s.step("describe-brokers", CONFIGS, "--entity-type", "brokers", "--describe", unordered=True)
    s.step("alter-default", CONFIGS, *default, "--alter", "--add-config", "message.max.bytes=2000000")
    with s.through(2):
        s.until("default-seen-by-2", lambda lines: any("message.max.bytes=2000000" in line for line in lines), CONFIGS,
                "--entity-type", "brokers", "--entity-name", "2", "--describe", "--all",
                view=normalise.only("message.max.bytes="))
    s.step("delete-default", CONFIGS, *default, "--alter", "--delete-config", "message.max.bytes")
    unknown = ("--entity-type", "brokers", "--entity-name", "7")
    s.step("describe-unknown", CONFIGS, *unknown, "--describe", code=None)
    s.step("alter-unknown", CONFIGS, *unknown, "--alter", "--add-config", "message.max.bytes=2000000", code=None)
    with s.through(controllers=True):
        s.step("controllers-describe-default", CONFIGS, *default, "--describe", code=None)
        s.step("controllers-alter-default", CONFIGS, *default, "--alter", "--add-config", "message.max.bytes=2000000",
               code=None)
        s.step("controllers-delete-default", CONFIGS, *default, "--alter", "--delete-config", "message.max.bytes",
               code=None)


def offsets(s):
    """kafka-get-offsets, kafka-delete-records and kafka-replica-verification over leaders on all nodes."""
    create(s, "counted", "1:2:3,2:3:1,3:1:2")
    s.step("produce", PRODUCE, "--topic", "counted", *KEYED, stdin="".join(f"{n}:value\n" for n in range(30)))
    for number in (1, 2, 3):
        with s.through(number):
            s.step(f"latest-through-{number}", OFFSETS, "--topic", "counted")
    for when in ("earliest", "0"):
        s.step(f"at-{when}", OFFSETS, "--topic", "counted", "--time", when, code=None)
    path = s.file("delete.json", json.dumps({"version": 1, "partitions": [
        {"topic": "counted", "partition": partition, "offset": 2} for partition in (0, 1, 2)]}))
    s.step("delete-records", "kafka-delete-records", "--offset-json-file", path, unordered=True)
    s.step("earliest-after", OFFSETS, "--topic", "counted", "--time", "earliest")
    verify = ("kafka-replica-verification", "--topics-include", "counted", "--time", "-2", "--report-interval-ms",
              "500")
    with s.background(*verify) as verifier:
        verifier.await_lines(2)
        s.keep("replicas-verified", verifier.lines[:2])
    s.step("replicas-of-nothing", "kafka-replica-verification", "--topics-include", "missing", code=None)


def groups(s):
    """kafka-consumer-groups through each node: coordinators are found wherever they are."""
    create(s, "grouped", "1:2:3,2:3:1,3:1:2")
    s.step("produce", PRODUCE, "--topic", "grouped", *KEYED, stdin="".join(f"{n}:value\n" for n in range(30)))
    for number in (1, 2, 3):
        group = ("--group", f"readers-{number}")
        with s.through(number):
            s.step(f"commit-{number}", GROUPS, "--reset-offsets", "--to-earliest", "--topic", "grouped", *group,
                   "--execute", unordered=True)
    for number in (1, 2, 3):
        with s.through(number):
            s.step(f"list-{number}", GROUPS, "--list", unordered=True)
            for other in (1, 2, 3):
                s.step(f"describe-{other}-through-{number}", GROUPS, "--describe", "--group", f"readers-{other}",
                       unordered=True)
    s.step("delete", GROUPS, "--delete", "--group", "readers-1", "--group", "readers-2", "--group", "readers-3",
           view=normalise.names_in_any_order)


def reassignments(s):
    """kafka-reassign-partitions: plans, moves at once and slowly, more, cancelled, and refused."""
    create(s, "moving", "1:2,2:3")
    s.step("produce", PRODUCE, "--topic", "moving", *KEYED, stdin="".join(f"{n}:value\n" for n in range(30)))
    wanted = s.file("topics.json", '{"topics":[{"topic":"moving"}],"version":1}')
    missing = s.file("missing-topics.json", '{"topics":[{"topic":"missing"}],"version":1}')
    generate = ("--generate", "--topics-to-move-json-file")
    for brokers_of_plan in ("1,2,3", "2,3", "3"):
        s.step(f"generate-{brokers_of_plan}", REASSIGN, *generate, wanted, "--broker-list", brokers_of_plan, code=None,
               view=normalise.proposal)
    s.step("generate-without-racks", REASSIGN, *generate, wanted, "--broker-list", "1,3", "--disable-rack-aware",
           view=normalise.proposal)
    s.step("generate-unknown-broker", REASSIGN, *generate, wanted, "--broker-list", "1,7", code=None,
           view=normalise.proposal)
    s.step("generate-same-broker-twice", REASSIGN, *generate, wanted, "--broker-list", "1,1", code=1)
    s.step("generate-missing", REASSIGN, *generate, missing, "--broker-list", "1,2", code=None)
    away = plan(s, "away", ("moving", 0, [2, 3]), ("moving", 1, [3, 1]))
    s.step("execute", REASSIGN, "--execute", *away, view=normalise.any_disk)
    await_verified(s, "verify", away)
    await_full_isr(s, "describe-moved", "moving", 2)
    s.step("execute-again", REASSIGN, "--execute", *away, view=normalise.any_disk)
    await_verified(s, "verify-again", away)
    s.step("cancel-done", REASSIGN, "--cancel", *away, code=None)
    more = plan(s, "more", ("moving", 0, [2, 3, 1]), ("moving", 1, [1]))
    s.step("execute-fixed-factor", REASSIGN, "--execute", *more, "--disallow-replication-factor-change", code=None,
           unordered=True, view=normalise.any_disk)
    s.step("execute-other-factors", REASSIGN, "--execute", *more, view=normalise.any_disk)
    await_verified(s, "verify-other-factors", more)
    s.step("list-nothing", REASSIGN, "--list")
    refused = {
        "unknown-broker": [("moving", 0, [1, 7])], "missing-topic": [("missing", 0, [1, 2])],
        "missing-partition": [("moving", 9, [1, 2])], "no-replicas": [("moving", 0, [])],
        "twice-one-broker": [("moving", 0, [1, 1])], "negative": [("moving", 0, [-1, 2])],
        "twice-one-partition": [("moving", 0, [1, 2]), ("moving", 0, [2, 3])], "nothing": [],
        "half": [("moving", 0, [1, 2]), ("moving", 9, [1, 2])],
    }
    for label, partitions in refused.items():
        path = plan(s, label, *partitions)
        s.step(f"execute-{label}", REASSIGN, "--execute", *path, code=None, unordered=True, view=normalise.any_disk)
        # Of brokers that are not there the tool would wait a minute for their throttles.
        left = ("--preserve-throttles",) if label in ("unknown-broker", "negative") else ()
        s.step(f"verify-{label}", REASSIGN, "--verify", *path, *left, code=None, unordered=True)
        s.step(f"cancel-{label}", REASSIGN, "--cancel", *path, *left, code=None, unordered=True)
    describe(s, "describe-after-refusals", "moving", view=normalise.sorted_isr)
    with s.through(controllers=True):
        s.step("controllers-list", REASSIGN, "--list", code=None)
        s.step("controllers-execute", REASSIGN, "--execute", *away, code=None, view=normalise.any_disk)


def throttled(s):
    """kafka-reassign-partitions: a move that takes long is listed, slowed, added to, cancelled, hurried."""
    create(s, "slow", "1:2")
    create(s, "quick", "2:3")
    s.step("produce", "kafka-producer-perf-test", "--topic", "slow", *BULKY, view=normalise.shapes)
    away, back = plan(s, "away", ("slow", 0, [2, 3])), plan(s, "back", ("slow", 0, [1, 2]))

    def limits(label):
        for number in (1, 3):
            s.step(f"{label}-limits-of-{number}", CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name",
                   str(number))
        s.step(f"{label}-limited-replicas", CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", "slow")

    s.step("execute", REASSIGN, "--execute", *away, "--throttle", "1000", view=normalise.any_disk)
    s.step("list", REASSIGN, "--list", expect=["slow-0: replicas: 2,3,1. adding: 3. removing: 1"])
    s.step("verify", REASSIGN, "--verify", *away, expect=["still in progress"])
    describe(s, "describe", "slow", expect=["Adding Replicas: 3 Removing Replicas: 1"])
    filters(s, "moving", ("under-replicated", "at-min-isr"))
    limits("slowed")
    quick = plan(s, "quick", ("quick", 0, [1, 2]))
    s.step("execute-other", REASSIGN, "--execute", *quick, code=None, view=normalise.any_disk)
    s.step("execute-additional", REASSIGN, "--execute", *quick, "--additional", view=normalise.any_disk)
    await_verified(s, "verify-additional", quick, "--preserve-throttles")
    s.step("list-after-additional", REASSIGN, "--list")
    s.step("execute-other-limit", REASSIGN, "--execute", *away, "--additional", "--throttle", "2000",
           view=normalise.any_disk)
    limits("slowed-otherwise")
    s.step("cancel-other", REASSIGN, "--cancel", *quick, code=None)
    limits("after-cancel-of-other")
    s.step("execute-slowed-again", REASSIGN, "--execute", *away, "--additional", "--throttle", "1000",
           view=normalise.any_disk)
    s.step("cancel-preserving", REASSIGN, "--cancel", *away, "--preserve-throttles")
    limits("preserved")
    s.step("list-after-cancel", REASSIGN, "--list")
    describe(s, "describe-after-cancel", "slow")
    s.step("verify-after-cancel", REASSIGN, "--verify", *away, "--preserve-throttles", code=None)
    s.step("cancel-twice", REASSIGN, "--cancel", *away, code=None)
    limits("cancelled")
    s.step("execute-slowly", REASSIGN, "--execute", *away, "--throttle", "1000", view=normalise.any_disk)
    s.step("cancel", REASSIGN, "--cancel", *away)
    limits("after-cancel")
    s.step("execute-slowly-again", REASSIGN, "--execute", *away, "--throttle", "1000", view=normalise.any_disk)
    # Another target while the first is under way takes its place. (With a third that wants back what the second dropped
    # Kafka's partition adds and removes one replica at once, for ever; Ottla's ends where it was told to.)
    other = plan(s, "else", ("slow", 0, [3, 2]))
    s.step("execute-elsewhere", REASSIGN, "--execute", *other, "--additional", "--throttle", "1000",
           view=normalise.any_disk)
    s.step("list-elsewhere", REASSIGN, "--list")
    describe(s, "describe-elsewhere", "slow")
    s.step("hurry-elsewhere", REASSIGN, "--execute", *other, "--additional", "--throttle", "1000000000",
           view=normalise.any_disk)
    await_verified(s, "verify-elsewhere", other)
    s.step("execute-back", REASSIGN, "--execute", *back, view=normalise.any_disk)
    await_verified(s, "verify-back", back)
    s.step("execute-hurried", REASSIGN, "--execute", *away, "--throttle", "1000", view=normalise.any_disk)
    s.step("hurry", REASSIGN, "--execute", *away, "--additional", "--throttle", "1000000000", view=normalise.any_disk)
    await_verified(s, "verify-hurried", away)
    limits("done")
    await_full_isr(s, "describe-done", "slow", 2)


def log_dirs(s):
    """kafka-log-dirs, and kafka-reassign-partitions between directories: of one node, of several, with other nodes."""
    create(s, "stored", "1:2,2:3")
    s.step("produce", PRODUCE, "--topic", "stored", *KEYED, stdin="a:one\nb:two\nc:three\nd:four\n")
    one = ("--describe", "--topic-list", "stored")

    def at(label, *partitions, view=None):
        path = plan(s, label, *partitions)
        s.step(f"execute-{label}", REASSIGN, "--execute", *path, unordered=True, view=view)
        await_verified(s, f"verify-{label}", path)
        s.step(f"describe-{label}", LOG_DIRS, *one, view=normalise.log_dirs_with_paths)

    at("first", ("stored", 0, [1, 2], [s.disk(1, 1), s.disk(2, 1)]),
       ("stored", 1, [2, 3], [s.disk(2, 1), s.disk(3, 1)]), view=normalise.any_disk)
    at("second", ("stored", 0, [1, 2], [s.disk(1, 2), "any"]))
    at("both", ("stored", 0, [1, 2], [s.disk(1, 1), s.disk(2, 2)]), ("stored", 1, [2, 3], ["any", s.disk(3, 2)]))
    at("with-node", ("stored", 0, [3, 2], [s.disk(3, 2), s.disk(2, 1)]))
    for numbers in ("1", "2,3"):
        s.step(f"broker-list-{numbers}", LOG_DIRS, *one, "--broker-list", numbers, view=normalise.log_dirs_with_paths)
    s.step("unknown-broker", LOG_DIRS, *one, "--broker-list", "1,77", code=None, view=normalise.log_dirs_with_paths)
    with s.through(controllers=True):
        s.step("controllers", LOG_DIRS, *one, code=None, view=normalise.log_dirs_with_paths)
    limit = plan(s, "limited", ("stored", 0, [3, 2], [s.disk(3, 1), s.disk(2, 2)]))
    s.step("execute-limited", REASSIGN, "--execute", *limit, "--replica-alter-log-dirs-throttle", "1000000",
           unordered=True)
    s.step("limit", CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", "3")
    await_verified(s, "verify-limited", limit)
    s.step("limit-gone", CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", "3")
    for label, replicas, directories in (
            ("nowhere", [3, 2], ["/nowhere", "any"]), ("too-few", [3, 2], [s.disk(3, 1)]),
            ("of-another-node", [3, 2], [s.disk(1, 1), "any"]), ("relative", [3, 2], ["disk-1", "any"])):
        path = plan(s, label, ("stored", 0, replicas, directories))
        s.step(f"execute-{label}", REASSIGN, "--execute", *path, "--timeout", "2000", code=None)
        s.step(f"verify-{label}", REASSIGN, "--verify", *path, code=None)
    s.step("cancel-to-directories", REASSIGN, "--cancel", *limit, code=None)


def elections(s):
    """kafka-leader-election: leaders that moved away with a stopped node come back when they are asked to."""
    create(s, "led", "1:2:3,2:3:1,3:1:2,2:1:3")
    s.stop_node(2)
    s.until("moved", lambda lines: not any("Leader: 2" in line for line in lines), TOPICS, "--describe", "--topic",
            "led", view=normalise.sorted_isr)
    elect = ("--election-type", "preferred")
    s.step("preferred-is-down", ELECT, *elect, "--topic", "led", "--partition", "1", code=None)
    s.start_node(2)
    await_full_isr(s, "back", "led", 3)
    s.step("preferred", ELECT, *elect, "--topic", "led", "--partition", "1",
           expect=[r"Successfully completed leader election \(PREFERRED\) for partitions led-1"])
    s.step("preferred-again", ELECT, *elect, "--topic", "led", "--partition", "1")
    some = s.file("some.json", json.dumps({"partitions": [
        {"topic": "led", "partition": partition} for partition in (0, 1, 3)]}))
    s.step("preferred-by-file", ELECT, *elect, "--path-to-json-file", some, view=normalise.names_in_any_order)
    describe(s, "describe", "led", view=normalise.sorted_isr)
    mixed = s.file("mixed.json", json.dumps({"partitions": [
        {"topic": topic, "partition": partition} for topic, partition in (("led", 0), ("led", 9), ("missing", 0))]}))
    for kind in ("preferred", "unclean"):
        s.step(f"{kind}-missing", ELECT, "--election-type", kind, "--topic", "missing", "--partition", "0", code=1)
        s.step(f"{kind}-by-mixed-file", ELECT, "--election-type", kind, "--path-to-json-file", mixed, code=None,
               unordered=True, view=normalise.names_in_any_order)
        s.step(f"{kind}-not-needed", ELECT, "--election-type", kind, "--topic", "led", "--partition", "2", code=None)
    twice = s.file("twice.json", json.dumps({"partitions": [{"topic": "led", "partition": 0}] * 2}))
    s.step("preferred-twice", ELECT, *elect, "--path-to-json-file", twice, code=None)
    none = s.file("none.json", '{"partitions":[]}')
    s.step("preferred-of-nothing", ELECT, *elect, "--path-to-json-file", none, code=None)
    s.step("all", ELECT, *elect, "--all-topic-partitions", view=normalise.shape_of_elections)
    with s.through(controllers=True):
        s.step("controllers", ELECT, *elect, "--topic", "led", "--partition", "2", code=None)


def unclean(s):
    """kafka-leader-election: the only replica in sync is down, and one that lags is made the leader."""
    create(s, "lossy", "3:2")
    s.step("produce-first", PRODUCE, "--topic", "lossy", stdin="kept\n")
    limit = ("--alter", "--add-config")
    s.step("limit-replica", CONFIGS, "--entity-type", "topics", "--entity-name", "lossy", *limit,
           "follower.replication.throttled.replicas=0:2,leader.replication.throttled.replicas=0:3")
    for number in ("2", "3"):
        s.step(f"limit-node-{number}", CONFIGS, "--entity-type", "brokers", "--entity-name", number, *limit,
               "follower.replication.throttled.rate=100,leader.replication.throttled.rate=100")
    s.stop_node(2)
    s.step("produce", "kafka-producer-perf-test", "--topic", "lossy", *BULKY, view=normalise.shapes)
    s.start_node(2)
    describe(s, "lagging", "lossy", expect=["Leader: 3 Replicas: 3,2 Isr: 3 "])
    s.stop_node(3)
    s.until("offline", lambda lines: any("Leader: none" in line for line in lines), TOPICS, "--describe", "--topic",
            "lossy")
    filters(s, "offline", ("unavailable",))
    one = ("--topic", "lossy", "--partition", "0")
    s.step("preferred", ELECT, "--election-type", "preferred", *one, code=None)
    s.step("unclean", ELECT, "--election-type", "unclean", *one)
    describe(s, "led-by-2", "lossy", expect=["Leader: 2"])
    s.step("unclean-again", ELECT, "--election-type", "unclean", *one)
    s.step("produce-after", PRODUCE, "--topic", "lossy", stdin="new\n")
    s.start_node(3)
    for number in ("2", "3"):
        s.step(f"unlimit-node-{number}", CONFIGS, "--entity-type", "brokers", "--entity-name", number, "--alter",
               "--delete-config", "follower.replication.throttled.rate,leader.replication.throttled.rate")
    await_full_isr(s, "both", "lossy", 2)


def node_down(s):
    """Everything that reports, while a node is down; what cannot be done then; and once it is back."""
    create(s, "wide", "1:2:3,2:3:1,3:1:2")
    create(s, "pair", "3:1,2:3", "min.insync.replicas=2")
    create(s, "lone", "3")
    create(s, "strict", "1:2:3", "min.insync.replicas=2")
    create(s, "elsewhere", "1:2")
    s.step("produce-lone", PRODUCE, "--topic", "lone", stdin="one\n")
    s.step("produce-wide", PRODUCE, "--topic", "wide", *KEYED, stdin="".join(f"{n}:value\n" for n in range(30)))
    s.kill_node(3)
    s.until("gone", lambda lines: not any("Leader: 3" in line for line in lines), TOPICS, "--describe", "--topic",
            "wide")
    for topic in ("pair", "lone", "strict", "elsewhere"):
        describe(s, f"describe-{topic}", topic)
    names = ("wide", "pair", "lone", "strict", "elsewhere")
    for one in FILTERS:
        for topic in names:
            s.step(f"{one}-{topic}", TOPICS, "--describe", "--topic", topic, f"--{one}-partitions")
    s.step("endpoints", f"{CLUSTER} list-endpoints", unordered=True)
    s.step("endpoints-with-fenced", f"{CLUSTER} list-endpoints", "--include-fenced-brokers", unordered=True)
    s.step("api-versions", "kafka-broker-api-versions", view=normalise.brokers_of_versions)
    s.step("offsets", OFFSETS, "--topic", "wide")
    s.step("offsets-lone", OFFSETS, "--topic", "lone", code=None, view=normalise.attempts)
    s.step("log-dirs", LOG_DIRS, "--describe", "--topic-list", "wide", view=normalise.logs_of_brokers)
    s.step("log-dirs-of-3", LOG_DIRS, "--describe", "--topic-list", "wide", "--broker-list", "1,3", code=None,
           view=normalise.logs_of_brokers)
    s.until("quorum", lambda lines: any(line.startswith("LeaderId: ") for line in lines), QUORUM, "describe",
            "--status", view=normalise.quorum_of_three)
    fast = ("--command-property", "delivery.timeout.ms=3000", "--command-property", "request.timeout.ms=2000")
    s.step("produce-wide-again", PRODUCE, "--topic", "wide", *KEYED, stdin="a:more\n")
    s.step("produce-under-min-isr", PRODUCE, "--topic", "pair", *fast, *KEYED, stdin="a:1\nb:2\nc:3\n", code=None)
    made = ("--create", "--topic", "made")
    s.step("create-three-copies", TOPICS, *made, "--replication-factor", "3")
    describe(s, "describe-made", "made", view=normalise.placement)
    s.step("create-on-3", TOPICS, "--create", "--topic", "on-3", "--replica-assignment", "3:1", code=None)
    describe(s, "describe-on-3", "on-3", code=None)
    s.step("create-on-3-only", TOPICS, "--create", "--topic", "on-3-only", "--replica-assignment", "3", code=None)
    s.step("create-two-copies", TOPICS, "--create", "--topic", "two", "--partitions", "4", "--replication-factor", "2")
    describe(s, "describe-two", "two", view=normalise.placement)
    s.step("elect", ELECT, "--election-type", "preferred", "--topic", "wide", "--partition", "2", code=None)
    s.step("elect-unclean", ELECT, "--election-type", "unclean", "--topic", "lone", "--partition", "0", code=None)
    onto = plan(s, "onto", ("elsewhere", 0, [1, 3]))
    s.step("move-onto-3", REASSIGN, "--execute", *onto, code=None, view=normalise.any_disk)
    s.step("move-onto-3-verify", REASSIGN, "--verify", *onto, code=None)
    s.step("move-onto-3-list", REASSIGN, "--list")
    s.step("move-onto-3-cancel", REASSIGN, "--cancel", *onto, code=None)
    off = plan(s, "off", ("pair", 0, [2, 1]))
    s.step("move-off-3", REASSIGN, "--execute", *off, view=normalise.any_disk)
    await_verified(s, "move-off-3-verify", off)
    describe(s, "moved-off-3", "pair", view=normalise.sorted_isr)
    s.step("unregister", f"{CLUSTER} unregister", "--id", "3")
    s.step("endpoints-without", f"{CLUSTER} list-endpoints", "--include-fenced-brokers", unordered=True)
    s.step("unregister-again", f"{CLUSTER} unregister", "--id", "3", code=None)
    describe(s, "describe-unregistered", "wide")
    describe(s, "describe-lone-unregistered", "lone")
    s.start_node(3)
    await_full_isr(s, "back", "wide", 3)
    s.step("endpoints-back", f"{CLUSTER} list-endpoints", unordered=True)
    s.until("lone-back", lambda lines: any("Leader: 3" in line for line in lines), TOPICS, "--describe", "--topic",
            "lone")
    s.step("offsets-lone-back", OFFSETS, "--topic", "lone")


def features(s):
    """kafka-features through brokers and through controllers; what a cluster of three refuses."""
    for name, controllers in (("brokers", False), ("controllers", True)):
        with s.through(controllers=controllers):
            s.step(f"{name}-describe", FEATURES, "describe", view=normalise.features_of_quorum,
                   expect=["^Feature: kraft.version .* FinalizedVersionLevel: 1 "])
            s.step(f"{name}-upgrade-too-far", FEATURES, "upgrade", "--feature", "metadata.version=31", code=1,
                   view=normalise.any_controller)
            s.step(f"{name}-upgrade-to-same", FEATURES, "upgrade", "--feature", "metadata.version=30", code=None)
            s.step(f"{name}-downgrade", FEATURES, "downgrade", "--feature", "metadata.version=29", code=1)
            s.step(f"{name}-downgrade-unsafe", FEATURES, "downgrade", "--feature", "metadata.version=29", "--unsafe",
                   code=None)
            s.step(f"{name}-downgrade-far", FEATURES, "downgrade", "--feature", "metadata.version=27", code=None)
            s.step(f"{name}-downgrade-quorum", FEATURES, "downgrade", "--feature", "kraft.version=0", code=None)
            s.step(f"{name}-upgrade-quorum", FEATURES, "upgrade", "--feature", "kraft.version=1", code=None)
            s.step(f"{name}-upgrade-quorum-too-far", FEATURES, "upgrade", "--feature", "kraft.version=2", code=1,
                   view=normalise.any_controller)
            s.step(f"{name}-disable", FEATURES, "disable", "--feature", "metadata.version", code=1,
                   view=normalise.any_controller)


def quorum(s):
    """kafka-metadata-quorum: who votes, who lags; a voter leaves and comes back."""
    for name, controllers in (("brokers", False), ("controllers", True)):
        with s.through(controllers=controllers):
            s.step(f"{name}-status", QUORUM, "describe", "--status", view=normalise.quorum_of_three,
                   expect=['"id": 1, "directoryId": "<directory of 1>"'])
            s.step(f"{name}-replication", QUORUM, "describe", "--replication", view=normalise.voters_and_observers)
            s.step(f"{name}-readable", QUORUM, "describe", "--replication", "--human-readable",
                   view=normalise.voters_and_observers)

    def remove(label, node, directory, *more, code=0):
        which = ("--controller-id", node, "--controller-directory-id", directory)
        s.step(label, QUORUM, "remove-controller", *which, *more, code=code, view=normalise.sorted_voters)

    stranger, own = "AAAAAAAAAAAAAAAAAAAAEQ", s.directory_id(3)
    add = (QUORUM, "--command-config", s.properties(3), "add-controller")
    for name, controllers in (("brokers", False), ("controllers", True)):
        with s.through(controllers=controllers):
            remove(f"{name}-remove-unknown", "7", stranger, code=1)
            remove(f"{name}-remove-of-another-directory", "3", stranger, code=1)
            remove(f"{name}-remove-negative", "-3", stranger, code=1)
            remove(f"{name}-remove-malformed", "3", "no-directory!", code=1)
            remove(f"{name}-remove-dry", "3", own, "--dry-run")
            s.step(f"{name}-add-present", *add, code=1, view=normalise.sorted_voters)
            s.step(f"{name}-add-dry", *add, "--dry-run")
            remove(f"{name}-remove", "3", own)
            s.until(f"{name}-removed", lambda lines: any("Observer" in line for line in lines),
                    QUORUM, "describe", "--replication", view=normalise.voters_and_observers)
            s.step(f"{name}-status-of-two", QUORUM, "describe", "--status", view=normalise.quorum_of_three)
            # A Kafka that has just removed the leader first answers that it is none.
            s.until(f"{name}-remove-twice", lambda lines: any("VoterNotFound" in line for line in lines), QUORUM,
                    "remove-controller", "--controller-id", "3", "--controller-directory-id", own, code=1, errors=True,
                    view=normalise.sorted_voters)
            # Kafka still lists the controller that it has registered; Ottla, through controllers, those that vote.
            s.step(f"{name}-endpoints-of-two", f"{CLUSTER} list-endpoints", unordered=True,
                   view=normalise.without_node(3) if controllers else None)
            s.step(f"{name}-add", *add, expect=["Added controller 3 with directory id <directory of 3> and endpoints"])
            s.until(f"{name}-added", lambda lines: not any("Observer" in line for line in lines),
                    QUORUM, "describe", "--replication", view=normalise.voters_and_observers)
            s.step(f"{name}-status-of-three", QUORUM, "describe", "--status", view=normalise.quorum_of_three)


CASES = [brokers, topics, configs, offsets, groups, reassignments, throttled, log_dirs, elections, unclean, features,
         quorum, node_down]
