"""Takes out of a tool's output what may differ between two correct brokers: ids, times, sizes, ports. Pure.

What is left must be equal line by line. Log lines and stack frames are not output: the tools write them to stderr, when
and how often depends on timing.
"""

import json
import re

LOG_LINE = re.compile(r"^(\[\d{4}-\d\d-\d\d |SLF4J|WARNING: An illegal|OpenJDK .* warning)")
STACK_FRAME = re.compile(r"^\s+(at [\w.$/<>@-]+[\w.$<>]*\(|\.\.\. \d+ (more|common frames omitted))")

REPLACEMENTS = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"(TopicId: )\S{22}"), r"\1<id>"),
    (re.compile(r"\b(?:127\.0\.0\.1|localhost):\d+"), "<broker>"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[:.,]\d{3}"), "<time>"),
    (re.compile(r"\b1[5-9]\d{11}\b"), "<ms>"),
    (re.compile(r"/\S*?/(?:kafka-data/log|ottla-data)(?=[\"\s,]|$)"), "<log-dir>"),
    (re.compile(r"console-consumer-\d+"), "console-consumer-<n>"),
    # What a JVM says of a substring differs from one version of it to the next, and Kafka passes it on.
    (re.compile(r"begin (\d+), end (-?\d+), length (\d+)"), r"Range [\1, \2) out of bounds for length \3"),
]
SPACES = re.compile(r"[ \t]+")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def lines(output):
    """The lines of an output that mean something, with column widths and everything variable levelled."""
    kept = []
    for line in output.splitlines():
        if LOG_LINE.match(line) or STACK_FRAME.match(line):
            continue
        for pattern, replacement in REPLACEMENTS:
            line = pattern.sub(replacement, line)
        line = SPACES.sub(" ", line).strip()
        if line:
            kept.append(line)
    return kept


def shapes(kept):
    """For reports of speed: every number becomes `#`, and a line of a kind seen before is dropped."""
    return list(dict.fromkeys(NUMBER.sub("#", line) for line in kept))


def only(start):
    """A view of the lines that begin so."""
    return lambda kept: [line for line in kept if line.startswith(start)]


def without(name):
    """A view of a description without one setting."""
    return lambda kept: [line for line in kept if not line.startswith(name + "=")]


# Our own settings are not Kafka's, and the defaults of these few are those of a program that runs without a file.
OWN_SETTINGS = re.compile(r"^(ottla\.|log\.dirs?=|listener\.security\.protocol\.map=|broker\.id=|node\.id=|process\.roles=|"
                          r"controller\.listener\.names=)")
SETTING = re.compile(r"^([^=]+)=.* (sensitive=\w+) synonyms=\{(.*)\}$")


def defaults_of_settings(kept):
    """Every setting with its default: the values in force are those that each broker was started with."""
    shown = []
    for line in kept:
        found = SETTING.match(line)
        if found and not OWN_SETTINGS.match(line):
            name, sensitive, synonyms = found.groups()
            _, has_default, default = synonyms.partition("DEFAULT_CONFIG:")
            shown.append(f"{name} {sensitive} default {default if has_default else 'null'}")
        elif not found:
            shown.append(line)
    return sorted(shown)


def verifiable_producer(kept):
    """The events of kafka-verifiable-producer without times and rates."""
    events = []
    for event in _events(kept):
        for variable in ("timestamp", "avg_throughput", "target_throughput"):
            event.pop(variable, None)
        events.append(json.dumps(event, sort_keys=True))
    return events


def verifiable_consumer(kept):
    """The events of kafka-verifiable-consumer. How records fall into polls is chance: only what adds up is kept."""
    names, records, committed, consumed = [], [], {}, 0
    for event in _events(kept):
        name = event["name"]
        if name not in names:
            names.append(name)
        if name == "records_consumed":
            consumed += sum(part["count"] for part in event["partitions"])
        elif name == "offsets_committed":
            if not event["success"]:
                records.append(f"commit failed: {event.get('error')}")
            committed.update({(o["topic"], o["partition"]): o["offset"] for o in event["offsets"]})
        elif name == "record_data":
            event.pop("timestamp", None)
            records.append(json.dumps(event, sort_keys=True))
    return [" ".join(sorted(names)), f"consumed {consumed}", f"committed {sorted(committed.items())}", *records]


