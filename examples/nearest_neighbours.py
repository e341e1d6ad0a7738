"""`python -m examples.nearest_neighbours`: vector search over four times the memory, without and with hints.

Vectors and index are in usmd's memory (see vector_index), which has room for a quarter of the vectors. The same queries
run twice from an equal, cold start: without hints, and with hints to keep the index and evict the vectors first. The
answers are checked against every vector of the searched cells, and against all vectors, which gives the recall.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import lib_usm
from examples.real_memory import Counts, bars, read_size, require, serving, shares, whole_pages
from examples.vector_index import Found, Numbers, VectorIndex, Vectors, squares, train
from usmd.ctl.connect import Admin

SEED: Final = 20
DIMENSIONS: Final = 64
NEIGHBOURS: Final = 10
CHECKED: Final = 20
"""Number of queries whose answers are computed again from all vectors of the searched cells."""
TOLERANCE: Final = 1e-3
"""Relative tolerance of a squared distance: 32-bit numbers, added in another order."""
ALLOC: Final = "flexible_huge_pages(pages=16)"
INDEX_HINT: Final = "PRIORITY=HIGH; EVICTION=DENY"
VECTORS_HINT: Final = "PRIORITY=LOW"

console = Console(highlight=False)


@dataclass(frozen=True)
class Plan:
    """The sizes and numbers of a run."""

    size: int = 64 << 20
    """Bytes of vectors."""
    memory: int = 16 << 20
    queries: int = 200
    cells: int = 512
    probes: int = 8
    """Cells that a query searches."""
    seed: int = SEED

    @property
    def count(self) -> int:
        """Number of vectors."""
        return self.size // (4 * DIMENSIONS)


class Measured(NamedTuple):
    """The cost of a run of the queries, and its answers."""

    counts: Counts
    index_faults: int
    vector_faults: int
    seconds: float
    answers: list[Found]


class Result(NamedTuple):
    """The costs of the two runs, the share of the true neighbours that was found, and the mechanism."""

    without: Measured
    with_hints: Measured
    recall: float
    mechanism: str


def make_vectors(plan: Plan) -> tuple[Vectors, Vectors]:
    """Clustered vectors, as those of texts or images are, and queries near some of them."""
    random = np.random.default_rng(plan.seed)
    centres = random.standard_normal((max(plan.count // 512, 1), DIMENSIONS), np.float32)
    vectors = random.standard_normal((plan.count, DIMENSIONS), np.float32)
    vectors *= np.float32(1.2)
    vectors += centres[random.integers(len(centres), size=plan.count)]
    near = vectors[random.integers(plan.count, size=plan.queries)]
    queries = near + np.float32(0.2) * random.standard_normal(near.shape, np.float32)
    return vectors, queries


def region_faults(admin: Admin) -> dict[str, int]:
    """Faults of each region so far."""
    (process,) = admin.processes()
    return {region.name: region.faults for region in admin.regions(process.process_id)}


class Search:
    """The queries over a finished index."""

    def __init__(self, progress: Progress, admin: Admin, index: VectorIndex, plan: Plan, queries: Vectors) -> None:
        self._progress = progress
        self._admin = admin
        self._index = index
        self._plan = plan
        self._queries = queries

    def run(self, title: str) -> Measured:
        """Run the queries, and return their cost."""
        bar = self._progress.add_task(f"{len(self._queries)} queries {title}", total=len(self._queries))
        before, faults, started = Counts.now(self._admin), region_faults(self._admin), time.perf_counter()
        answers = []
        for query in self._queries:
            answers.append(self._index.search(query, NEIGHBOURS, self._plan.probes))
            self._progress.advance(bar)
        seconds = time.perf_counter() - started
        now = region_faults(self._admin)
        return Measured(
            Counts.now(self._admin).since(before),
            now["index"] - faults["index"],
            now["vectors"] - faults["vectors"],
            seconds,
            answers,
        )

    def check(self, vectors: Vectors, answers: list[Found]) -> float:
        """Check the first answers against their cells; return the recall over all. Ends the program on an error."""
        bar = self._progress.add_task("checking against brute force", total=len(answers))
        lengths, met, true = squares(vectors), 0, 0
        for number, (query, found) in enumerate(zip(self._queries, answers, strict=True)):
            if number < CHECKED:
                cells = self._index.probe(query, self._plan.probes)
                check_answer(query, found, vectors, np.concatenate([self._index.members(cell) for cell in cells]))
            far = lengths - 2 * (vectors @ query)
            nearest = np.argpartition(far, NEIGHBOURS)[:NEIGHBOURS]
            met += len(np.intersect1d(nearest, found.ids))
            true += len(nearest)
            self._progress.advance(bar)
        return met / true


def check_answer(query: Vectors, found: Found, vectors: Vectors, looked_at: Numbers) -> None:
    """End the program unless `found` are the nearest of the searched vectors, at their true distances."""
    exact = ((vectors[looked_at].astype(np.float64) - query) ** 2).sum(axis=1)
    expected = np.sort(exact)[:NEIGHBOURS]
    own = ((vectors[found.ids].astype(np.float64) - query) ** 2).sum(axis=1)
    if not np.allclose(found.distances, own, rtol=TOLERANCE, atol=TOLERANCE):
        raise SystemExit(f"wrong distances: {found.distances}, not {own}")
    if not np.allclose(found.distances, expected, rtol=TOLERANCE, atol=TOLERANCE):
        raise SystemExit(f"not the nearest: at {found.distances}, where there are {expected}")


def cold(client: lib_usm.Client, index: VectorIndex) -> None:
    """Evict everything, for an equal start of each run."""
    for region in (index.index_region, index.vectors_region):
        client.usm_hint(region, "DONTNEED")


def compare(client: lib_usm.Client, admin: Admin, plan: Plan, progress: Progress) -> Result:
    """Build, query twice, check."""
    bar = progress.add_task("making and indexing vectors", total=3)
    vectors, queries = make_vectors(plan)  # in ordinary memory, to check the answers
    progress.advance(bar)
    centroids = train(vectors, plan.cells, plan.seed)
    progress.advance(bar)
    index = VectorIndex(client, vectors, centroids)
    progress.advance(bar)
    search = Search(progress, admin, index, plan, queries)
    cold(client, index)
    without = search.run("without hints")
    cold(client, index)
    client.usm_hint(index.index_region, INDEX_HINT)
    client.usm_hint(index.vectors_region, VECTORS_HINT)
    with_hints = search.run("with hints")
    if any(not np.array_equal(a.ids, b.ids) for a, b in zip(without.answers, with_hints.answers, strict=True)):
        raise SystemExit("the same queries had other answers the second time")
    recall = search.check(vectors, with_hints.answers)
    if not index.same(vectors):
        raise SystemExit("a vector came back different")
    index.close()
    return Result(without, with_hints, recall, admin.status().mechanism)


def nearest_neighbours(plan: Plan) -> Result:
    """Run the plan on a separate usmd. Ends the program if an answer is wrong."""
    require()
    console.print(
        f"{plan.count:,} vectors of {DIMENSIONS} numbers: {shares(plan.size, plan.memory)}\n"
        f"and a swap file; {plan.cells} cells, of which a query looks at {plan.probes}"
    )
    flags = ("--alloc", ALLOC, "--evict", "hint_aware")
    with (
        serving("neighbours", plan.memory, whole_pages(2 * plan.size), *flags) as (client, admin),
        bars(console) as progress,
    ):
        return compare(client, admin, plan, progress)


def show(result: Result, plan: Plan) -> None:
    """Print the table."""
    without, with_hints = result.without, result.with_hints
    table = Table(title="what the same queries cost")
    table.add_column("")
    table.add_column("without hints", justify="right")
    table.add_column("with hints", justify="right")
    rows: tuple[tuple[str, int, int], ...] = (
        ("faults", without.counts.faults, with_hints.counts.faults),
        ("  on the index", without.index_faults, with_hints.index_faults),
        ("  on the vectors", without.vector_faults, with_hints.vector_faults),
        ("pages from swap", without.counts.swap_ins, with_hints.counts.swap_ins),
        ("evictions", without.counts.evictions, with_hints.counts.evictions),
    )
    for name, *counts in rows:
        table.add_row(name, *(f"{count:,}" for count in counts))
    table.add_row("seconds", f"{without.seconds:.1f}", f"{with_hints.seconds:.1f}")
    console.print(table)
    console.print(
        f"{min(CHECKED, plan.queries)} answers are exact for the cells looked at, and all the same in both runs\n"
        f"of the {NEIGHBOURS} nearest of all {plan.count:,} vectors, {result.recall:.1%} were found\n"
        "every vector is as it was\n\n"
        f"hints: index    {INDEX_HINT}\n"
        f"       vectors  {VECTORS_HINT}\n"
        f"alloc: {ALLOC}\n"
        f"evict: hint_aware   mechanism: {result.mechanism}"
    )


def command(
    size: Annotated[
        int, typer.Option(parser=read_size, metavar="SIZE", help="The vectors, 64MiB.", show_default=False)
    ] = Plan.size,
    memory: Annotated[
        int, typer.Option(parser=read_size, metavar="SIZE", help="Memory of usmd, 16MiB.", show_default=False)
    ] = Plan.memory,
    queries: Annotated[int, typer.Option(min=1, help="Queries of a run.")] = Plan.queries,
    cells: Annotated[int, typer.Option(min=2, help="Cells that the vectors are grouped in.")] = Plan.cells,
    probes: Annotated[int, typer.Option(min=1, help="Cells that a query looks at: more find more.")] = Plan.probes,
    seed: Annotated[int, typer.Option(min=0, help="Other vectors, by another seed.")] = Plan.seed,
) -> None:
    """Search for nearest neighbours among vectors larger than the memory, without and with hints."""
    plan = Plan(size, memory, queries, cells, probes, seed)
    if probes > cells or cells > plan.count:
        raise typer.BadParameter(f"{probes} probes, {cells} cells, {plan.count} vectors: each must be below the next")
    show(nearest_neighbours(plan), plan)


def main() -> None:
    """Read the command line and run."""
    name = "python -m examples.nearest_neighbours"
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=f"Examples:\n\n{name}\n\n{name} --probes 2\n\n{name} --size 128MiB --cells 1024")(command)
    app(prog_name=name)


if __name__ == "__main__":
    main()
