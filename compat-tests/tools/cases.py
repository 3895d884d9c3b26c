"""What is done with each tool: success and the errors that people meet. Every function runs on every broker alike.

Where the outcome depends on the partitioner, records have keys: without a key the producer chooses by chance.
"""

import admin_cases
import normalise
from admin_cases import KEYED

TOPICS, GROUPS, CONFIGS = "kafka-topics", "kafka-consumer-groups", "kafka-configs"
CLIENT_METRICS = "kafka-client-metrics"
PRODUCE, CONSUME, OFFSETS = "kafka-console-producer", "kafka-console-consumer", "kafka-get-offsets"

SHOW_ALL = [part for what in ("timestamp", "partition", "offset", "headers", "key")
            for part in ("--formatter-property", f"print.{what}=true")]
SHOW_ALL += ["--formatter-property", "null.literal=(none)"]


def topics(s):
    """kafka-topics: create, list, describe, alter, delete."""
    create = ("--create", "--topic")
    s.step("create", TOPICS, *create, "orders", "--partitions", "3", "--replication-factor", "1",
           "--config", "retention.ms=86400000", "--config", "cleanup.policy=delete",
           expect=[r"^Created topic orders\.$"])
    s.step("create-again", TOPICS, *create, "orders", code=1, expect=[r"Topic 'orders' already exists\."])
    s.step("create-if-not-exists", TOPICS, *create, "orders", "--if-not-exists")
    s.step("create-with-defaults", TOPICS, *create, "defaults", expect=["Created topic defaults"])
    s.step("create-dotted", TOPICS, *create, "with.dot", expect=["Created topic with.dot"])
    s.step("create-colliding", TOPICS, *create, "with_dot", code=1)
    s.step("create-bad-name", TOPICS, *create, "not a name", code=1)
    s.step("create-long-name", TOPICS, *create, "x" * 250, code=1)
    s.step("create-three-copies", TOPICS, *create, "copies", "--replication-factor", "3", code=1)
    s.step("create-assigned", TOPICS, *create, "assigned", "--replica-assignment", "1,1")
    s.step("create-assigned-elsewhere", TOPICS, *create, "elsewhere", "--replica-assignment", "7", code=1)
    s.step("list", TOPICS, "--list", expect=["^orders$", "^defaults$", "^assigned$"])
    s.step("list-one", TOPICS, "--list", "--topic", "orders")
    s.step("list-without-internal", TOPICS, "--list", "--exclude-internal")
    s.step("describe", TOPICS, "--describe", "--topic", "orders",
           expect=[r"Topic: orders TopicId: <id> PartitionCount: 3 ReplicationFactor: 1 Configs: .*retention\.ms=8640",
                   r"Topic: orders Partition: 2 Leader: 1 Replicas: 1 Isr: 1"])
    s.step("describe-all", TOPICS, "--describe", unordered=True)
    s.step("describe-missing", TOPICS, "--describe", "--topic", "missing", code=1,
           expect=["does not exist as expected"])
    s.step("describe-missing-if-exists", TOPICS, "--describe", "--topic", "missing", "--if-exists")
    s.step("describe-overridden", TOPICS, "--describe", "--topics-with-overrides", unordered=True)
    s.step("describe-under-replicated", TOPICS, "--describe", "--under-replicated-partitions")
    s.step("describe-unavailable", TOPICS, "--describe", "--unavailable-partitions")
    s.step("describe-at-min-isr", TOPICS, "--describe", "--at-min-isr-partitions", unordered=True)
    alter = ("--alter", "--topic", "orders", "--partitions")
    s.step("alter", TOPICS, *alter, "5")
    s.step("alter-fewer", TOPICS, *alter, "2", code=1)
    s.step("alter-same", TOPICS, *alter, "5", code=1)
    s.step("alter-missing", TOPICS, "--alter", "--topic", "missing", "--partitions", "3", code=1)
    s.step("describe-grown", TOPICS, "--describe", "--topic", "orders", expect=["PartitionCount: 5"])
    s.step("delete", TOPICS, "--delete", "--topic", "orders")
    s.step("delete-missing", TOPICS, "--delete", "--topic", "missing", code=1)
    s.step("delete-missing-if-exists", TOPICS, "--delete", "--topic", "missing", "--if-exists")
    s.until("list-after", lambda lines: "orders" not in lines, TOPICS, "--list")
    s.step("create-after-delete", TOPICS, *create, "orders", "--partitions", "1")