def _events(kept):
    # A time that was levelled before is no JSON any more.
    return [json.loads(line.replace("<ms>", "0")) for line in kept if line.startswith("{")]


API = re.compile(r"(\w+)\((\d+)\): (?:(UNSUPPORTED)|(\d+)(?: to (\d+))?)")


def api_ranges(kept):
    """What kafka-broker-api-versions says: {(key, name): (min, max)}, or None for an API that is not there."""
    ranges = {}
    for line in kept:
        found = API.match(line)
        if found:
            name, key, missing, low, high = found.groups()
            ranges[(int(key), name)] = None if missing else (int(low), int(high or low))
    return ranges


def features(kept):
    """What kafka-features says of metadata.version; the epoch counts records."""
    told = [line for line in kept if "metadata.version" in line]
    return [re.sub(r"Epoch: \d+", "Epoch: #", line) for line in told]


def log_dirs(kept):
    """The report of kafka-log-dirs, one line per partition: paths differ, and the order is that of a hash map."""
    told = []
    for line in kept:
        if not line.startswith("{"):
            told.append(line)
            continue
        for broker in json.loads(line)["brokers"]:
            for place in broker["logDirs"]:
                told.append(f"broker {broker['broker']} error {place['error']} keys {sorted(place)}")
                logs = [f"{one['partition']} size {one['size']} lag {one['offsetLag']} isFuture {one['isFuture']}"
                        for one in place["partitions"]]
                told += sorted(logs)
    return told


ENDPOINTS = re.compile(r'"endpoints": \[[^\]]*\]')
ID = re.compile(r"(?<![\w-])[\w-]{22}(?![\w-])")


def quorum(kept):
    """What kafka-metadata-quorum says without numbers, ids and addresses. The voters of the Kafka beside it are fixed by its
    file, so that it does not name their directories; a single Ottla can take in more, as a Kafka formatted so does."""
    levelled = [ENDPOINTS.sub('"endpoints": [...]', ID.sub("<id>", line)) for line in kept]
    levelled = [line.replace(', "directoryId": "<id>"', "") for line in levelled]
    return [NUMBER.sub("#", line) for line in levelled]


def producers(kept):
    """The table of kafka-transactions describe-producers: producer ids and times differ."""
    return [re.sub(r"^\d+ (\d+) (\S+) (\d+) \S+ (\S+)$", r"# \1 \2 \3 # \4", line) for line in kept]


def cluster(kept):
    """What kafka-cluster says: the cluster's id and the port differ."""
    return [re.sub(r"\b(localhost|127\.0\.0\.1) \d+\b", r"<host> #", ID.sub("<id>", line)) for line in kept]


# Three nodes.

ISR = re.compile(r"\b(Isr|Elr|LastKnownElr): ([\d,]+)")


def sorted_isr(kept):
    """The description of a topic whose replicas went and came back: in which order is chance."""
    return [ISR.sub(lambda found: f"{found[1]}: {','.join(sorted(found[2].split(',')))}", line) for line in kept]


def placement(kept):
    """The description of a topic whose replicas were placed by chance: how many of what each node has."""
    told, leaders, replicas = [], {}, {}
    for line in kept:
        found = re.search(r"Partition: (\d+) Leader: (\d+) Replicas: ([\d,]+) Isr: ([\d,]+)", line)
        if not found:
            told.append(line)
            continue
        _, leader, places, isr = found.groups()
        told.append(f"led by one in sync {leader in isr}, in sync {sorted(isr.split(','))}")
        leaders[leader] = leaders.get(leader, 0) + 1
        for place in places.split(","):
            replicas[place] = replicas.get(place, 0) + 1
    return [*told, f"leaders {sorted(leaders.values())}", f"replicas {sorted(replicas.items())}"]


def any_disk(kept):
    """Plans that name the directories in which a broker has put replicas: which of two equal ones is chance."""
    return [re.sub(r"<disk-\d of", "<disk of", line) for line in kept]


def proposal(kept):
    """What kafka-reassign-partitions --generate prints: its proposal begins at a node chosen by chance."""
    at = next((n for n, line in enumerate(kept) if line.startswith("Proposed")), len(kept))
    counted = [re.sub(r'"replicas":\[([\d,]*)\]', lambda found: f'"replicas":{len(found[1].split(","))}', line)
               for line in kept[at:]]
    return any_disk(kept[:at] + counted)


