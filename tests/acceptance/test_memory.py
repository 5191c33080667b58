"""Memory does not grow with the number of clients: peaks of whole processes, at a reduced model size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Ten participants a round either way. SCAFFOLD keeps a model-sized state for each client that was ever drawn, so a loop
# that held them in memory would need 2.4 MB for each of 77 clients: five times what is allowed.
SCRIPT = """
import json, resource, sys, torch
from pathlib import Path
from bench.config.cell import ClientConfig, TrainingConfig
from bench.diffusion import schedule
from bench.diffusion.process import Process
from bench.diffusion.unet import UNet
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import DiffusionTask
from strategies import load

n, fraction, folder = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
images = torch.randint(0, 256, (2 * 1000, 1, 8, 8), dtype=torch.uint8)
task = DiffusionTask(Process(schedule.cosine(50)), images, images[:20])
net = UNet(1, (32, 64), (False, True), blocks=1, groups=8)
training = TrainingConfig(rounds=8, batch_size=2, participation=fraction)
clients = list(torch.arange(2 * n).split(2))
run = FederatedTraining(load("scaffold")(), net, task, clients, training, ClientConfig(), 0, folder)
for record in run.rounds():
    assert record.participants == 10
visited = len(list(folder.glob("*.safetensors")))
print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "visited": visited}))
"""


def measured(folder: Path, n: int, fraction: float) -> dict[str, int]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(n), str(fraction), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.xdist_group("memory")
def test_a_thousand_clients_run_in_the_memory_of_ten(tmp_path):
    few, many = measured(tmp_path / "few", 10, 1.0), measured(tmp_path / "many", 1000, 0.01)
    print(few, many)
    assert (few["visited"], many["visited"] > 70) == (10, True)
    assert many["peak"] < 1.1 * few["peak"], (few, many)
