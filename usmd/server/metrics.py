"""The metrics of a daemon, read from what it counts anyway when a scraper asks. docs/operating.md lists them.

`Metrics.steps` is work in steps of a bounded size, between which the loop has its turn. So two families may be of
moments some milliseconds apart, but each is of one moment, and a counter never falls: `report.Totals` sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, InfoMetricFamily, Metric

from usmd.compiled import BUILD
from usmd.core.report import Totals
from usmd.server import core_metrics, device_metrics
from usmd.server.engine import Engine
from usmd.server.latency import Histogram
from usmd.server.metric_families import counter, gauge
from usmd.server.own_facts import own_facts, started
from usmd.server.process_metrics import process_metrics
from usmd.server.user_metrics import user_metrics
from usmd.version import VERSION


class Metrics:
    """Metrics of one daemon.

    `processes`: how many processes have metrics of their own, those with most memory; may be set at any time.
    """

    def __init__(
        self, engine: Engine, *, processes: int, most_sessions: Callable[[], int], draining: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._most_sessions = most_sessions
        self._draining = draining
        self._started = started()
        self.processes = processes
        self.lag = Histogram()
        """How late the loop was with what was due each 0.1 s."""
        self.scrapes = 0
        self.scrape_seconds = 0.0
        """CPU time of scrapes."""
        self.reloads = {"success": 0, "failure": 0}
        self.reloaded = 1.0
        """Whether the last configuration that was read is in force, 1 or 0."""
        self.reloaded_at = self._started

    def steps(self) -> Iterator[Metric | None]:
        """Each family of metrics; None where there was work, and none is ready."""
        engine = self._engine
        state = engine.core.state
        yield from self._daemon()
        yield from core_metrics.frames(state, self._most_sessions())
        yield from core_metrics.pressure(state.stalls.pressure)
        totals = Totals(state)
        yield from totals.steps()
        yield from core_metrics.counts(totals.counters)
        yield from core_metrics.evictions(state.victims, totals.counters)
        yield from device_metrics.durations(engine.fault_times, engine.queues, self.lag)
        yield from device_metrics.devices(engine.queues, state.swap)
        yield from process_metrics(totals.processes, state.settings, self.processes, engine.core.frozen)
        yield from user_metrics(list(state.users.of.values()), state.settings.page_size, self.processes)

    def _daemon(self) -> Iterator[Metric]:
        build = InfoMetricFamily("usmd_build", "The version of usmd, how it runs, and where the bytes of pages are.")
        build.add_metric([], {
            "version": VERSION, "build": BUILD.text.partition(":")[0], "mechanism": self._engine.memory.name,
        })  # fmt: skip
        yield build
        yield gauge("usmd_draining", "Whether usmd drains: it takes no new session.", float(self._draining()))
        facts = own_facts()
        yield gauge("process_start_time_seconds", "Start of the process since the Unix epoch.", self._started)
        yield counter("process_cpu_seconds", "CPU time of the process.", facts.cpu_seconds)
        yield gauge("process_virtual_memory_bytes", "Virtual memory of the process.", facts.virtual)
        yield gauge(
            "process_resident_memory_bytes", "Resident memory of the process, with its clients'.", facts.resident
        )
        own = "Resident memory of the process that it shares with no client: its own, swap in memory included."
        yield gauge("usmd_own_memory_bytes", own, facts.resident - facts.shared)
        if facts.descriptors:
            yield gauge("process_open_fds", "Open descriptors of the process.", facts.descriptors)
        yield gauge("process_max_fds", "Most descriptors of the process.", facts.most_descriptors)
        yield counter("usmd_scrapes", "Scrapes that were answered before this one.", self.scrapes)
        yield counter("usmd_scrape_cpu_seconds", "CPU time that these took.", self.scrape_seconds)
        reloads = CounterMetricFamily(
            "usmd_config_reloads", "Times that the configuration was read again.", labels=["result"]
        )
        for result, count in self.reloads.items():
            reloads.add_metric([result], count)
        yield reloads
        yield gauge(
            "usmd_config_last_reload_successful",
            "Whether the configuration that was read last is in force.", self.reloaded,
        )  # fmt: skip
        yield gauge(
            "usmd_config_last_reload_success_timestamp_seconds",
            "When a configuration was last brought into force, since the Unix epoch.", self.reloaded_at,
        )  # fmt: skip
