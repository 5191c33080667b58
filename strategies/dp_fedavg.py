"""DP-FedAvg: client-level differential privacy by clipped updates and Gaussian noise on their sum.

McMahan, Ramage, Talwar, Zhang: Learning Differentially Private Recurrent Language Models, ICLR 2018, algorithm 1 with
flat clipping and the fixed-denominator estimator (arXiv 1710.06963); Geyer, Klein, Nabi: Differentially Private
Federated Learning: A Client Level Perspective, 2017 (arXiv 1712.07557). With S = `clip` and z = `noise_multiplier`

    w <- w + (1/m) (sum_i clip(w_i - w) + N(0, z^2 S^2 I)),    clip(u) = u min(1, S / ||u||).

Every client weighs the same, whatever its number of images: weights would themselves tell of the data, and the largest
would set the sensitivity. For the same reason m is public and fixed, the expected number of participants, so that one
client moves the sum by S at most whoever else arrived. A round's noise is added whether or not anything arrives.

What `epsilon` says. All global models of all rounds together are (epsilon, delta)-differentially private for one whole
client, by Renyi accounting (Mironov 2017, arXiv 1702.07476; Mironov, Talwar, Zhang 2019, arXiv 1908.10530):

    "poisson" sampling: adding or removing a client; each takes part in a round with probability C, and that nobody is
        told who did makes the guarantee stronger (amplification).
    "fixed" sampling: making all of a client's updates zero ("zero-out"), which leaves who takes part as it was. No
        amplification is claimed: with round(C n) of n clients drawn, one that is added takes another's place, so that
        rounds are no Poisson samples and their bound would promise too much. The bound holds for a client that takes
        part in every round.

Replacing a client's data by another's, instead, moves the sum by 2 S: then epsilon is that of z / 2. Not covered are
what the harness writes beside the models (losses, norms of updates, participants), a choice of hyper-parameters by the
same data, and an adversary who knows the seed: this simulates the mechanism, to measure what it costs in quality.

Few clients make privacy dear: of 10 clients in each of 8 rounds at delta = 1e-5, z = 0.01 gives epsilon = 41,354,
z = 0.1 gives 533 and z = 1 gives 16.6, while the noise has the norm (z S / m) sqrt(d) against an update of norm S at
most: with d = 390,000 parameters 0.62 S, 6.2 S and 62 S. Only m in the thousands gives both a model and a guarantee.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from bench.seeds import torch_stream
from strategies.base import State, Strategy, Tensors, Upload

# Orders of the Renyi divergence; the best bound over all of them counts. Opacus sums fractional orders by a series that
# is slow, and loses all digits where the order and the noise are large: whole ones do from 2 on, but for the gaps.
_ORDERS = sorted({1 + 10 ** (k / 8) for k in range(-32, 5)} | {*range(3, 64), *range(64, 513, 16)})


@dataclass(frozen=True)
class DPFedAvg(Strategy):
    """Clipped updates, noise, equal weights. Clients send their clipped updates; integer tensors stay as they are.

    Exact for every local optimizer: only the update that comes out of local training is looked at. The paper also pulls
    the weights back to within S of the global model after each local step; what is sent has the same bound.

    Attributes:
        clip: S > 0, the largest Euclidean norm of a client's update over all its floating-point numbers. Sensible grid:
            0.3, 1, 3, 10; compare the log's `drift`, the mean norm before clipping.
        noise_multiplier: z >= 0, the noise's standard deviation in units of S. Sensible grid: 0, 0.001, 0.01, 0.1, 1.
            At 0 there is clipping without privacy: epsilon is infinite, which JSON files show as null.
        delta: of the guarantee, in (0, 1); well below 1 / n_clients. It changes nothing but the reported epsilon.

    Raises:
        ValueError: if one of them is out of its range or not finite.
    """

    title: ClassVar[str] = "DP-FedAvg"
    convex: ClassVar[bool] = False
    keeps_equal: ClassVar[bool] = False
    alone_is_centralized: ClassVar[bool] = False

    clip: float = 3.0
    noise_multiplier: float = 0.01
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise ValueError(f"clip must be a finite number > 0, got {self.clip}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ValueError(f"noise_multiplier must be a finite number >= 0, got {self.noise_multiplier}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie between 0 and 1, got {self.delta}")

    def download(self, server: State, client: int) -> Tensors:
        """The global model, with the noise of earlier rounds from which nothing arrived."""
        return self._released(server, server["round"])

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        """The update w_i - w of the floating tensors, shortened to the norm S if it is longer."""
        names = _floating(down)
        update = torch._foreach_sub([params[name].detach() for name in names], [down[name] for name in names])
        norm = torch.stack([part.double() for part in torch._foreach_norm(update)]).norm().item()
        torch._foreach_mul_(update, self.clip / max(norm, self.clip))
        return dict(zip(names, update, strict=True))

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        params = self._released(server, server["round"])
        names = _floating(params)
        sums = {name: torch.zeros_like(params[name], dtype=torch.float64) for name in names}
        for upload in uploads:
            for name in names:
                sums[name].add_(upload.tensors[name])
        noise = self._noise(server, server["round"])
        for name in names:
            params[name] = _moved(params[name], sums[name] + noise[name].to(params[name].device), server)
        server["params"], server["noised"] = params, server["round"] + 1

    def model(self, server: State, local: State) -> Tensors:
        """The global model as it is released after the round, with its noise even where nothing arrived."""
        return self._released(server, server["round"] + 1)

    def report(self, server: State) -> dict[str, float]:
        """Epsilon after all rounds; infinite without noise."""
        q = server["participation"] if server["sampling"] == "poisson" else 1.0
        return {"epsilon": epsilon(self.noise_multiplier, q, server["round"] + 1, self.delta)}

    def _released(self, server: State, rounds: int) -> Tensors:
        """The global model after so many rounds. Those from which nothing arrived are made up for here: a model that
        stays as it was would tell that nobody was drawn, against which amplification has no defence.
        """
        params = dict(server["params"])
        for index in range(server.get("noised", 0), rounds if self.noise_multiplier else 0):
            for name, noise in self._noise(server, index).items():
                params[name] = _moved(params[name], noise.to(params[name].device), server)
        return params

    def _noise(self, server: State, index: int) -> Tensors:
        """N(0, z^2 S^2) for the sum of round `index`, in float64 on the CPU, drawn in the order of sorted names."""
        stream, scale = torch_stream(server["seed"], "dp", index), self.noise_multiplier * self.clip
        params = server["params"]
        return {
            name: torch.randn(params[name].shape, generator=stream, dtype=torch.float64) * scale
            for name in _floating(params)
        }


def epsilon(noise_multiplier: float, q: float, rounds: int, delta: float) -> float:
    """Epsilon of `rounds` Gaussian mechanisms, each on a Poisson sample of rate q, by Opacus's Renyi accountant."""
    if noise_multiplier == 0:
        return math.inf
    # Here, because importing Opacus takes seconds that only this figure is worth.
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

    spent = compute_rdp(q=q, noise_multiplier=noise_multiplier, steps=rounds, orders=_ORDERS)
    return float(get_privacy_spent(orders=_ORDERS, rdp=spent, delta=delta)[0])


def _floating(tensors: Tensors) -> list[str]:
    """Sorted names of the floating-point tensors: a fixed order, whatever file they came from."""
    return sorted(name for name, tensor in tensors.items() if tensor.is_floating_point())


def _moved(tensor: Tensor, total: Tensor, server: State) -> Tensor:
    """The tensor moved by a round's sum over the expected number of participants, of the tensor's own type."""
    n, share = server["n_clients"], server["participation"]
    expected = share * n if server["sampling"] == "poisson" else max(1, math.floor(share * n + 0.5))
    return (tensor.double() + total / expected).to(tensor.dtype)
