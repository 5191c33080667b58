"""A cell that is killed goes on from its checkpoint and ends as one that was not: the same numbers, the same weights."""

import itertools
import shutil

import pytest
import torch

from bench.cell.autoencoder import CLIENTS
from bench.cell.job import How
from bench.cell.run import run_cell
from bench.cell.setting import PERSONAL, Setting, load_data
from bench.cell.train import AUTOENCODER, CHECKPOINT, find_checkpoint, train
from bench.federation import rounds as loop
from bench.federation.drive import Checkpoint
from bench.store.files import Damaged, read_json, read_lines
from bench.store.records import LOGS, Steps, Validation
from bench.store.states import load_state, save_state
from tests.reliability.tiny import folder_of, jobs_of, numbers, untimed
from tests.shortcuts import blank_pictures

CASES = {
    "optimizers are kept": ["client.optimizer_state=keep", "client.lr_schedule=constant"],
    "centralized": ["strategy=centralized"],
    "a client's steps in one place": ["strategy=centralized-matched", "training.local_steps=5"],
    "controls on server and clients": ["strategy=scaffold", "training.participation=0.5", "n_clients=4"],
    "an average on the server": ["ema.mode=server", "ema.decay=0.9"],
    "averages on the clients": ["ema.mode=client", "ema.decay=0.9"],
    "a history of losses, and images along training": ["diffusion.timesteps=loss-aware", "evaluation.curve_every=1", "evaluation.curve_samples=10"],
    "an autoencoder trained by the federation": ["latent.mode=federated", "latent.epochs=3", "latent.width=16"],
    "clients' own parts": ["strategy=feddiffuse(mode=\"udec\")"],
    "server optimizer, failures and stragglers": ["strategy=fedadam(server_lr=0.01)", "training.failures=0.3", "training.stragglers=0.3"],
    "residuals of what was not sent": ["strategy=top-k(fraction=0.1)"],
    "dropout": ["model.dropout=0.2"],
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def blank():
    """Pictures are not what is compared."""
    with blank_pictures():
        yield


class Killed(BaseException):
    """Ends a cell from inside like a signal from outside: nothing that it wrote to tell of failures is written."""


def kill_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """The next run is killed before its gradient step of that number."""
    left, step = itertools.count(steps, -1), loop.FederatedTraining._step

    def counted(self, *arguments):
        if next(left) <= 0:
            raise Killed
        return step(self, *arguments)

    patch.setattr(loop.FederatedTraining, "_step", counted)


def trained(job) -> dict:
    """Train the job's cell from where it stands; what its train.json and its logs tell but times."""
    folder = folder_of(job)
    checkpoint = find_checkpoint(folder, "cpu")
    setting = Setting(job.config, load_data(job.config, None), "cpu", folder, job.root)
    record = train(setting, job.train_id, 1, checkpoint).known()
    record["metrics"] = {key: value for key, value in record["metrics"].items() if not key.endswith("seconds")}
    told = {key: record[key] for key in ("weight_hash", "personal_hashes", "metrics")}
    return told | {name: untimed(read_lines(folder.path / name)) for name in LOGS}


def trained_while_killed(job) -> dict:
    """The same of a training that is killed again and again."""
    found, kills = None, 0
    while found is None:
        with pytest.MonkeyPatch.context() as patch:
            kill_after(patch, 8)  # gradient steps: more than a round has, and not a multiple of them
            try:
                found = trained(job)
            except Killed:
                kills += 1
                assert kills < 20, "it does not get on"
    assert kills > 0
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_training_killed_again_and_again_ends_like_one_that_was_not(case, tmp_path):
    (whole,) = jobs_of(tmp_path / "whole", *CASES[case])
    wanted = trained(whole)
    (job,) = jobs_of(tmp_path / "killed", *CASES[case])
    assert trained_while_killed(job) == wanted
    left = [name for name in (CHECKPOINT, AUTOENCODER, CLIENTS) if (folder_of(job).path / name).exists()]
    assert left == []


def test_one_client_that_is_killed_ends_where_centralized_training_with_its_steps_does(tmp_path):
    """48 images in batches of 8 are 6 steps a pass: 7 of them reach into the next."""
    (central,) = jobs_of(tmp_path / "central", "strategy=centralized-matched", "training.local_steps=7")
    alone = ["n_clients=1", "client.optimizer_state=keep", "training.local_steps=7"]
    (job,) = jobs_of(tmp_path / "alone", *alone)
    wanted, found = trained(central), trained_while_killed(job)
    assert found["weight_hash"] == wanted["weight_hash"]
    for name, key in ((Steps.FILE, "loss"), (Validation.FILE, "class_loss")):
        assert [line[key] for line in found[name]] == [line[key] for line in wanted[name]]
    assert found["metrics"]["sequential_steps"] == wanted["metrics"]["sequential_steps"] == 4 * 7
    assert found["metrics"]["samples"] == wanted["metrics"]["samples"] == 4 * 7 * 8


@pytest.fixture(scope="module")
def personal(tmp_path_factory):
    """Numbers of a cell whose clients keep parts of the model."""
    (whole,) = jobs_of(tmp_path_factory.mktemp("personal"), 'strategy=feddiffuse(mode="udec")')
    run_cell(whole)
    return numbers(folder_of(whole))


@pytest.mark.parametrize("when", ["after the last round", "before train.json", "while it is judged"])
def test_a_cell_killed_between_its_phases_ends_like_one_that_was_not(when, tmp_path, monkeypatch, personal):
    place = {"after the last round": "bench.cell.train._keep_personal", "before train.json": "bench.cell.train.write_tensors",
             "while it is judged": "bench.cell.run.judge"}[when]  # fmt: skip
    (job,) = jobs_of(tmp_path, 'strategy=feddiffuse(mode="udec")')

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, die)
        with pytest.raises(Killed):
            run_cell(job)
    kill_after(monkeypatch, 0)  # no step is done again
    run_cell(job)
    assert numbers(folder_of(job)) == personal