def console(s):
    """kafka-console-producer and kafka-console-consumer: keys, headers, nulls, codecs, offsets, groups."""
    s.step("create", TOPICS, "--create", "--topic", "lines", "--partitions", "1")
    to = ("--topic", "lines")
    s.step("produce", PRODUCE, *to, stdin="one\ntwo\nthree\n")
    s.step("produce-keys", PRODUCE, *to, *KEYED, stdin="k1:four\nk2:five\n")
    s.step("produce-headers", PRODUCE, *to, *KEYED, "--reader-property", "parse.headers=true",
           stdin="h1:a,h2:b\tk3:six\n")
    s.step("produce-null", PRODUCE, *to, *KEYED, "--reader-property", "null.marker=NIL", stdin="k1:NIL\n")
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        s.step(f"produce-{codec}", PRODUCE, *to, "--compression-codec", codec, stdin=f"by {codec}\n" * 3)
    s.step("produce-acks-1", PRODUCE, *to, "--request-required-acks", "1",
           "--command-property", "enable.idempotence=false", stdin="with acks 1\n")
    s.step("produce-acks-0", PRODUCE, *to, "--request-required-acks", "0",
           "--command-property", "enable.idempotence=false", stdin="with acks 0\n")
    s.step("produce-sync", PRODUCE, *to, "--sync", stdin="one by one\n")
    total = 3 + 2 + 1 + 1 + 15 + 3
    start = (*to, "--from-beginning")
    s.step("consume", CONSUME, *start, "--max-messages", str(total), *SHOW_ALL,
           expect=[r"^CreateTime:<ms> Partition:0 Offset:0 NO_HEADERS \(none\) one$", r"Offset:5 h1:a,h2:b k3 six$",
                   r"Offset:6 NO_HEADERS k1 \(none\)$", r"Processed a total of 25 messages"])
    s.step("consume-values", CONSUME, *start, "--max-messages", "4")
    s.step("consume-from-offset", CONSUME, *to, "--partition", "0", "--offset", "4", "--max-messages", "2", *SHOW_ALL)
    s.step("consume-nothing-new", CONSUME, *to, "--partition", "0", "--offset", "latest", "--timeout-ms", "2000",
           code=None, expect=["total of 0 messages"])
    s.step("consume-committed-only", CONSUME, *start, "--max-messages", "3", "--isolation-level", "read_committed")
    s.step("consume-by-pattern", CONSUME, "--include", "line.*", "--from-beginning", "--max-messages", "3")
    group = ("--group", "console")
    s.step("consume-group", CONSUME, *start, *group, "--max-messages", "10", *SHOW_ALL)
    s.step("consume-group-goes-on", CONSUME, *start, *group, "--max-messages", str(total - 10), *SHOW_ALL,
           expect=["Offset:10 "])
    s.step("consume-group-at-end", CONSUME, *start, *group, "--timeout-ms", "4000", code=None,
           expect=["total of 0 messages"])
    s.step("produce-to-new-topic", PRODUCE, "--topic", "made-by-producing", stdin="first\n")
    s.step("consume-new-topic", CONSUME, "--topic", "made-by-producing", "--from-beginning", "--max-messages", "1")
    s.step("describe-new-topic", TOPICS, "--describe", "--topic", "made-by-producing")
    s.step("create-append-time", TOPICS, "--create", "--topic", "stamped", "--config",
           "message.timestamp.type=LogAppendTime")
    s.step("produce-append-time", PRODUCE, "--topic", "stamped", stdin="a\nb\n")
    s.step("consume-append-time", CONSUME, "--topic", "stamped", "--from-beginning", "--max-messages", "2", *SHOW_ALL,
           expect=[r"^LogAppendTime:<ms> "])
    s.step("create-small", TOPICS, "--create", "--topic", "small", "--config", "max.message.bytes=200")
    s.step("produce-too-large", PRODUCE, "--topic", "small", stdin="x" * 500 + "\n", code=None)


