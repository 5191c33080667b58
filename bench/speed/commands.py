"""Scores, start-up, a report and a grid's makespan, of this harness alone."""

from bench.speed.measure import Program, Row, interleaved, milliseconds, rows, seconds

START = {"help": "options are told", "plan": "the default grid is planned", "cell": "a grid of one tiny cell has ended"}


def scores(device: str, repeats: int, timeout: float) -> list[Row]:
    """Milliseconds of all scores of 1,000 images."""
    samples = interleaved([Program("this harness", "scores", ("--device", device))], repeats, timeout)
    return rows("scores", f"all scores of 1,000 images, {device}", "ms", samples, milliseconds)


def start(repeats: int, timeout: float) -> list[Row]:
    """Seconds until a command has ended, from files that are in memory."""
    found = []
    for what, about in START.items():
        samples = interleaved([_command(what, 2)], repeats, timeout)
        found += rows("start", f"until {about}", "s", samples, seconds)
    return found


def grid(repeats: int, timeout: float) -> list[Row]:
    """A grid's makespan over the sum of its cells' seconds by cores, and seconds of a report of 500 cells."""
    made = interleaved([_command("makespan")], repeats, timeout)
    told = interleaved([_command("report")], repeats, timeout)
    return [
        *rows("grid", "makespan over the sum of cells by cores, 4 equal cells a core", "", made, seconds),
        *rows("grid", "report of 500 cells", "s", told, seconds),
    ]


def _command(what: str, times: int = 1) -> Program:
    return Program("this harness", "commands", ("--what", what, "--times", str(times)))
