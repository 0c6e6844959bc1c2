"""Numbers for Prometheus, of one application each: a registry of its own, not that of the process."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from unified.server.scheduler import Scheduler


class Metrics:
    """Requests by route and status, their seconds, and what the scheduler counts."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "unified_requests", "Requests that were answered.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "unified_request_seconds", "Seconds of a request.", ["route"], registry=self.registry
        )
        self.registry.register(_Scheduled(scheduler))

    def seen(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Scheduled:
    """What the scheduler counts, read when it is asked for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "unified_rows", "Answers that are being generated.", len(self.scheduler.running)
        )
        yield GaugeMetricFamily("unified_waiting", "Answers that wait for a row.", self.scheduler.waiting)
        for name, value in vars(self.scheduler.counts).items():
            words = name.replace("_", " ")
            yield CounterMetricFamily(f"unified_{name}", f"Number of {words} since the start.", value)