def groups(s):
    """kafka-consumer-groups on groups without members: describe, every kind of reset, delete."""
    s.step("create", TOPICS, "--create", "--topic", "work", "--partitions", "2")
    s.step("produce", PRODUCE, "--topic", "work", *KEYED, stdin="".join(f"key-{n}:value-{n}\n" for n in range(40)))
    s.step("describe-missing", GROUPS, "--describe", "--group", "nobody", code=None)
    s.step("state-missing", GROUPS, "--describe", "--group", "nobody", "--state", code=None)
    s.step("consume", CONSUME, "--topic", "work", "--from-beginning", "--group", "readers", "--max-messages", "40",
           unordered=True)
    describe = ("--describe", "--group", "readers")
    s.until("empty", lambda lines: any(" Empty " in line for line in lines), GROUPS, *describe, "--state")
    s.step("list", GROUPS, "--list", unordered=True, expect=["^readers$"])
    s.step("list-states", GROUPS, "--list", "--state", unordered=True, expect=["readers Empty"])
    s.step("list-stable", GROUPS, "--list", "--state", "Stable")
    s.step("list-types", GROUPS, "--list", "--type", unordered=True, expect=["readers Classic"])
    s.step("list-type-classic", GROUPS, "--list", "--type", "classic", unordered=True)
    for label, more in (("offsets", []), ("verbose", ["--verbose"]), ("state", ["--state"]), ("members", ["--members"]),
                        ("state-verbose", ["--state", "--verbose"]), ("members-verbose", ["--members", "--verbose"])):
        s.step(f"describe-{label}", GROUPS, *describe, *more, unordered=True)
    s.step("describe-all-groups", GROUPS, "--describe", "--all-groups", unordered=True)
    reset = ("--reset-offsets", "--group", "readers", "--topic", "work")
    for label, how in (("to-earliest", ["--to-earliest"]), ("to-latest", ["--to-latest"]),
                       ("to-offset", ["--to-offset", "3"]), ("to-offset-beyond", ["--to-offset", "1000"]),
                       ("shift-by", ["--shift-by", "-2"]), ("shift-by-beyond", ["--shift-by", "-1000"]),
                       ("by-duration", ["--by-duration", "PT1H"]), ("to-current", ["--to-current"]),
                       ("to-datetime", ["--to-datetime", "2020-01-01T00:00:00.000"]),
                       ("to-datetime-ahead", ["--to-datetime", "2099-01-01T00:00:00.000"])):
        s.step(f"{label}-dry-run", GROUPS, *reset, *how, "--dry-run", unordered=True, expect=["readers work 0 "])
        s.step(f"{label}-execute", GROUPS, *reset, *how, "--execute", unordered=True, expect=["readers work 1 "])
        s.step(f"{label}-result", GROUPS, *describe, unordered=True)
    s.step("reset-without-mode", GROUPS, *reset, "--to-earliest", unordered=True, code=None)
    execute = ("--execute", "--reset-offsets", "--group")
    s.step("reset-one-partition", GROUPS, *execute, "readers", "--topic", "work:1", "--to-offset", "5",
           expect=["readers work 1 5"])
    plan = s.step("export", GROUPS, *reset, "--to-offset", "7", "--export", "--dry-run", unordered=True)
    s.step("import", GROUPS, *execute, "readers", "--from-file", s.file("plan.csv", plan.strip() + "\n"),
           unordered=True, expect=["readers work 0 7", "readers work 1 7"])
    s.step("reset-all-topics", GROUPS, *execute, "readers", "--all-topics", "--to-latest", unordered=True)
    s.step("reset-missing-topic", GROUPS, *execute, "readers", "--topic", "missing", "--to-earliest", code=None)
    s.step("reset-new-group", GROUPS, *execute, "fresh", "--topic", "work", "--to-earliest", unordered=True)
    s.step("describe-new-group", GROUPS, "--describe", "--group", "fresh", unordered=True)
    s.step("delete", GROUPS, "--delete", "--group", "readers", expect=["was successful"])
    s.step("delete-again", GROUPS, "--delete", "--group", "readers", code=None, expect=["could not be deleted"])
    s.step("delete-some", GROUPS, "--delete", "--group", "fresh", "--group", "nobody", code=None)
    s.step("list-after", GROUPS, "--list", unordered=True)


