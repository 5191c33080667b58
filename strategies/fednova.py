"""FedNova: updates are normalised by their numbers of local steps before they are averaged.

Wang, Liu, Liang, Joshi, Poor: Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization,
NeurIPS 2020, section 5 (arXiv 2007.07481).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import torch
from strategies.base import State, Strategy, Tensors, Upload, WeightedMean

STEPS = "fednova/steps"  # tau_i on its way; a parameter's name holds no slash


@dataclass(frozen=True)
class FedNova(Strategy):
    """x <- x - tau_eff sum_i p_i (x - y_i) / tau_i with tau_i local steps of client i and tau_eff = sum_i p_i tau_i.

    FedAvg weighs a client's gradients by p_i tau_i: for the same epochs over unequal clients it tends to the minimum
    of another loss than the pooled one. FedNova's weights are p_i, whatever the numbers of steps, so stragglers' work
    is taken as it is. What is left is the drift of several local steps, which vanishes with the rate. Where all tau_i
    are equal it is FedAvg.

    tau_i is the paper's ||a_i||_1 for plain SGD, which its theory is exact for. The vectors a_i for momentum and for
    proximal steps are not here. The cosine schedule takes all clients with full work through the same rates, so it
    drops out between them; stragglers see the first of them only. Under Adam, whose steps are not sums of gradients,
    the normalisation is a heuristic.
    """

    title: ClassVar[str] = "FedNova"
    partial_work: ClassVar[bool] = True
    convex: ClassVar[bool] = False

    def correct_grads(self, params: Tensors, down: Tensors, local: State) -> None:
        """Count the step; gradients stay as they are."""
        local["steps"] = local.get("steps", 0) + 1

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        return {**params, STEPS: torch.tensor(local.pop("steps"))}

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        """The mean of the points x + (y_i - x) / tau_i is one normalised step away from x: go tau_eff of them."""
        params = server["params"]
        origin = {name: x.double() for name, x in params.items() if x.is_floating_point()}
        points, steps, images = WeightedMean({**params, **origin}), 0, 0
        for upload in uploads:
            model = dict(upload.tensors)
            tau = int(model.pop(STEPS))
            for name, x in origin.items():
                model[name] = torch.lerp(x, model[name].detach().double(), 1 / tau)
            points.add(model, upload.n_samples)
            steps, images = steps + upload.n_samples * tau, images + upload.n_samples
        server["params"] = {
            name: torch.lerp(origin[name], mean, steps / images).to(params[name].dtype) if name in origin else mean
            for name, mean in points.result().items()
        }
