"""What Prometheus may know: requests by route, runs by state, refusals, age of the data."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The API's own figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "mntrading_api_request_seconds",
            "Time from a request to its answer",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.refused = Counter(
            "mntrading_api_refused_total", "Requests refused before a route", ("reason",), registry=self.registry
        )
        self.runs = Gauge("mntrading_api_runs", "Runs kept in the queue, by state", ("state",), registry=self.registry)
        self.running_since = Gauge(
            "mntrading_api_run_started_timestamp_seconds",
            "When the run that runs began, 0 for none",
            registry=self.registry,
        )
        self.data_as_of = Gauge(
            "mntrading_api_data_as_of_timestamp_seconds",
            "Close of the bar that the newest orders belong to, 0 for none",
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