def active_groups(s):
    """kafka-consumer-groups on a group that has a member."""
    s.step("create", TOPICS, "--create", "--topic", "busy", "--partitions", "2")
    s.step("produce", PRODUCE, "--topic", "busy", *KEYED, stdin="".join(f"key-{n}:value-{n}\n" for n in range(10)))
    member = ("--topic", "busy", "--from-beginning", "--group", "workers", "--command-property", "client.id=reader",
              "--command-property", "auto.commit.interval.ms=200")
    describe = ("--describe", "--group", "workers")
    with s.background(CONSUME, *member) as consumer:
        consumer.await_lines(10)
        s.until("stable", lambda lines: any(" Stable " in line for line in lines), GROUPS, *describe, "--state")
        caught_up = [r"^workers busy 0 \d+ \d+ 0 reader-<uuid> /127\.0\.0\.1 reader$"]
        s.until("describe", lambda lines: sum(" 0 reader-" in line for line in lines) == 2, GROUPS, *describe,
                unordered=True, expect=caught_up)
        for label, more in (("verbose", ["--verbose"]), ("state-verbose", ["--state", "--verbose"]),
                            ("members", ["--members"]), ("members-verbose", ["--members", "--verbose"])):
            s.step(f"describe-{label}", GROUPS, *describe, *more, unordered=True)
        s.step("list-stable", GROUPS, "--list", "--state", "Stable", unordered=True, expect=["workers"])
        s.step("reset", GROUPS, "--execute", "--reset-offsets", "--group", "workers", "--topic", "busy",
               "--to-earliest", code=None, unordered=True, expect=["inactive"])
        s.step("delete", GROUPS, "--delete", "--group", "workers", code=None, expect=["could not be deleted"])
    s.until("left", lambda lines: any(" Empty " in line for line in lines), GROUPS, *describe, "--state")
    static = (*member, "--command-property", "group.instance.id=one")
    with s.background(CONSUME, *static) as _:
        # A member is listed before it has its partitions.
        assigned = lambda lines: any(" one " in line and line.split()[-1:] == ["2"] for line in lines)  # noqa: E731
        s.until("static-member", assigned, GROUPS, *describe, "--members",
                unordered=True)


def configs(s):
    """kafka-configs on topics."""
    s.step("create", TOPICS, "--create", "--topic", "settings")
    topic = ("--entity-type", "topics", "--entity-name", "settings")
    s.step("describe-none", CONFIGS, *topic, "--describe")
    s.step("add", CONFIGS, *topic, "--alter", "--add-config", "retention.ms=3600000,max.message.bytes=2000000",
           expect=["Completed updating config for topic settings"])
    s.step("describe", CONFIGS, *topic, "--describe", expect=[r"retention\.ms=3600000 sensitive=false synonyms="])
    s.step("add-list", CONFIGS, *topic, "--alter", "--add-config", "cleanup.policy=[compact,delete]")
    s.step("describe-list", CONFIGS, *topic, "--describe", expect=[r"cleanup\.policy=compact,delete"])
    s.step("describe-all", CONFIGS, *topic, "--describe", "--all", expect=[r"^min\.insync\.replicas=1"])
    s.step("delete", CONFIGS, *topic, "--alter", "--delete-config", "retention.ms,cleanup.policy")
    s.step("describe-after", CONFIGS, *topic, "--describe")
    s.step("add-and-delete", CONFIGS, *topic, "--alter", "--add-config", "segment.ms=60000",
           "--delete-config", "max.message.bytes")
    s.step("add-unknown", CONFIGS, *topic, "--alter", "--add-config", "no.such.setting=1", code=1)
    s.step("add-not-a-number", CONFIGS, *topic, "--alter", "--add-config", "retention.ms=never", code=1)
    s.step("add-out-of-range", CONFIGS, *topic, "--alter", "--add-config", "retention.ms=-2", code=1)
    s.step("add-not-in-list", CONFIGS, *topic, "--alter", "--add-config", "compression.type=brotli", code=1)
    s.step("delete-not-set", CONFIGS, *topic, "--alter", "--delete-config", "retention.bytes", code=None)
    missing = ("--entity-type", "topics", "--entity-name", "missing")
    s.step("describe-missing", CONFIGS, *missing, "--describe", code=None)
    s.step("add-missing", CONFIGS, *missing, "--alter", "--add-config", "retention.ms=1", code=1)
    s.step("describe-every-topic", CONFIGS, "--entity-type", "topics", "--describe", unordered=True)