def attempts(kept):
    """How often a tool asked in vain."""
    return [re.sub(r"tries=\d+|after \d+ attempt", "<tries>", line) for line in kept]


def without_node(number):
    """A view without the lines that begin with a node's id."""
    return lambda kept: [line for line in kept if not line.startswith(f"{number} ")]


def sorted_voters(kept):
    """The voters in what is said of a set of them."""
    def in_order(found):
        return "[" + ", ".join(sorted(re.findall(r"ReplicaKey\([^)]*\)", found[0]))) + "]"

    return [re.sub(r"\[ReplicaKey.*?\)\]", in_order, line) for line in kept]


def logs_of_brokers(kept):
    """The report of kafka-log-dirs by broker: in which of its directories a log is, is chance."""
    def tell(number, places):
        logs = sorted(log for place in places for log in logs_of(place))
        return [f"broker {number} errors {[place['error'] for place in places]} {logs}"]

    return by_broker(kept, tell)


def by_broker(kept, tell):
    """The report of kafka-log-dirs with the lines that `tell` makes of each broker's id and directories."""
    told = []
    for line in kept:
        if not line.startswith("{"):
            told.append(line)
            continue
        for broker in sorted(json.loads(line)["brokers"], key=lambda one: one["broker"]):
            told += tell(broker["broker"], broker["logDirs"])
    return told


def logs_of(place):
    """The logs in one directory of such a report."""
    return sorted(f"{one['partition']} size {one['size']} lag {one['offsetLag']} isFuture {one['isFuture']}"
                  for one in place["partitions"])


def brokers_of_versions(kept):
    """Which brokers kafka-broker-api-versions found, and whether they all say the same."""
    heads = sorted(line for line in kept if "(id: " in line or line.startswith("!"))
    told = "\n".join(kept)
    blocks = [block for block in re.split(r"^\S+ \(id: .*$", told, flags=re.MULTILINE)[1:] if "Produce(0)" in block]
    return [*heads, f"{len(blocks)} say {len({block.strip().strip(')').strip() for block in blocks})} things"]


def names_in_any_order(kept):
    """Lists within a line that come out of a hash map: partitions, groups."""
    def in_order(line):
        parts = re.findall(r"[\w.-]+", line)
        return line if len(parts) < 3 else f"{' '.join(sorted(parts))}"

    return [in_order(line) for line in kept]


def shape_of_elections(kept):
    """The kinds of outcome in what kafka-leader-election says of all partitions."""
    return sorted({re.sub(r"partitions? .*", "partitions ...", line) for line in kept})


def log_dirs_with_paths(kept):
    """The report of kafka-log-dirs with the directories, whose order is that of a hash map."""
    def tell(number, places):
        return [f"broker {number} {place['logDir']} error {place['error']} {logs_of(place)}"
                for place in sorted(places, key=lambda one: one["logDir"])]

    return by_broker(kept, tell)


def features_of_quorum(kept):
    """What kafka-features says of metadata.version and kraft.version; the epoch counts records."""
    told = [line for line in kept if "metadata.version" in line or "kraft.version" in line]
    return [re.sub(r"Epoch: \d+", "Epoch: #", line) for line in told]


def any_controller(kept):
    """Which of three is the active controller is chance."""
    return [re.sub(r"Local controller \d", "Local controller #", line) for line in kept]


def quorum_of_three(kept):
    """kafka-metadata-quorum describe --status: who leads and how far is chance, who votes is not."""
    told = []
    for line in kept:
        name, colon, value = line.partition(": ")
        told.append(line if name in ("CurrentVoters", "CurrentObservers") else f"{name}{colon}{NUMBER.sub('#', value)}")
    return [re.sub(r"^ClusterId: .*", "ClusterId: <id>", line) for line in told]


def voters_and_observers(kept):
    """kafka-metadata-quorum describe --replication: who leads, offsets and times differ."""
    rows, told, kinds = [], [], []
    for line in kept:
        found = re.match(r"^(\d+) (<directory of \d>) (.*?)(Leader|Follower|Observer)$", line)
        if found:
            node, directory, numbers, kind = found.groups()
            kinds.append(kind)
            voter = "observer" if kind == "Observer" else "voter"
            rows.append(f"{node} {directory} {NUMBER.sub('#', numbers)}{voter}")
        else:
            told.append(line)
    return [*told, *sorted(rows), *sorted(kinds)]
