"""What is shown while a grid runs, from files alone."""

import io
import re
from argparse import Namespace
from dataclasses import replace

import pytest
from rich.console import Console

from bench.cell.job import How
from bench.command import console
from bench.config.grid_file import load_grid
from bench.run.execute import show_plan
from bench.run.plan import Plan, make_plan
from bench.run.progress import LiveView, Monitor, PlainView, View, clock, make_view
from bench.store.files import write_json
from bench.store.locks import hold


@pytest.fixture
def plan(tmp_path):
    return make_plan(load_grid("smoke"), tmp_path)


def advance(plan, number, rounds, phase="train", done=0.5):
    folder = plan.store.cell(plan.jobs[number].cell_id)
    if folder.state() == "todo":
        folder.begin({})
    for r in range(rounds):
        folder.append("metrics.jsonl", [{"round": r + 1, "train_loss": 0.25, "validation_loss": 0.5, "time": 0.0}])
    folder.progress(phase, done)
    return folder


def finish(plan, number):
    folder = advance(plan, number, 2)
    metrics = {"fid": 12.345, "test_loss": 0.125}
    write_json(folder.path / "result.json", {"cell_id": folder.cell_id, "metrics": metrics, "finished": 0.0})


def shown(plan, make):
    out = io.StringIO()
    view = make(console(file=out, width=150))
    monitor = Monitor(plan, plan.jobs)
    return out, view, monitor


def test_a_cell_is_a_fraction_of_its_passes(plan):
    monitor = Monitor(plan, plan.jobs)
    advance(plan, 0, 1, "train", 0.5)
    advance(plan, 1, 2, "evaluate", 0.0)
    first, second, third = monitor.look()
    train, sample, test = (plan.passes(plan.jobs[0])[phase] for phase in ("train", "sample", "evaluate"))
    assert (train, sample, test) == (2 * (3 * 200 + 100), 100 * 5, 8 * 100)
    assert first.fraction == pytest.approx(0.5 * train / (train + sample + test))
    assert second.fraction == pytest.approx((train + sample) / (train + sample + test))
    assert (third.fraction, third.state) == (0.0, "todo")
    assert monitor.remaining(monitor.look()) is not None


def test_a_cell_that_is_left_after_a_round_is_a_fraction_of_what_it_is_asked_for(plan):
    jobs = [replace(job, how=How(until=1)) for job in plan.jobs]
    out, monitor = io.StringIO(), Monitor(plan, jobs)
    half = plan.passes(plan.jobs[0])["train"] / 2
    assert plan.passes(jobs[0]) == {"autoencoder": 0.0, "train": half}
    advance(plan, 0, 0, "train", 0.25)
    assert monitor.look()[0].fraction == 0.5
    (advance(plan, 1, 1).path / "progress.json").unlink()
    assert [view.state for view in monitor.look()] == ["partial", "trained", "todo"]
    PlainView(console(file=out, width=150)).show(monitor.look(), monitor)
    assert "1/3  fedavg n=2 beta=1 seed=0: round 1/2, loss 0.2500, validation 0.5000" in out.getvalue()


def test_a_cell_that_waits_for_its_next_rounds_says_nothing(plan):
    out, view, monitor = shown(plan, PlainView)
    (advance(plan, 0, 1).path / "progress.json").unlink()
    view.show(monitor.look(), monitor)
    assert out.getvalue() == ""


def test_what_cells_share_is_waited_for_once(tmp_path):
    plan = make_plan(load_grid("smoke", ["sampler.steps=5,7", "strategy=fedavg"]), tmp_path)
    monitor = Monitor(plan, plan.jobs)
    advance(plan, 1, 2, "sample", 0.5)
    sample, test = 100 * 7, 8 * 100
    assert [view.fraction for view in monitor.look()] == [0.0, 0.5 * sample / (sample + test)]


def test_no_estimate_before_a_cell_has_had_two_rounds_or_ended(plan):
    monitor = Monitor(plan, plan.jobs)
    assert monitor.remaining(monitor.look()) is None
    advance(plan, 0, 1, "train", 0.5)
    assert monitor.remaining(monitor.look()) is None
    finish(plan, 1)
    assert monitor.remaining(monitor.look()) is not None


def test_an_estimate_is_made_of_this_runs_pace_alone(plan, monkeypatch):
    advance(plan, 0, 1, "train", 0.5)
    monitor = Monitor(plan, plan.jobs)
    assert monitor.remaining(monitor.look()) is None
    monkeypatch.setattr(Monitor, "elapsed", 10.0)
    folder = advance(plan, 0, 0, "train", 0.75)
    for r in (2, 3):
        folder.append("metrics.jsonl", [{"round": r, "train_loss": 0.25, "validation_loss": 0.5, "time": 0.0}])
    sizes = [sum(plan.passes(job).values()) for job in plan.jobs]
    train = plan.passes(plan.jobs[0])["train"]
    left = monitor.remaining(monitor.look())
    assert left == pytest.approx(10 * (sum(sizes) - 0.75 * train) / (0.25 * train))