def broker_configs(s):
    """kafka-configs on brokers and their loggers."""
    entity = ("--entity-type", "brokers")
    one, every = (*entity, "--entity-name", "1"), (*entity, "--entity-default")
    add, delete = ("--alter", "--add-config"), ("--alter", "--delete-config")
    s.step("describe-none", CONFIGS, *one, "--describe")
    s.step("describe-all", CONFIGS, *one, "--describe", "--all", view=normalise.defaults_of_settings,
           expect=[r"^num\.partitions sensitive=false default num\.partitions=1$",
                   r"^group\.share\.max\.session\.timeout\.ms sensitive=false "])
    s.step("add", CONFIGS, *one, *add, "log.retention.ms=3600000,log.cleanup.policy=[compact,delete]",
           expect=[r"^Completed updating config for broker 1\.$"])
    s.step("describe", CONFIGS, *one, "--describe", expect=[r"log\.retention\.ms=3600000 sensitive=false synonyms="])
    s.step("add-default", CONFIGS, *every, *add, "message.max.bytes=2000000,log.retention.ms=7200000",
           expect=["Completed updating default config for brokers in the cluster"])
    s.step("describe-default", CONFIGS, *every, "--describe", view=normalise.without("min.insync.replicas"))
    s.step("describe-both", CONFIGS, *one, "--describe", view=normalise.without("min.insync.replicas"))
    s.step("delete", CONFIGS, *one, *delete, "log.retention.ms,log.cleanup.policy")
    s.step("delete-default", CONFIGS, *every, *delete, "message.max.bytes,log.retention.ms")
    s.step("describe-after", CONFIGS, *one, "--describe", view=normalise.without("min.insync.replicas"))
    s.step("add-for-listener", CONFIGS, *one, *add, "listener.name.plaintext.max.connections=500")
    s.step("delete-for-listener", CONFIGS, *one, *delete, "listener.name.plaintext.max.connections")
    s.step("add-threads", CONFIGS, *one, *add, "num.io.threads=9")
    s.step("delete-threads", CONFIGS, *one, *delete, "num.io.threads")
    for label, where, setting in (("read-only", one, "num.partitions=3"), ("read-only-default", every, "node.id=3"),
                                  ("too-many-threads", one, "num.io.threads=17"),
                                  ("no-threads", one, "num.io.threads=0"),
                                  ("cleaner-threads", one, "log.cleaner.threads=4"),
                                  ("not-a-number", one, "message.max.bytes=big"),
                                  ("out-of-range", every, "message.max.bytes=-1"), ("zero", one, "log.retention.ms=0"),
                                  ("per-broker-only", every, "cordoned.log.dirs=/d"),
                                  ("no-prefix", one, "ssl.keystore.location=/k"),
                                  ("overrides", one, "max.connections.per.ip.overrides=xx"),
                                  ("listener-default", every, "listener.name.plaintext.ssl.protocol=TLS")):
        s.step(f"add-{label}", CONFIGS, *where, *add, setting, code=1)
    s.step("add-unknown", CONFIGS, *one, *add, "no.such.setting=1")
    s.step("describe-unknown", CONFIGS, *one, "--describe", view=normalise.without("min.insync.replicas"),
           expect=[r"^no\.such\.setting=null sensitive=true"])
    s.step("delete-unknown", CONFIGS, *one, *delete, "no.such.setting")

    loggers = ("--entity-type", "broker-loggers", "--entity-name", "1")
    # Which loggers there are is the program's own affair; both have a root.
    s.step("loggers", CONFIGS, *loggers, "--describe", view=normalise.only("root="), expect=["^root=[A-Z]+ "])
    s.step("logger-add", CONFIGS, *loggers, *add, "root=ERROR")
    s.step("logger-added", CONFIGS, *loggers, "--describe", view=normalise.only("root="), expect=["^root=ERROR "])
    s.step("logger-add-unknown", CONFIGS, *loggers, *add, "no.such.logger=INFO", code=None)
    s.step("logger-add-wrong", CONFIGS, *loggers, *add, "root=LOUD", code=1)
    s.step("logger-delete-root", CONFIGS, *loggers, *delete, "root", code=1)
    s.step("logger-back", CONFIGS, *loggers, *add, "root=WARN")


