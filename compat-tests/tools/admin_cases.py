"""What administrators do beside topics, groups and settings: features, log directories, leaders, replicas, the quorum.

As in cases.py, every function runs on every broker alike.
"""

import normalise

KEYED = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]
TOPICS, GROUPS, CONFIGS = "kafka-topics", "kafka-consumer-groups", "kafka-configs"
PRODUCE, CONSUME = "kafka-console-producer", "kafka-console-consumer"
FEATURES, LOG_DIRS, ELECT = "kafka-features", "kafka-log-dirs", "kafka-leader-election"
REASSIGN, QUORUM, TRANSACTIONS = "kafka-reassign-partitions", "kafka-metadata-quorum", "kafka-transactions"


def features(s):
    """kafka-features: what there is, and changes that are refused. Features that are not built yet are left out."""
    s.step("describe", FEATURES, "describe", view=normalise.features,
           expect=[r"Feature: metadata\.version SupportedMinVersion: 3\.3-IV3 SupportedMaxVersion: 4\.3-IV0 "
                   r"FinalizedVersionLevel: 4\.3-IV0 Epoch: #"])
    s.step("upgrade-to-same", FEATURES, "upgrade", "--feature", "metadata.version=30")
    s.step("upgrade-dry-run", FEATURES, "upgrade", "--feature", "metadata.version=30", "--dry-run")
    s.step("upgrade-too-far", FEATURES, "upgrade", "--feature", "metadata.version=31", code=1)
    s.step("upgrade-unknown", FEATURES, "upgrade", "--feature", "no.such=1", code=1)
    s.step("upgrade-down", FEATURES, "upgrade", "--feature", "metadata.version=20", code=1)
    s.step("upgrade-malformed", FEATURES, "upgrade", "--feature", "metadata.version", code=1)
    s.step("downgrade", FEATURES, "downgrade", "--feature", "metadata.version=29", code=1)
    s.step("downgrade-unsafe", FEATURES, "downgrade", "--feature", "metadata.version=29", "--unsafe", code=1)
    s.step("downgrade-dry-run", FEATURES, "downgrade", "--feature", "metadata.version=29", "--dry-run", code=1)
    s.step("downgrade-up", FEATURES, "downgrade", "--feature", "metadata.version=31", code=1)
    s.step("disable", FEATURES, "disable", "--feature", "metadata.version", code=1)
    s.step("disable-unknown", FEATURES, "disable", "--feature", "no.such", code=1)
    s.step("describe-after", FEATURES, "describe", view=normalise.features)


def log_dirs(s):
    """kafka-log-dirs: sizes of what was written."""
    s.step("create", TOPICS, "--create", "--topic", "sized", "--partitions", "2")
    # With a key, or the producer would choose a partition by chance.
    s.step("produce", PRODUCE, "--topic", "sized", *KEYED, "--request-required-acks", "1", "--command-property",
           "enable.idempotence=false", stdin="a:one\na:two\na:three\n")
    one = ("--describe", "--topic-list", "sized")
    s.step("describe", LOG_DIRS, *one, view=normalise.log_dirs, expect=[r"sized-0 .*isFuture False"])
    s.step("describe-broker", LOG_DIRS, *one, "--broker-list", "1", view=normalise.log_dirs)
    s.step("describe-missing", LOG_DIRS, "--describe", "--topic-list", "missing", view=normalise.log_dirs)
    s.step("describe-wrong-broker", LOG_DIRS, *one, "--broker-list", "1,77", code=None, view=normalise.log_dirs)


def leader_election(s):
    """kafka-leader-election: on one broker there is never anything to elect."""
    s.step("create", TOPICS, "--create", "--topic", "led", "--partitions", "2")
    for kind in ("PREFERRED", "UNCLEAN"):
        elect = ("--election-type", kind)
        s.step(f"{kind}-all", ELECT, *elect, "--all-topic-partitions")
        s.step(f"{kind}-one", ELECT, *elect, "--topic", "led", "--partition", "1", code=None)
        s.step(f"{kind}-missing", ELECT, *elect, "--topic", "missing", "--partition", "0", code=1)
        s.step(f"{kind}-missing-partition", ELECT, *elect, "--topic", "led", "--partition", "9", code=1)
        some = s.file("elect.json", '{"partitions":[{"topic":"led","partition":0},{"topic":"missing","partition":3}]}')
        s.step(f"{kind}-file", ELECT, *elect, "--path-to-json-file", some, code=None, unordered=True)
    s.step("no-such-kind", ELECT, "--election-type", "BEST", "--all-topic-partitions", code=1)


