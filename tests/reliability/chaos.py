"""Kills a grid's processes at random instants, starts it again until it is done, and compares every number.

    python tests/reliability/chaos.py --kills 50 --seed 0

What it shows: whichever process dies, whenever it dies, the same command ends with what an undisturbed run ends with.
The grid is run once in peace. Then it is run into other folders while cells' processes, workers of the pool and the
command itself are killed (SIGKILL; the command also by SIGTERM and SIGINT), and started again at once when it is gone,
with --retry-failed, by turns with and without --isolate and in another order of cells. A grid that is done before all
kills are used up is begun once more in a new folder, a new generation. In every generation all that cells measured, the
lines of their logs, the bytes of their weights and samples and the table's columns have to be those of the undisturbed
run; seconds and times aside. No process may be left over.

Which process dies when is drawn by a seeded generator; what it was doing then is up to the machine, and is counted.

Exit codes: 0 no difference; 1 differences, a run that failed by itself, processes left over, or out of time.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table

from bench.run.again import differences, measured
from bench.store import locks
from bench.store.files import Damaged, file_hash
from bench.store.grid_folder import Store

MARK = "BENCH_CHAOS"  # the environment variable by which a run's processes are known, whoever is their parent by now
# How often a target is drawn; where it is not there at the instant, another one is taken.
TARGETS = {"cell": 5, "worker": 3, "parent": 3, "parent, SIGTERM": 1, "parent, SIGINT": 1}
SIGNALS = {"parent, SIGTERM": signal.SIGTERM, "parent, SIGINT": signal.SIGINT}  # SIGKILL for the others
MOMENTS = ("any", "start", "prepare", "train", "train", "sample", "evaluate", "tables")
EXACT = ("weights.safetensors", "samples.safetensors", "curve.safetensors", "autoencoder.safetensors", "samples.png")
MADE_BY = ("commit", "dirty")  # columns of the table that tell of the environment
LOOK_EVERY = 0.02  # seconds
PHASE_WITHIN = 30.0  # seconds that a phase is waited for
LEAVE_WITHIN = 20.0  # seconds in which processes have to be gone whose run is over


class ChaosError(Exception):
    """What must not happen, whatever is killed."""


@dataclass
class Tally:
    """What happened so far."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)  # by target and phase
    starts: int = 0
    isolated: int = 0
    generations: int = 0
    codes: Counter[int] = field(default_factory=Counter)  # exit codes of the command
    cells: int = 0
    compared: int = 0
    differences: list[tuple[str, Any, Any]] = field(default_factory=list)

    @property
    def restarts(self) -> int:
        """Starts beyond one a generation."""
        return self.starts - self.generations


@dataclass(frozen=True)
class Strike:
    """A kill as it was drawn.

    Attributes:
        moment: a phase that is waited for, or "any".
        patience: seconds that it is waited for at most; for "any" exactly.
        delay: seconds from there to the kill.
        targets: in the order in which they are tried.
        which: of several processes of that target, in [0, 1).
    """

    moment: str
    patience: float
    delay: float
    targets: tuple[str, ...]
    which: float


def strikes(rng: random.Random, patience: float) -> Iterator[Strike]:
    """Kills without end."""
    while True:
        weighted = sorted(TARGETS, key=lambda target: rng.random() ** (1 / TARGETS[target]), reverse=True)
        moment = rng.choice(MOMENTS)
        wait = rng.uniform(0, patience) if moment == "any" else PHASE_WITHIN
        yield Strike(moment, wait, rng.choice((0.0, rng.uniform(0, 0.5))), tuple(weighted), rng.random())


