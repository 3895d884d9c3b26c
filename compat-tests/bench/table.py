"""Which measures the result shows, which of them have a goal, and the table made of them. Pure."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Below:
    """A goal for Ottla's own median."""

    limit: float

    def shown(self, unit):
        """For the table."""
        return f"< {self.limit:g} {unit}"

    def met(self, results, measure):
        """`None` when it was not measured."""
        median = results.median(measure, "ottla")
        return None if median is None else median < self.limit


@dataclass(frozen=True)
class AtMostKafkas:
    """A goal for the ratio of the medians."""

    share: float

    def shown(self, _):
        """For the table."""
        return f"ratio ≤ {self.share:.2g}"

    def met(self, results, measure):
        """`None` when one of the two was not measured."""
        ratio = results.ratio(measure)
        return None if ratio is None else ratio <= self.share


@dataclass(frozen=True)
class AtLeastKafkas:
    """A goal for the ratio of the medians, where more is better."""

    times: float

    def shown(self, _):
        """For the table."""
        return f"ratio ≥ {self.times:g}"

    def met(self, results, measure):
        """`None` when one of the two was not measured."""
        ratio = results.ratio(measure)
        return None if ratio is None else ratio >= self.times


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    title: str
    unit: str
    digits: int = 1
    goal: object = None


START_ROWS = [
    Row("start_ms", "start to first accepted produce, one topic there", "ms", goal=Below(60)),
    Row("first_start_ms", "first start ever to first accepted produce", "ms"),
    Row("idle_mb", "resident memory, idle", "MB", goal=Below(30)),
]
# Of each workload; its goals are its own.
LOAD_ROWS = [
    Row("produce_cpu", "broker CPU per GB produced", "s", 2),
    Row("produce_mb_per_s", "throughput of producing", "MB/s", 0),
    Row("produce_p50", "produce latency, half of all requests", "ms", 2),
    Row("produce_p99", "produce latency, 99 %", "ms", 2),
    Row("produce_p999", "produce latency, 99.9 %", "ms", 2),
    Row("produce_wall", "wall time per GB produced", "s", 2),
    Row("consume_cpu", "broker CPU per GB consumed", "s", 2),
    Row("consume_mb_per_s", "throughput of consuming", "MB/s", 0),
    Row("consume_wall", "wall time per GB consumed", "s", 2),
    Row("loaded_mb", "resident memory after {first}", "MB"),
    Row("end_mb", "resident memory after {all} in and out", "MB"),
    Row("disk_per_byte", "bytes on disk per byte produced", "", 3),
]

CLUSTER_ROWS = [
    Row("cluster.produce_cpu", "three nodes: CPU of all per GB produced", "s", 2),
    Row("cluster.produce_mb_per_s", "three nodes: throughput of producing", "MB/s", 0),
    Row("cluster.steady_p50", "three nodes, 5 MB/s: produce latency, half of all records", "ms", 0),
    Row("cluster.steady_p99", "three nodes, 5 MB/s: produce latency, 99 %", "ms", 0),
    Row("cluster.steady_p999", "three nodes, 5 MB/s: produce latency, 99.9 %", "ms", 0),
    Row("cluster.memory_mb", "three nodes: resident memory of all, loaded", "MB", 0),
    Row("cluster.failover_s", "leader killed: time to the next accepted produce", "s", 2),
    Row("cluster.many_created_s", "{many} partitions: created", "s", 1),
    Row("cluster.many_led_s", "{many} partitions, a node killed: time until all have leaders", "s", 2),
]


def rows(parts, workloads, size, rounds, many, results):
    """The lines for the parts that ran; of a workload, those that its driver measured or that have a goal."""
    lines = list(START_ROWS) if "start" in parts else []
    if "load" in parts:
        for workload in workloads:
            gb = size * workload.share / 1e9
            said = {"first": f"{gb:g} GB produced", "all": f"{gb * (rounds + 1):g} GB"}
            for row in LOAD_ROWS:
                title = f"{workload.name}: {row.title.format(**said)}"
                goal = workload.goals.get(row.measure)
                measure = f"{workload.name}.{row.measure}"
                if goal or results.samples.get(measure):
                    lines.append(Row(measure, title, row.unit, row.digits, goal))
    if "cluster" in parts:
        lines += [replace(row, title=row.title.format(many=f"{many:,}")) for row in CLUSTER_ROWS]
    return lines


def markdown(lines, contestants, results):
    """The table: medians, with the lowest and highest of several measurements behind them."""
    titles = [contestant.title for contestant in contestants]
    head = ["", *titles, "ratio", "goal", ""]
    body = []
    for row in lines:
        ratio = results.ratio(row.measure)
        cells = [row.title + (f" ({row.unit})" if row.unit else "")]
        cells += [cell(results.of(row.measure, c.name), results.median(row.measure, c.name), row.digits)
                  for c in contestants]
        cells += ["–" if ratio is None else f"{ratio:.2f}"]
        cells += [row.goal.shown(row.unit) if row.goal else "", verdict(row, results)]
        body.append(cells)
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    rule = ["-" * max(3, width) for width in widths]
    return "\n".join("| " + " | ".join(text.ljust(len(rule[i])) for i, text in enumerate(line)) + " |"
                     for line in [head, rule, *body])


def cell(samples, median, digits):
    """A median with its spread."""
    if not samples:
        return "–"
    text = f"{median:.{digits}f}"
    if len(samples) > 1:
        text += f" ({min(samples):.{digits}f}–{max(samples):.{digits}f})"
    return text


def verdict(row, results):
    """A word on the goal of a row."""
    if row.goal is None:
        return ""
    return {True: "met", False: "MISSED", None: "not measured"}[row.goal.met(results, row.measure)]


def as_data(lines, results):
    """The same for a program: medians, ratio and verdict by measure. Without a goal the verdict is empty."""
    return {row.measure: {"title": row.title, "unit": row.unit, "ratio": results.ratio(row.measure),
                          "median": {name: results.median(row.measure, name)
                                     for name in results.samples.get(row.measure, {})},
                          "goal": row.goal.shown(row.unit) if row.goal else "",
                          "verdict": verdict(row, results)} for row in lines}