def reassign(s):
    """kafka-reassign-partitions: a plan for one broker, and plans for brokers that are not there."""
    s.step("create", TOPICS, "--create", "--topic", "moved", "--partitions", "2")
    topics = s.file("topics.json", '{"topics":[{"topic":"moved"}],"version":1}')
    s.step("generate", REASSIGN, "--generate", "--topics-to-move-json-file", topics, "--broker-list", "1")
    s.step("generate-elsewhere", REASSIGN, "--generate", "--topics-to-move-json-file", topics, "--broker-list", "7",
           code=None)

    def plan(name, topic="moved", replicas="1", more=""):
        parts = ",".join('{"topic":"%s","partition":%d,"replicas":[%s]%s}' % (topic, index, replicas, more)
                         for index in range(2))
        return ("--reassignment-json-file", s.file(name, '{"version":1,"partitions":[%s]}' % parts))

    here, away, missing = plan("here.json"), plan("away.json", replicas="7"), plan("missing.json", topic="nowhere")
    for label, where in (("here", here), ("away", away), ("missing", missing)):
        s.step(f"execute-{label}", REASSIGN, "--execute", *where, code=None)
        s.step(f"verify-{label}", REASSIGN, "--verify", *where, code=None)
        s.step(f"cancel-{label}", REASSIGN, "--cancel", *where, code=None)
    s.step("execute-throttled", REASSIGN, "--execute", *here, "--throttle", "1000000", code=None)
    s.step("verify-throttled", REASSIGN, "--verify", *here, code=None)
    fixed = ("--disallow-replication-factor-change",)
    s.step("execute-fixed-factor", REASSIGN, "--execute", *here, *fixed, code=None)
    s.step("list", REASSIGN, "--list", expect=["No partition reassignments found"])
    s.step("execute-to-any-directory", REASSIGN, "--execute", *plan("any.json", more=',"log_dirs":["any"]'), code=None)
    nowhere = plan("nowhere.json", more=',"log_dirs":["/nowhere"]')
    s.step("execute-to-no-directory", REASSIGN, "--execute", *nowhere, "--timeout", "2000", code=None)
    s.step("describe-after", TOPICS, "--describe", "--topic", "moved")


def quorum(s):
    """kafka-metadata-quorum: the shape of its reports; numbers and ids differ."""
    s.step("status", QUORUM, "describe", "--status", view=normalise.quorum,
           expect=["^LeaderId: #", "^HighWatermark: #", "^MaxFollowerLag: #", '^CurrentVoters: .*"id": #'])
    s.step("replication", QUORUM, "describe", "--replication", view=normalise.quorum, expect=["Leader$"])
    s.step("replication-readable", QUORUM, "describe", "--replication", "--human-readable", view=normalise.quorum)
    s.step("nothing", QUORUM, "describe", code=1)


def delete_offsets(s):
    """kafka-consumer-groups --delete-offsets: of an idle group, and of one that reads."""
    s.step("create", TOPICS, "--create", "--topic", "read", "--partitions", "2")
    s.step("create-other", TOPICS, "--create", "--topic", "unread")
    s.step("produce", PRODUCE, "--topic", "read", *KEYED, stdin="a:one\nb:two\n")
    execute = ("--execute", "--reset-offsets", "--to-offset", "1", "--group", "idle", "--topic")
    s.step("commit", GROUPS, *execute, "read", "--topic", "unread", code=None, unordered=True)
    delete = ("--delete-offsets", "--group", "idle", "--topic")
    s.step("delete-one", GROUPS, *delete, "read:1", unordered=True, expect=["Request succeed"])
    s.step("describe", GROUPS, "--describe", "--group", "idle", unordered=True)
    s.step("delete-missing-partition", GROUPS, *delete, "read:9", code=None, unordered=True)
    s.step("delete-missing-topic", GROUPS, *delete, "missing", code=None, unordered=True)
    s.step("delete-of-nobody", GROUPS, "--delete-offsets", "--group", "nobody", "--topic", "read", code=None,
           unordered=True)
    member = ("--topic", "read", "--from-beginning", "--group", "reading", "--command-property",
              "auto.commit.interval.ms=200")
    with s.background(CONSUME, *member) as consumer:
        consumer.await_lines(2)
        s.until("stable", lambda lines: any(" Stable " in line for line in lines), GROUPS, "--describe", "--group",
                "reading", "--state")
        s.step("delete-subscribed", GROUPS, "--delete-offsets", "--group", "reading", "--topic", "read", code=None,
               unordered=True)
        s.step("delete-of-another-topic", GROUPS, "--delete-offsets", "--group", "reading", "--topic", "unread",
               code=None, unordered=True)


def producers(s):
    """kafka-transactions describe-producers: the idempotent producer that wrote."""
    s.step("create", TOPICS, "--create", "--topic", "sent")
    s.step("produce", PRODUCE, "--topic", "sent", stdin="one\ntwo\n")
    describe = ("describe-producers", "--topic", "sent", "--partition")
    s.step("describe", TRANSACTIONS, *describe, "0", view=normalise.producers, expect=["^# 0 -1 1 # None$"])
    s.step("describe-on-broker", TRANSACTIONS, *describe, "0", "--broker-id", "1", view=normalise.producers)
    # The tool asks again for a minute. Without a broker it would look for the leader, as fast as it can.
    s.step("describe-missing-partition", TRANSACTIONS, *describe, "9", "--broker-id", "1", code=1)


def cluster(s):
    """kafka-cluster: who is there, and who is not."""
    s.step("id", "kafka-cluster cluster-id", view=normalise.cluster, expect=["^Cluster ID: <id>$"])
    s.step("endpoints", "kafka-cluster list-endpoints", view=normalise.cluster)
    s.step("endpoints-with-fenced", "kafka-cluster list-endpoints", "--include-fenced-brokers", view=normalise.cluster)
    s.step("unregister-unknown", "kafka-cluster unregister", "--id", "77", code=None)


CASES = [features, log_dirs, leader_election, reassign, quorum, delete_offsets, producers, cluster]