def group_configs(s):
    """kafka-configs on groups and client metrics, and kafka-client-metrics."""
    add, delete = ("--alter", "--add-config"), ("--alter", "--delete-config")
    group = ("--entity-type", "groups", "--entity-name", "tuned")
    s.step("group-describe-none", CONFIGS, *group, "--describe")
    s.step("group-describe-all", CONFIGS, *group, "--describe", "--all",
           expect=[r"^share\.auto\.offset\.reset=latest sensitive=false synonyms="])
    s.step("group-add", CONFIGS, *group, *add, "consumer.session.timeout.ms=46000,share.delivery.count.limit=7",
           expect=["Completed updating config for group tuned"])
    s.step("group-describe", CONFIGS, *group, "--describe")
    s.step("group-delete", CONFIGS, *group, *delete, "share.delivery.count.limit")
    for label, setting in (("low", "consumer.session.timeout.ms=1"), ("high", "share.session.timeout.ms=100000"),
                           ("unknown", "consumer.nope=1"), ("word", "share.isolation.level=maybe"),
                           ("strategy", "share.auto.offset.reset=sometimes"),
                           ("type", "streams.num.standby.replicas=x"),
                           ("standby", "streams.num.standby.replicas=9"), ("cross", "share.heartbeat.interval.ms=1")):
        s.step(f"group-add-{label}", CONFIGS, *group, *add, setting, code=1)
    s.step("group-add-duration", CONFIGS, *group, *add, "share.auto.offset.reset=by_duration:P1DT2H")
    s.step("group-describe-after", CONFIGS, *group, "--describe")

    metrics = ("--entity-type", "client-metrics", "--entity-name", "subscription")
    s.step("metrics-describe-none", CONFIGS, *metrics, "--describe", code=None)
    s.step("metrics-add", CONFIGS, *metrics, *add,
           "metrics=[org.apache.kafka.producer.,org.apache.kafka.consumer.],interval.ms=5000,match=[client_id=a.*]")
    s.step("metrics-describe", CONFIGS, *metrics, "--describe", expect=[r"^interval\.ms=5000 "])
    for label, setting in (("interval", "interval.ms=1"), ("unknown", "nope=1"), ("attribute", "match=[foo=b]"),
                           ("regex", "match=[client_id=[]"), ("type", "interval.ms=x")):
        s.step(f"metrics-add-{label}", CONFIGS, *metrics, *add, setting, code=1)
    s.step("metrics-delete", CONFIGS, *metrics, *delete, "match")
    s.step("metrics-describe-after", CONFIGS, *metrics, "--describe")

    name = ("--name", "by-tool")
    s.step("client-metrics-alter", CLIENT_METRICS, "--alter", *name, "--metrics", "org.apache.kafka.",
           "--interval", "10000", "--match", "client_software_name=apache.*")
    s.step("client-metrics-describe", CLIENT_METRICS, "--describe", *name, expect=["interval.ms=10000"])
    s.step("client-metrics-alter-again", CLIENT_METRICS, "--alter", *name, "--interval", "", code=None)
    s.step("client-metrics-describe-again", CLIENT_METRICS, "--describe", *name)
    s.step("client-metrics-wrong", CLIENT_METRICS, "--alter", *name, "--interval", "5", code=None)
    s.step("client-metrics-delete", CLIENT_METRICS, "--delete", *name, code=None)
    s.step("client-metrics-describe-deleted", CLIENT_METRICS, "--describe", *name, code=None)