def test_the_plan_counts_what_is_left_of_a_running_cell(plan, capsys, monkeypatch):
    monkeypatch.setattr(Plan, "estimate", lambda self, jobs: {job.cell_id: 100.0 for job in jobs})
    folder = advance(plan, 0, 0, "train", 1.0)
    passes = plan.passes(plan.jobs[0])
    with hold(folder.path, "run"):
        show_plan(plan, Namespace(quiet=False, retry_failed=False, n_jobs=1))
    told = capsys.readouterr().out
    left = 100 * (1 - passes["train"] / sum(passes.values()))
    assert re.search(rf"{folder.cell_id} *│ running *│ centralized seed=0 *│ *{clock(left)} ", told)
    assert f"1 running, 2 todo; about {clock(200 + left)} to run on 1 at a time" in told


@pytest.mark.parametrize(
    ("failed", "told"), [(0, "3 done; nothing is left to run; nothing was run"),
                         (1, "2 done, 1 failed; nothing is left to run without --retry-failed; nothing was run")],
)  # fmt: skip
def test_a_plan_of_which_nothing_is_left_says_so(plan, capsys, failed, told):
    for number in range(3):
        if number < failed:
            plan.store.cell(plan.jobs[number].cell_id).fail("failed", "no luck")
        else:
            finish(plan, number)
    show_plan(plan, Namespace(quiet=False, retry_failed=False, n_jobs=None))
    assert told in capsys.readouterr().out


def test_plain_lines_tell_each_change_once(plan):
    out, view, monitor = shown(plan, PlainView)
    advance(plan, 0, 1)
    view.show(monitor.look(), monitor)
    view.show(monitor.look(), monitor)
    assert out.getvalue().count("\n") == 1
    assert "0/3  centralized seed=0: round 1/2, loss 0.2500, validation 0.5000" in out.getvalue()
    finish(plan, 0)
    view.show(monitor.look(), monitor)
    assert "1/3  centralized seed=0: done, FID 12.35, test loss 0.1250" in out.getvalue()


def test_no_plain_line_repeats_the_last_one_and_a_round_has_its_own_losses(plan):
    out, view, monitor = shown(plan, PlainView)
    for rounds, phase, done in ((0, "prepare", 0.0), (0, "train", 0.1), (0, "train", 0.4), (1, "train", 0.5), (0, "train", 0.9),
                                (0, "sample", 0.0), (0, "sample", 0.9), (0, "evaluate", 0.0)):  # fmt: skip
        advance(plan, 0, rounds, phase, done)
        view.show(monitor.look(), monitor)
    said = [line.partition(": ")[2] for line in out.getvalue().splitlines()]
    assert said == ["preparing", "training", "round 1/2, loss 0.2500, validation 0.5000", "sampling", "judging"]


def test_a_failure_is_told_with_its_reason(plan):
    out, view, monitor = shown(plan, PlainView)
    folder = advance(plan, 1, 1)
    write_json(folder.path / "error.json", {"status": "failed", "error": "ValueError: no [bold] luck"})
    view.show(monitor.look(), monitor)
    assert "fedavg n=2 beta=1 seed=0: failed: ValueError: no [bold] luck" in out.getvalue()


def test_the_live_view_has_a_bar_for_each_running_cell(plan):
    advance(plan, 0, 1)
    finish(plan, 1)
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=150))
    monitor = Monitor(plan, plan.jobs)
    with hold(plan.store.cell(plan.jobs[0].cell_id).path, "run"):
        view.show(monitor.look(), monitor)
    view._bars.refresh()
    view.close()
    told = out.getvalue()
    assert "1/3 cells" in told
    assert "centralized seed=0" in told
    assert "round 1/2, loss 0.2500, validation 0.5000" in told
    assert "fedprox" not in told


def test_the_view_fits_where_the_output_goes():
    assert isinstance(make_view(Console(file=io.StringIO()), quiet=False), PlainView)
    assert type(make_view(Console(file=io.StringIO()), quiet=True)) is View


@pytest.mark.parametrize(("seconds", "told"), [(None, "--:--"), (0, "00:00"), (65.4, "01:05"), (3725, "1:02:05")])
def test_clock(seconds, told):
    assert clock(seconds) == told
