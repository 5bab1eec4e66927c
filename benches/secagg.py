"""Flower's SecAgg+ and AEGIS's secure aggregation on the same update vectors, in one run: `make bench-secagg`.

Flower's side is its own mod and workflow stages in one process, without Ray (`secagg_flower.py`); ours are the engine's state
machines, driven as the strategy drives them (`secagg_aegis.py`). Each case runs in a fresh process.

What the figures mean:
  seconds   CPU seconds of all threads (time.process_time), for both. Ratios are of these; `wall` is given beside them for our
            server, which uses all cores. Ratios of the goals are medians over interleaved pairs, with their range.
  share     a client's share step. Ours is that of a first round, with the key agreements of the whole run in it.
  mask      a client's masked step: open the shares, quantise, mask, pack. The update is there in the form the step takes
            (Flower: the reply of the ClientApp; AEGIS: the release of the gate).
  unmask    the server from the last masked vector to the mean, without what clients do meanwhile; `+ sum` is with adding up the
            masked vectors. The optimiser's step on the mean is in neither.
  memory    rise of the resident peak during the step, in MB of 10^6 bytes, above what the step is handed.
  graphs    complete: Flower with n shares and threshold 0.6 n, AEGIS profile S. sparse: Flower with 11 shares and threshold 7,
            AEGIS profile D for 10 % colluding and the loss of the case (at least 10 %), with its commit step.
  numbers   Flower: its defaults, clip 8, 2^22 steps, modulus 2^32. AEGIS: clip 1, 16 bits, ring as wide as n asks for.
Every mean is checked against the plain one; ours of up to 10^5 values bit for bit against the plain integers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flwr
import secagg_aegis as aegis
import secagg_flower as flower
from secagg_cases import FULL, QUICK, SPARSE, TINY, Case, Cases, complete, graph
from secagg_print import Result, Row, client_grid, goals, megabytes, power, reason, seconds, server_grid, yes_no

STEPS = ("advertise", "share", "masked", "unmask")
ROWS = (
    "mask",
    "share",
    "unmask-50",
    "unmask-100",
    "upload",
    "memory",
    "survive",
    "exact",
    "trips",
    "clients",
    "server",
)


class Bench(Cases):
    """The rows of the goals table and of the grids, from the cases that they share."""

    # -- rows of the goals table --------------------------------------------------------------------------------------

    def faster(self, key: str, figure: str, goal: float, theirs: Case, *ours: Case, pairs: int = 0) -> list[Row]:
        """Rows of CPU seconds, one for each case of ours, all interleaved with the same runs of Flower's."""
        runs = [[self.measure(case) for case in (theirs, *ours)] for _ in range(pairs or self.size.pairs)]
        rows = []
        for at in range(1, len(ours) + 1):
            texts = [seconds([run[side] for run in runs]) for side in (0, at)]
            row = Row(key, figure, *texts, f">= {goal:g} x")
            found = [(run[0], run[at]) for run in runs]
            ratios = [f["cpu"] / a["cpu"] for f, a in found if isinstance(f, dict) and isinstance(a, dict)]
            if ratios:
                row.ratio, row.low, row.high = statistics.median(ratios), min(ratios), max(ratios)
                row.met = row.ratio >= goal if self.size.goals else None
            rows.append(row)
        return rows

    def mask(self) -> list[Row]:
        n, dim = self.size.client
        cases = [self.client("mask", side, n, dim, sparse=False) for side in ("flower", "aegis")]
        figure = f"client masking incl. quantise and pack, d={power(dim)}, k={n}"
        return self.faster("mask", figure, 10, *cases)

    def share(self) -> list[Row]:
        n, _ = self.size.client
        cases = [self.client("share", side, n, 1000, sparse=False) for side in ("flower", "aegis")]
        return self.faster("share", f"client share step, k={n}", 100, *cases)

    def unmask_complete(self) -> list[Row]:
        n, dim = self.size.complete
        cases = [self.server(side, n, dim, 10, sparse=False) for side in ("flower", "aegis")]
        return self.faster("unmask-50", f"server unmask, n={n} complete, d={power(dim)}, 10 % lost", 60, *cases)

    def unmask_sparse(self) -> list[Row]:
        n, dim = self.size.sparse
        figure = f"server unmask, n={n} k={SPARSE[0]}, d={power(dim)}, 10 % lost"
        ours = [self.server("aegis", n, dim, 10, sparse=sparse) for sparse in (True, False)]
        theirs = self.server("flower", n, dim, 10, sparse=True)
        # the dearest cases of all
        rows = self.faster("unmask-100", figure, 8, theirs, *ours, pairs=max(1, self.size.pairs - 1))
        for row, case, profile in zip(rows, ours, "DS", strict=True):
            result = self.once(case)
            if isinstance(result, dict):
                row.note = f"AEGIS in profile {profile}: k={result['degree'] + 1}, t={result['threshold']}"
        return rows

    def _masked(self) -> tuple[int, list[Result]]:
        n, dim = self.size.client
        return dim, [self.once(self.client("mask", side, n, dim, sparse=False)) for side in ("flower", "aegis")]

    def upload(self) -> list[Row]:
        dim, (theirs, ours) = self._masked()
        row = Row("upload", f"upload, d={power(dim)}, q=16", reason(theirs), reason(ours), "<= 3.0 B/param")
        if isinstance(theirs, dict) and isinstance(ours, dict):
            each = [side["bytes"] / dim for side in (theirs, ours)]
            row.flower, row.aegis = (f"{value:.2f} B/param" for value in each)
            row.ratio = each[0] / each[1]
            row.met = ours["bytes"] <= 3 * dim + 100 if self.size.goals else None  # the header is no parameter
            row.note = f"{theirs['bytes']:,} and {ours['bytes']:,} bytes"
        return [row]

    def memory(self) -> list[Row]:
        dim, (theirs, ours) = self._masked()
        row = Row("memory", f"peak memory above the model, d={power(dim)}", reason(theirs), reason(ours), "<= 45 MB")
        if isinstance(theirs, dict) and isinstance(ours, dict):
            row.flower, row.aegis = megabytes(theirs["peak"]), megabytes(ours["peak"])
            if theirs["peak"] is not None and ours["peak"]:
                row.ratio = theirs["peak"] / ours["peak"]
                row.met = ours["peak"] <= 45 if self.size.goals else None
                whole = f"{megabytes(theirs['peak_model'])} and {megabytes(ours['peak_model'])}"
                row.note = f"from the model's array on (ClientApp's reply; gate and release): {whole}"
        return [row]

    def survive(self) -> list[Row]:
        rows = []
        for n in self.size.survive:
            shares = SPARSE if n > SPARSE[0] else complete(n)
            answers: dict[str, list[Result]] = {"flower": [], "aegis": []}
            for step in STEPS:
                work = (flower.survives, n, *shares, step, 30), (aegis.survives, n, step, 30)
                for side, (survives, *args) in zip(answers, work, strict=True):
                    case = Case(("survive", side, f"n={n}", step), lambda _, call=survives, args=args: call(*args))
                    answers[side].append(self.measure(case))
            row = Row("survive", f"survives 30 % lost at each step, n={n}", "", "", "yes")
            row.flower, row.aegis = (yes_no(answers[side]) for side in ("flower", "aegis"))
            row.met = set(map(str, answers["aegis"])) == {"yes"} if self.size.goals else None
            row.note = f"steps: {', '.join(STEPS)}. Flower with k={shares[0]}, t={shares[1]}"
            rows.append(row)
        return rows

    def exact(self) -> list[Row]:
        rows, spent = [], 0.0

        for n in self.size.exact:
            ours = self.measure(Case(("exact", "aegis", f"n={n}", "lost=10%"), lambda _, n=n: aegis.exact(n)))

            def whole(_: object, n: int = n, spent: float = spent) -> dict[str, Any]:
                self._check(spent * n)  # each client has the same number of neighbours
                return flower.exact(n, *SPARSE)

            theirs = self.measure(Case(("exact", "flower", f"n={n}"), whole))
            row = Row("exact", f"n={n} (d=10^3, one process)", reason(theirs), reason(ours), "exact")
            if isinstance(theirs, dict):
                row.flower = f"largest difference {theirs['difference']:.1e}"
                spent = theirs["cpu"] / n
            if isinstance(ours, dict):
                row.aegis = f"exact; largest difference {ours['difference']:.1e}"
                row.note = f"differences from the plain mean. AEGIS in profile D, k={ours['degree'] + 1}, 10 % lost"
            row.met = isinstance(ours, dict) if self.size.goals else None
            rows.append(row)
        return rows

    def trips(self) -> list[Row]:
        theirs = self.measure(Case(("trips", "flower"), lambda _: flower.trips()))
        row = Row("trips", "round trips in the steady state, profile S", str(theirs), "left out", "2")
        if self.size.trips:
            ours = self.measure(Case(("trips", "aegis"), lambda _: aegis.trips()))
            row.aegis = str(ours[-1])
            row.met = ours[-1] == 2
            row.note = f"AEGIS's first three rounds: {', '.join(map(str, ours))}"
        return [row]

    # -- the grid -----------------------------------------------------------------------------------------------------

    def graphs(self) -> Iterable[tuple[int, bool]]:
        for n in self.size.cohorts:
            yield n, False
            if n > SPARSE[0]:
                yield n, True

    def clients(self) -> list[dict[str, Any]]:
        lines = []
        for n, sparse in self.graphs():
            for dim in self.size.dims:
                line: dict[str, Any] = {"n": n, "graph": graph(sparse), "d": dim}
                for side in ("flower", "aegis"):
                    for step in ("share", "mask"):
                        line[f"{side}_{step}"] = self.once(self.client(step, side, n, dim, sparse=sparse))
                lines.append(line)
        return lines

    def servers(self) -> list[dict[str, Any]]:
        lines = []
        for n, sparse in self.graphs():
            for dim in self.size.dims:
                for percent in self.size.lost:
                    line: dict[str, Any] = {"n": n, "graph": graph(sparse), "d": dim, "lost": percent}
                    for side in ("flower", "aegis"):
                        line[side] = self.once(self.server(side, n, dim, percent, sparse=sparse))
                    lines.append(line)
        return lines


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if "model name" in line), platform.machine())
    return f"{os.cpu_count()} x {cpu}, load {load()}; flwr {flwr.__version__}, Python {platform.python_version()}"


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="small cases, for a look at the table in about a minute")
    sizes.add_argument("--tiny", action="store_true", help="smaller still, for the test: the code paths, no figures")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"some of: {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and grid there, too")
    parser.add_argument("--pairs", type=int, metavar="N", help="pairs behind a ratio of the goals (3; --quick 1)")
    parser.add_argument(
        "--limit", type=float, default=120, metavar="SECONDS", help="leave out cases of Flower's estimated above (120)"
    )
    given = parser.parse_args()
    size = QUICK if given.quick else TINY if given.tiny else FULL
    bench = Bench(dataclasses.replace(size, pairs=given.pairs or size.pairs), given.limit)
    chosen = given.only or ROWS
    by_name = {
        "mask": bench.mask,
        "share": bench.share,
        "unmask-50": bench.unmask_complete,
        "unmask-100": bench.unmask_sparse,
        "upload": bench.upload,
        "memory": bench.memory,
        "survive": bench.survive,
        "exact": bench.exact,
        "trips": bench.trips,
    }
    before = machine()
    rows = [row for name, work in by_name.items() if name in chosen for row in work()]
    clients = bench.clients() if "clients" in chosen else []
    servers = bench.servers() if "server" in chosen else []
    print(f"{before} (after: {load()})")
    if not bench.size.goals:
        print("Small cases: nothing here says whether a goal is met. Without --quick it does.")
    for title, text in (
        ("Goals", goals(rows) if rows else ""),
        ("One client", client_grid(clients) if clients else ""),
        ("Server", server_grid(servers) if servers else ""),
    ):
        if text:
            print(f"\n{title}\n{text}")
    if given.json:
        out = {"machine": before, "size": dataclasses.asdict(bench.size), "rows": [dataclasses.asdict(r) for r in rows]}
        given.json.write_text(json.dumps({**out, "clients": clients, "servers": servers}, indent=1) + "\n")
    if bench.errors:
        sys.exit("\n".join(["aegis: some cases ended in errors, which is not a figure:", *bench.errors]))


if __name__ == "__main__":
    main()
