"""Figures for Prometheus, in a registry of this server's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)


class Metrics:
    """What ``/metrics`` shows. No label holds anything of a scan or a client."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.jobs = Counter(
            "resvox_jobs", "Jobs that are over, by state and kind of failure", ("state", "kind"), registry=registry
        )
        self.accepted = Counter("resvox_jobs_accepted", "Jobs accepted", ("model",), registry=registry)
        self.waiting = Gauge("resvox_jobs_waiting", "Jobs in the queue", registry=registry)
        self.running = Gauge("resvox_jobs_running", "Jobs in worker processes", registry=registry)
        self.stored = Gauge("resvox_stored_bytes", "Bytes of jobs and sessions on the disk", registry=registry)
        self.stage_seconds = Histogram(
            "resvox_stage_seconds", "Seconds per stage of a job", ("stage",), buckets=SECONDS, registry=registry
        )
        self.job_seconds = Histogram(
            "resvox_job_seconds", "Seconds from start to end of a job", buckets=SECONDS, registry=registry
        )
        self.worker_ends = Counter(
            "resvox_worker_ends", "Worker processes that ended unexpectedly", ("device",), registry=registry
        )
        self.workers_up = Gauge("resvox_worker_up", "Whether a worker process is ready", ("device",), registry=registry)
        self.requests = Counter(
            "resvox_http_requests", "Requests by route and status", ("method", "route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "resvox_http_seconds", "Seconds per request", ("route",), buckets=SECONDS, registry=registry
        )

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)