def test_checkpoints_every_second_round(tmp_path, monkeypatch):
    (job,) = jobs_of(tmp_path)
    (job,) = [type(job)(**{**vars(job), "how": How(checkpoint_every=2)})]
    with monkeypatch.context() as patch:
        kill_after(patch, 6 * 3 + 2)  # in the fourth round of six steps
        with pytest.raises(Killed):
            run_cell(job)
    folder = folder_of(job)
    assert [line["round"] for line in read_lines(folder.path / "metrics.jsonl")] == [1, 2, 3]
    state = find_checkpoint(folder, "cpu")
    assert state["run"]["done"] == 2
    assert [line["round"] for line in read_lines(folder.path / "metrics.jsonl")] == [1, 2]
    assert {line["round"] for line in read_lines(folder.path / "clients.jsonl")} == {1, 2}


def test_without_checkpoints_none_is_written_and_the_cell_starts_again(tmp_path, monkeypatch):
    (job,) = jobs_of(tmp_path)
    (job,) = [type(job)(**{**vars(job), "how": How(checkpoint_every=0)})]
    with monkeypatch.context() as patch:
        kill_after(patch, 15)
        with pytest.raises(Killed):
            run_cell(job)
    folder = folder_of(job)
    assert not (folder.path / CHECKPOINT).exists()
    run_cell(job)
    assert read_json(folder.path / "cell.json")["resumed"] == 0
    assert [line["round"] for line in read_lines(folder.path / "metrics.jsonl")] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A cell whose clients remember, killed in its third round, and the numbers that it is to have at the end."""
    settings = ["strategy=scaffold"]
    root = tmp_path_factory.mktemp("stopped")
    (whole,) = jobs_of(root / "whole", *settings)
    run_cell(whole)
    (job,) = jobs_of(root / "killed", *settings)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, 15)
        with pytest.raises(Killed):
            run_cell(job)
    return root / "killed", settings, numbers(folder_of(whole))


def flipped(data: bytes, place: float = 0.6) -> bytes:
    k = int(place * len(data))
    return data[:k] + bytes([data[k] ^ 4]) + data[k + 1 :]


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "emptied": lambda path: path.write_bytes(b""),
    "flipped at the end": lambda path: path.write_bytes(flipped(path.read_bytes(), 0.99)),
    "flipped at the beginning": lambda path: path.write_bytes(flipped(path.read_bytes(), 0.02)),
    "a folder": lambda path: (path.unlink(), path.mkdir(), (path / "x").write_text("x")),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("victim", [CHECKPOINT, f"{CLIENTS}/1-*.safetensors", "metrics.jsonl", "clients.jsonl"])
def test_a_damaged_checkpoint_is_put_aside_and_not_used(stopped, victim, damage, tmp_path):
    killed, settings, _ = stopped
    shutil.copytree(killed, tmp_path / "r")
    (job,) = jobs_of(tmp_path / "r", *settings)
    folder = folder_of(job)
    (path,) = folder.path.glob(victim)
    DAMAGE[damage](path)
    if "/" in victim:  # clients' states are looked at when the run takes them up
        state = find_checkpoint(folder, "cpu")
        with pytest.raises(Damaged):
            load_state(folder.path / CLIENTS / state["run"]["clients"]["1"], torch.device("cpu"))
        return
    with pytest.warns(UserWarning, match=r"checkpoint\.safetensors is damaged .* made anew"):
        assert find_checkpoint(folder, "cpu") is None
    assert read_lines(folder.path / "metrics.jsonl") == []
    assert (folder.path.parent / ".quarantine" / job.cell_id / CHECKPOINT).exists()


@pytest.mark.parametrize("victim", [CHECKPOINT, f"{CLIENTS}/1-*.safetensors"])
def test_after_damage_the_cell_is_trained_anew_to_the_same_numbers(stopped, victim, tmp_path):
    killed, settings, wanted = stopped
    shutil.copytree(killed, tmp_path / "r")
    (job,) = jobs_of(tmp_path / "r", *settings)
    (path,) = folder_of(job).path.glob(victim)
    DAMAGE["flipped at the end"](path)
    with pytest.warns(UserWarning, match="is damaged"):
        run_cell(job)
    assert numbers(folder_of(job)) == wanted


def test_a_write_of_a_checkpoint_that_fails_leaves_the_one_before(stopped, tmp_path, monkeypatch):
    killed, settings, wanted = stopped
    shutil.copytree(killed, tmp_path / "r")
    (job,) = jobs_of(tmp_path / "r", *settings)
    folder = folder_of(job)
    before = (folder.path / CHECKPOINT).read_bytes()

    def fail(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("bench.store.files.os.replace", fail)
        with pytest.raises(Killed):
            save_state(folder.path / CHECKPOINT, {"run": {"done": 4}, "kept": {}})
    assert (folder.path / CHECKPOINT).read_bytes() == before
    run_cell(job)
    assert numbers(folder) == wanted


def test_what_a_checkpoint_names_is_never_written_to_again(stopped):
    killed, settings, _ = stopped
    (job,) = jobs_of(killed, *settings)
    state = Checkpoint(folder_of(job).path / CHECKPOINT, 1).load("cpu")
    assert state["run"]["done"] == 2
    assert sorted(state["run"]["clients"].values()) == ["0-1.safetensors", "1-1.safetensors"]
    names = {path.name for path in (folder_of(job).path / CLIENTS).glob("*")}
    assert names >= set(state["run"]["clients"].values())
    assert not (folder_of(job).path / PERSONAL).exists()


def test_clients_that_are_gone_are_trained_anew(stopped, tmp_path):
    killed, settings, wanted = stopped
    shutil.copytree(killed, tmp_path / "r")
    (job,) = jobs_of(tmp_path / "r", *settings)
    shutil.rmtree(folder_of(job).path / CLIENTS)
    run_cell(job)
    assert numbers(folder_of(job)) == wanted