def quotas(s):
    """kafka-configs on users, clients and addresses."""
    clients, users, ips = (("--entity-type", kind) for kind in ("clients", "users", "ips"))
    app, alice, local = (*clients, "--entity-name", "app"), (*users, "--entity-name", "alice"), (*ips, "--entity-name",
                                                                                              "127.0.0.1")
    pair = (*users, "--entity-name", "alice", *clients, "--entity-name", "app")
    s.step("describe-none", CONFIGS, *app, "--describe")
    s.step("add", CONFIGS, *app, "--alter", "--add-config", "producer_byte_rate=1048576,consumer_byte_rate=2097152",
           expect=["Completed updating config for client app"])
    s.step("describe", CONFIGS, *app, "--describe", expect=[r"client-id 'app' are .*producer_byte_rate=1048576\.0"])
    s.step("add-user", CONFIGS, *alice, "--alter", "--add-config", "request_percentage=250.5")
    s.step("add-pair", CONFIGS, *pair, "--alter", "--add-config", "controller_mutation_rate=10")
    s.step("add-default", CONFIGS, *users, "--entity-default", "--alter", "--add-config", "producer_byte_rate=1e9")
    s.step("add-user-of-all", CONFIGS, *users, "--entity-default", *clients, "--entity-default", "--alter",
           "--add-config", "consumer_byte_rate=1000000000")
    s.step("add-ip", CONFIGS, *local, "--alter", "--add-config", "connection_creation_rate=100000")
    s.step("add-ip-default", CONFIGS, *ips, "--entity-default", "--alter", "--add-config",
           "connection_creation_rate=200000")
    s.step("describe-user", CONFIGS, *alice, "--describe", unordered=True)
    s.step("describe-pair", CONFIGS, *pair, "--describe", expect=["controller_mutation_rate=10"])
    s.step("describe-users", CONFIGS, *users, "--describe", unordered=True)
    s.step("describe-clients", CONFIGS, *clients, "--describe", unordered=True)
    s.step("describe-users-and-clients", CONFIGS, *users, *clients, "--describe", unordered=True)
    s.step("describe-default", CONFIGS, *users, "--entity-default", "--describe", unordered=True)
    s.step("describe-ips", CONFIGS, *ips, "--describe", unordered=True)
    s.step("describe-ip", CONFIGS, *local, "--describe", expect=["connection_creation_rate=100000"])
    s.step("replace", CONFIGS, *app, "--alter", "--add-config", "producer_byte_rate=5", "--delete-config",
           "consumer_byte_rate")
    s.step("describe-replaced", CONFIGS, *app, "--describe", expect=["producer_byte_rate=5"])
    s.step("add-unknown", CONFIGS, *app, "--alter", "--add-config", "no_such_quota=1", code=1)
    s.step("add-of-ips", CONFIGS, *app, "--alter", "--add-config", "connection_creation_rate=1", code=1)
    s.step("add-fraction", CONFIGS, *app, "--alter", "--add-config", "producer_byte_rate=1.5", code=1)
    s.step("add-nothing", CONFIGS, *app, "--alter", "--add-config", "producer_byte_rate=0", code=1)
    s.step("add-no-number", CONFIGS, *app, "--alter", "--add-config", "producer_byte_rate=fast", code=1)
    s.step("add-no-address", CONFIGS, *ips, "--entity-name", "no such host", "--alter", "--add-config",
           "connection_creation_rate=1", code=1)
    s.step("delete-not-set", CONFIGS, *app, "--alter", "--delete-config", "request_percentage", code=1)
    s.step("delete", CONFIGS, *app, "--alter", "--delete-config", "producer_byte_rate")
    s.step("delete-user", CONFIGS, *alice, "--alter", "--delete-config", "request_percentage")
    s.step("delete-pair", CONFIGS, *pair, "--alter", "--delete-config", "controller_mutation_rate")
    s.step("delete-default", CONFIGS, *users, "--entity-default", "--alter", "--delete-config", "producer_byte_rate")
    s.step("delete-user-of-all", CONFIGS, *users, "--entity-default", *clients, "--entity-default", "--alter",
           "--delete-config", "consumer_byte_rate")
    s.step("delete-ip", CONFIGS, *local, "--alter", "--delete-config", "connection_creation_rate")
    s.step("delete-ip-default", CONFIGS, *ips, "--entity-default", "--alter", "--delete-config",
           "connection_creation_rate")
    s.step("describe-nothing-left", CONFIGS, *users, *clients, "--describe")


def offsets(s):
    """kafka-get-offsets and kafka-delete-records."""
    s.step("create", TOPICS, "--create", "--topic", "marks", "--partitions", "2")
    s.step("create-single", TOPICS, "--create", "--topic", "single")
    s.step("produce", PRODUCE, "--topic", "marks", *KEYED, stdin="".join(f"key-{n}:value-{n}\n" for n in range(20)))
    s.step("produce-single", PRODUCE, "--topic", "single", stdin="a\nb\nc\n")
    # In a run of its own, and therefore with a later timestamp than all before it.
    s.step("produce-last", PRODUCE, "--topic", "single", stdin="last\n")
    marks = ("--topic", "marks")
    s.step("latest", OFFSETS, *marks, expect=["^marks:0:", "^marks:1:"])
    for time in ("-1", "-2", "-4", "-5", "-6", "latest", "earliest", "earliest-pending-upload", "0",
                 "4000000000000"):
        s.step(f"time{time}", OFFSETS, *marks, "--time", time, code=None)
    s.step("max-timestamp", OFFSETS, "--topic", "single", "--time", "-3", expect=["^single:0:3$"])
    s.step("max-timestamp-by-name", OFFSETS, "--topic", "single", "--time", "max-timestamp", expect=["^single:0:3$"])
    s.step("malformed", OFFSETS, *marks, "--time", "yesterday", code=1)
    s.step("one-partition", OFFSETS, *marks, "--partitions", "1")
    s.step("by-pattern", OFFSETS, "--topic-partitions", "mar.*:0,single")
    s.step("missing", OFFSETS, "--topic", "missing", code=1)
    s.step("without-internal", OFFSETS, "--topic", "marks|single", "--exclude-internal-topics")

    def delete(label, partitions, **rest):
        wanted = ",".join('{"topic":"marks","partition":%d,"offset":%d}' % place for place in partitions)
        path = s.file(f"{label}.json", '{"partitions":[%s],"version":1}' % wanted)
        s.step(label, "kafka-delete-records", "--offset-json-file", path, unordered=True, **rest)

    delete("delete", [(0, 3), (1, 2)], expect=[r"partition: marks-0 low_watermark: 3"])
    s.step("earliest-after", OFFSETS, *marks, "--time", "-2", expect=["^marks:0:3$", "^marks:1:2$"])
    s.step("consume-after", CONSUME, *marks, "--partition", "0", "--offset", "earliest", "--max-messages", "2",
           *SHOW_ALL, expect=["Offset:3 "])
    delete("delete-below-start", [(0, 1)], code=None)
    delete("delete-beyond-end", [(0, 1000)], code=None)
    delete("delete-all", [(0, -1), (1, -1)])
    s.step("earliest-at-end", OFFSETS, *marks, "--time", "-2")
    delete("delete-twice", [(0, 3), (0, 3)], code=None)
    broken = s.file("broken.json", "{")
    s.step("delete-broken-file", "kafka-delete-records", "--offset-json-file", broken, code=None)


