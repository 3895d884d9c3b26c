"""The numbers: every single measurement, by measure and broker. Nothing is averaged away before the end."""

import statistics


class Results:
    """Measurements, in the order they were made, and remarks on them."""

    def __init__(self):
        self.samples = {}
        self.remarks = []

    def add(self, measure, broker, value):
        """Notes one measurement."""
        self.samples.setdefault(measure, {}).setdefault(broker, []).append(value)

    def of(self, measure, broker):
        """All measurements of one kind; empty if there are none."""
        return self.samples.get(measure, {}).get(broker, [])

    def median(self, measure, broker):
        """The median, or `None`."""
        samples = self.of(measure, broker)
        return statistics.median(samples) if samples else None

    def ratio(self, measure):
        """Median of Ottla over median of Kafka, or `None`."""
        ours, theirs = self.median(measure, "ottla"), self.median(measure, "kafka")
        return ours / theirs if ours is not None and theirs else None
