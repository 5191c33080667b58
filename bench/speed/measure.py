"""Programs timed in turn, each in a process of its own, beside what others take of the machine meanwhile.

Absolute times drift with the machine's load and heat, so a program is set beside the reference that ran in the same
repetition, and what counts is the ratio. Where others took more than `LOUD` of the machine, a program is run again.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import psutil

LOUD = 0.06  # share of the machine
TRIES = 3
PROGRAMS = Path(__file__).parent / "programs"
_LOOK = 0.1  # seconds between two looks at a program's memory
_LAST = 400  # letters of what a program said before it failed


class Failed(Exception):
    """A program did not end well; the message says how."""


@dataclass(frozen=True)
class Program:
    """A program of `PROGRAMS`, and how it is called.

    Attributes:
        name: in tables.
        file: without its suffix.
        arguments: its options.
        interpreter: path of the Python that runs it.
    """

    name: str
    file: str
    arguments: tuple[str, ...] = ()
    interpreter: str = sys.executable


@dataclass(frozen=True)
class Sample:
    """One run of a program.

    Attributes:
        seconds: of its units of work.
        peak: MB of all its processes together at once, memory that they share divided among them.
        others: share of the machine that other programs took.
    """

    seconds: tuple[float, ...]
    peak: float
    others: float


@dataclass(frozen=True)
class Row:
    """A program's measurement, as tables show it and JSON keeps it.

    Attributes:
        part: what `--only` calls it.  what: the work, in a few words.  unit: of the numbers.
        value: median over repetitions.  low, high: the least and the greatest.
        ratio: to the reference, the median over repetitions, with the least and the greatest; None for the reference.
        others: the greatest share of the machine that other programs took.
        failed: why there is no number; "" otherwise.
    """

    part: str
    what: str
    program: str
    unit: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    others: float = 0.0
    failed: str = ""

    @property
    def key(self) -> str:
        """By which rows of two runs are matched."""
        return " / ".join((self.part, self.what, self.program, self.unit))


def _memory(pid: int) -> float:
    """MB of a tree of processes; those that end meanwhile are left out."""
    total = 0.0
    for process in _tree(pid):
        with suppress(psutil.Error):
            total += _own_memory(process)
    return total / 1e6


def _tree(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _own_memory(process: psutil.Process) -> float:
    """Bytes: where the system tells, with shared memory divided among those that share it."""
    memory = process.memory_full_info() if psutil.LINUX else process.memory_info()
    return float(getattr(memory, "pss", memory.rss))


def run(program: Program, timeout: float) -> Sample:
    """Run a program to its end.

    Raises:
        Failed: if it ends with an error, prints no numbers, or takes longer than `timeout` seconds.
    """
    command = [program.interpreter, str(PROGRAMS / f"{program.file}.py"), *program.arguments]
    own = {"PYTHONPATH": os.pathsep.join(sys.path)} if program.interpreter == sys.executable else {}
    before, began, peak = _busy_others(), time.perf_counter(), 0.0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | own
    ) as process:
        ended = threading.Event()

        def looking() -> None:
            nonlocal peak
            while not ended.wait(_LOOK):
                peak = max(peak, _memory(process.pid))

        looker = threading.Thread(target=looking)
        looker.start()
        try:
            said, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"took more than {timeout:g} s") from None
        finally:
            ended.set()
            looker.join()
            for each in _tree(process.pid) if process.poll() is None else []:
                each.kill()
    took = time.perf_counter() - began
    if process.returncode:
        raise Failed(f"exit code {process.returncode}: {errors.strip()[-_LAST:]}")
    others = (_busy_others() - before) / (took * (os.cpu_count() or 1))
    return Sample(_numbers(said), peak, max(0.0, others))


def _numbers(said: str) -> tuple[float, ...]:
    """Those of the program's line; what it uses may print others."""
    lines = [line for line in said.splitlines() if line.startswith('{"seconds": [')]
    if not lines:
        raise Failed(f"printed no numbers: {said.strip()[-_LAST:]}")
    return tuple(map(float, json.loads(lines[-1])["seconds"]))


def _busy_others() -> float:
    """CPU seconds that the machine has worked since it started, but for this process and those that it waited for."""
    times, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - sum(own) + getattr(own, "iowait", 0.0))


def quiet_run(program: Program, timeout: float) -> Sample:
    """The run that others disturbed least, of at most `TRIES`."""
    best = run(program, timeout)
    for _ in range(TRIES - 1):
        if best.others <= LOUD:
            break
        best = min(best, run(program, timeout), key=lambda sample: sample.others)
    return best


def interleaved(programs: Sequence[Program], repeats: int, timeout: float) -> dict[str, list[Sample] | str]:
    """Runs of each program by name, A B C A B C; of one that fails the reason instead, and it is not run again."""
    found: dict[str, list[Sample] | str] = {program.name: [] for program in programs}
    for _ in range(repeats):
        for program in programs:
            samples = found[program.name]
            if isinstance(samples, str):
                continue
            try:
                samples.append(quiet_run(program, timeout))
            except Failed as reason:
                found[program.name] = str(reason)
    return found


def rows(
    part: str, what: str, unit: str, found: Mapping[str, list[Sample] | str], number: Callable[[Sample], float]
) -> list[Row]:
    """A row a program, the first of them the reference, from the number of each run, or why there is none."""
    numbers = {name: list(map(number, runs)) for name, runs in found.items() if not isinstance(runs, str)}
    first = next(iter(found))
    made = []
    for name, runs in found.items():
        if isinstance(runs, str):
            made.append(Row(part, what, name, unit, failed=runs))
            continue
        own, others = numbers[name], max(sample.others for sample in runs)
        row = Row(part, what, name, unit, median(own), min(own), max(own), others=others)
        if name != first and first in numbers:
            ratios = [a / b for a, b in zip(own, numbers[first], strict=True)]
            row = replace(row, ratio=median(ratios), ratio_low=min(ratios), ratio_high=max(ratios))
        made.append(row)
    return made


def seconds(sample: Sample) -> float:
    """The median of a run's units of work but the first, which warms up, if there are others."""
    return median(sample.seconds[1:] or sample.seconds)


def milliseconds(sample: Sample) -> float:
    """The same in milliseconds."""
    return 1000 * seconds(sample)