def performance(s):
    """kafka-producer-perf-test and kafka-consumer-perf-test: of the reports only the shape is compared."""
    s.step("create", TOPICS, "--create", "--topic", "perf", "--partitions", "3")
    # One report at the end, however slow the machine is.
    quiet = ("--reporting-interval", "600000")
    produce = ("--topic", "perf", "--record-size", "200", "--throughput", "-1", *quiet)
    s.step("produce", "kafka-producer-perf-test", *produce, "--num-records", "20000", view=normalise.shapes,
           expect=[r"# records sent, # records/sec \(# MB/sec\), # ms avg latency"])
    for codec in ("gzip", "lz4"):
        s.step(f"produce-{codec}", "kafka-producer-perf-test", *produce, "--num-records", "5000", "--command-property",
               f"compression.type={codec}", "acks=all", view=normalise.shapes)
    s.step("offsets", OFFSETS, "--topic", "perf", code=0, view=lambda lines: [str(_sum_of_offsets(lines))],
           expect=["^30000$"])
    consume = ("--topic", "perf", "--num-records", "30000", "--timeout", "30000", *quiet)
    s.step("consume", "kafka-consumer-perf-test", *consume, view=normalise.shapes, expect=["data.consumed.in.MB"])
    s.step("consume-detailed", "kafka-consumer-perf-test", *consume, "--show-detailed-stats", "--hide-header",
           view=normalise.shapes)


def _sum_of_offsets(lines):
    return sum(int(line.rsplit(":", 1)[1]) for line in lines if not line.startswith("!"))


def verifiable(s):
    """kafka-verifiable-producer and kafka-verifiable-consumer."""
    s.step("create", TOPICS, "--create", "--topic", "verified")
    s.step("produce", "kafka-verifiable-producer", "--topic", "verified", "--max-messages", "50",
           view=normalise.verifiable_producer, expect=[r'"name": "shutdown_complete"', r'"value": "49"'])
    s.step("produce-prefixed", "kafka-verifiable-producer", "--topic", "verified", "--max-messages", "10",
           "--acks", "1", "--value-prefix", "3", "--repeating-keys", "4", view=normalise.verifiable_producer)
    s.step("consume", "kafka-verifiable-consumer", "--topic", "verified", "--group-id", "verifier",
           "--max-messages", "60", "--reset-policy", "earliest", "--verbose", view=normalise.verifiable_consumer,
           expect=["^consumed 60$", r"\('verified', 0\), 60\)"])
    s.step("offsets", GROUPS, "--describe", "--group", "verifier", expect=["verifier verified 0 60 60 0"])


def versions(s):
    """kafka-broker-api-versions."""
    # What issue 3 promises; the comparison with Kafka looks at every other API.
    promised = ["Produce", "Fetch", "ListOffsets", "Metadata", "OffsetCommit", "OffsetFetch", "FindCoordinator",
                "JoinGroup", "Heartbeat", "LeaveGroup", "SyncGroup", "DescribeGroups", "ListGroups", "ApiVersions",
                "CreateTopics", "DeleteTopics", "DeleteRecords", "InitProducerId", "OffsetForLeaderEpoch",
                "DescribeConfigs", "DeleteGroups", "IncrementalAlterConfigs", "CreatePartitions", "DescribeCluster",
                "DescribeTopicPartitions", "DescribeClientQuotas", "AlterClientQuotas"]
    s.step("versions", "kafka-broker-api-versions",
           expect=[r"^<broker> \(id: 1 rack: null isFenced: false\) -> \("]
           + [rf"^{name}\(\d+\): \d.*\[usable: " for name in promised])


CASES = [topics, console, groups, active_groups, configs, broker_configs, group_configs, quotas, offsets,
         performance, verifiable, versions]
CASES += admin_cases.CASES