class Run:
    """One process of the command line, seen from outside."""

    def __init__(self, command: Sequence[str], store: Store, mark: str, log: Path) -> None:
        self.store, self._mark, self._log = store, mark, log
        with open(log, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                command, env=os.environ | {MARK: mark}, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        """The end of its output."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def at_work(self) -> dict[int, str]:
        """The phase of every cell at which a process works, by its number."""
        found = {}
        for path in self.store.root.glob(f"*/{locks.LOCK}"):
            try:
                owner = locks.owner(path.parent)
            except Damaged:  # it was unlocked at this instant
                continue
            if owner is not None and owner.lives():
                found[owner.pid] = self.store.cell(path.parent.name).read_progress().phase or "prepare"
        return found

    def phase(self) -> str:
        """Of a cell that is being run; else "start" before and between cells, "tables" after the last one."""
        working = self.at_work()
        if working:
            return next(iter(working.values()))
        return "tables" if is_done(self.store) else "start"

    def victims(self, target: str) -> dict[int, str]:
        """Phases by number of the processes that are such a target now."""
        working = self.at_work()
        if target == "cell":
            return working
        if target == "worker":
            return {pid: self._phase_under(pid, working) for pid in self._workers()}
        return {self.process.pid: self.phase()}

    def _workers(self) -> list[int]:
        try:
            children = psutil.Process(self.process.pid).children()
            return sorted(child.pid for child in children if any("LokyProcess" in part for part in child.cmdline()))
        except psutil.Error:  # one of them ended at this instant
            return []

    def _phase_under(self, pid: int, working: dict[int, str]) -> str:
        """Of the cell that the worker, or the process that it started for the cell, works at."""
        try:
            family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        except psutil.Error:
            return "idle"
        return next((working[member] for member in family if member in working), "idle")


def is_done(store: Store) -> bool:
    """Whether all cells of the plan are done."""
    try:
        return all((store.cell(cell.cell_id).path / "result.json").exists() for cell in store.planned())
    except FileNotFoundError:
        return False


def wait_until(happens: Callable[[], bool], seconds: float) -> bool:
    """Whether it happens within the time."""
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_EVERY)
    return True


def strike(run: Run, drawn: Strike) -> tuple[str, str] | None:
    """Wait for the instant and kill: target and phase; None if the run ended before."""
    if drawn.moment == "any":
        wait_until(lambda: not run.alive, drawn.patience)
    else:
        wait_until(lambda: not run.alive or run.phase() == drawn.moment, drawn.patience)
    if drawn.moment not in ("start", "tables"):  # when there is nothing but the command itself
        wait_until(lambda: not run.alive or bool(run.victims(drawn.targets[0])), PHASE_WITHIN)
    wait_until(lambda: not run.alive, drawn.delay)
    for target in drawn.targets:
        victims = sorted(run.victims(target).items())
        if not run.alive:
            return None
        if victims:
            pid, phase = victims[int(drawn.which * len(victims))]
            try:
                os.kill(pid, SIGNALS.get(target, signal.SIGKILL))
            except ProcessLookupError:  # it ended at this instant
                continue
            return target, phase
    return None


class Chaos:
    """The whole run.

    Args:
        options: of the command line.
        folder: where results and the command's output go.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.tally = options, folder, Tally()
        self._rng = random.Random(options.seed)
        self._strikes = strikes(random.Random(options.seed + 1), options.patience)
        self._end = time.monotonic() + 60 * options.max_minutes
        self.mark = f"{os.getpid()}-{time.time_ns()}"

    def run(self) -> None:
        """All generations, compared.

        Raises:
            ChaosError: if something happens that must not.
        """
        try:
            wanted = numbers(self._undisturbed())
            while self.tally.kills.total() < self.options.kills:
                self.tally.generations += 1
                results = self.folder / f"generation-{self.tally.generations}"
                store = self._disturb(results)
                self._no_process_left(store)
                self._compare(wanted, store)
                if not self.tally.differences:
                    shutil.rmtree(results)
        finally:
            for process in self._processes():
                process.kill()

    def _undisturbed(self) -> Store:
        """The grid that was run in peace."""
        if self.options.undisturbed is not None:
            return Store(self.options.undisturbed / Path(self.options.grid).stem)
        calm = self._start(self.folder / "undisturbed", disturbed=False)
        self._expect_end(calm, struck=[])
        return calm.store

    def _disturb(self, results: Path) -> Store:
        """One generation: start, kill, start again, until the grid is done and the command ended by itself."""
        while True:
            run = self._start(results, disturbed=True)
            struck = []
            while run.alive and self.tally.kills.total() < self.options.kills:
                self._in_time(run)
                drawn = next(self._strikes)
                hit = strike(run, drawn)
                if hit is None:
                    continue
                self._count(hit)
                struck.append(hit[0])
                if hit[0].startswith("parent"):
                    break
            self._expect_end(run, struck)
            if run.process.returncode == 0 and is_done(run.store):
                return run.store

    def _count(self, hit: tuple[str, str]) -> None:
        self.tally.kills[hit] += 1
        where = f"generation {self.tally.generations}, start {self.tally.starts}"
        print(f"kill {self.tally.kills.total()} ({where}): {hit[0]}, while: {hit[1]}", flush=True)

    def _start(self, results: Path, disturbed: bool) -> Run:
        """Start the command, in ways that must not matter."""
        o = self.options
        command = [
            sys.executable,
            "-m",
            "bench.grid",
            "--grid",
            o.grid,
            "--results",
            str(results),
            "--no-mlflow",
            "--tables-only",
        ]
        command += [part for setting in o.set for part in ("--set", setting)]
        command += ["--n-jobs", str(o.n_jobs)]
        if disturbed:
            isolate = self._rng.random() < o.isolate
            command += ["--retry-failed", "--shuffle", str(self._rng.randrange(1000))]
            command += ["--isolate"] if isolate else []
            self.tally.starts += 1
            self.tally.isolated += isolate
        log = self.folder / f"start-{self.tally.starts}.log"
        return Run(command, Store(results / Path(o.grid).stem), self.mark, log)

    def _expect_end(self, run: Run, struck: list[str]) -> None:
        """Wait for the command's end, and see that it is one that the kills explain."""
        while not wait_until(lambda: not run.alive, 1.0):
            self._in_time(run)
        code = run.process.returncode
        self.tally.codes[code] += 1
        explained = {0} | ({1} if struck else set())
        if any(target.startswith("parent") for target in struck):
            explained |= {130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
        if code not in explained:
            raise ChaosError(f"the command ended with {code} after kills of {struck or 'nothing'}:\n{run.said()}")

    def _in_time(self, run: Run) -> None:
        if time.monotonic() > self._end:
            raise ChaosError(f"not done within --max-minutes {self.options.max_minutes:g}:\n{run.said()}")

    def _processes(self) -> list[psutil.Process]:
        """All that this run started, directly or not."""
        me, found = psutil.Process(), []
        above = [me, *me.parents()]  # whose command lines name the folder, too
        for process in psutil.process_iter():
            try:
                mine = process.environ().get(MARK) == self.mark or str(self.folder) in " ".join(process.cmdline())
                if mine and process not in above and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # it ended at this instant, or is not ours
                continue
        return found

    def _no_process_left(self, store: Store) -> None:
        if not wait_until(lambda: not self._processes(), LEAVE_WITHIN):
            left = [f"{process.pid}: {' '.join(process.cmdline())}" for process in self._processes()]
            raise ChaosError("processes are left over:\n" + "\n".join(left))
        if locked := [path for path in store.root.glob(f"*/{locks.LOCK}") if locks.is_locked(path.parent)]:
            raise ChaosError(f"locks are held by living processes: {locked}")

    def _compare(self, wanted: dict[str, Any], store: Store) -> None:
        found = numbers(store)
        self.tally.cells += len(store.planned())
        self.tally.compared += len({*wanted, *found})
        self.tally.differences += [(f"{store.root.parent.name} {key}", *pair)
                                   for key, *pair in differences(wanted, found)]  # fmt: skip


def numbers(store: Store) -> dict[str, Any]:
    """All that a grid's results tell, by where it stands: records, logs, exact files and the table."""
    found: dict[str, Any] = {}
    for cell in store.planned():
        folder = store.cell(cell.cell_id)
        found |= {f"{cell.cell_id} {key}": value for key, value in measured(folder).items()}
        found |= {f"{cell.cell_id} {name}": file_hash(folder.path / name) for name in EXACT}
    table = pd.read_csv(store.root / "tables" / "cells.csv", dtype=str, keep_default_na=False)
    for column in (name for name in table.columns if "seconds" not in name and name not in MADE_BY):
        found |= {f"cells.csv row {i} {column}": value for i, value in enumerate(table[column])}
    return found


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser("chaos.py", description="Kill a grid at random instants and compare what comes out.")
    p.add_argument("--kills", type=int, default=50, metavar="N", help="processes to kill (default: 50)")
    p.add_argument("--seed", type=int, default=0, help="of which process is killed when (default: 0)")
    p.add_argument("--grid", default="smoke", help="the grid (default: smoke)")
    p.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as of bench.grid")
    p.add_argument("--n-jobs", type=int, default=2, metavar="N", help="cells at once (default: 2)")
    p.add_argument(
        "--isolate", type=float, default=0.5, metavar="SHARE", help="of starts that use --isolate (default: 0.5)"
    )
    p.add_argument(
        "--patience", type=float, default=8.0, metavar="SECONDS", help="longest wait for an instant (default: 8)"
    )
    p.add_argument("--max-minutes", type=float, default=60.0, metavar="M", help="give up then (default: 60)")
    p.add_argument("--results", type=Path, metavar="DIR", help="where to work; kept (default: a temporary folder)")
    p.add_argument(
        "--undisturbed", type=Path, metavar="DIR", help="results of the same grid, run in peace (default: run it)"
    )
    return p


def report(tally: Tally, console: Console) -> None:
    """Print what was done and found."""
    phases = sorted({phase for _, phase in tally.kills})
    table = Table("killed", *phases, "all", title="kills by target and by what was going on", title_justify="left")
    for target in TARGETS:
        counts = [tally.kills[target, phase] for phase in phases]
        table.add_row(target, *map(str, counts), str(sum(counts)))
    sums = [sum(count for (_, at), count in tally.kills.items() if at == phase) for phase in phases]
    table.add_row("all", *map(str, sums), str(sum(sums)), style="bold")
    console.print(table)
    for key, before, after in tally.differences[:20]:
        console.print(f"{key}: undisturbed {before}, disturbed {after}", markup=False, soft_wrap=True)
    codes = ", ".join(f"{code} ({count} times)" for code, count in sorted(tally.codes.items()))
    console.print(f"exit codes of the command: {codes}", highlight=False)
    console.print(
        f"kills {tally.kills.total()}, restarts {tally.restarts} ({tally.isolated} of {tally.starts} starts with "
        f"--isolate), generations {tally.generations}, cells compared {tally.cells}, "
        f"numbers compared {tally.compared}, differences {len(tally.differences)}",
        highlight=False,
        soft_wrap=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, so that the command gets it, too
    folder = (options.results or Path(tempfile.mkdtemp(prefix="bench-chaos-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    chaos = Chaos(options, folder)
    failed = False
    try:
        chaos.run()
    except ChaosError as error:
        failed = True
        print(f"error: {error}\nall is kept in {folder}", file=sys.stderr)
    report(chaos.tally, Console())
    if not failed and not chaos.tally.differences and options.results is None:
        shutil.rmtree(folder)
    return 1 if failed or chaos.tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())
