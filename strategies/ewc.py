"""EWC against client drift: FedAvg with a pull that is strong where a weight matters to the client's own loss.

Kirkpatrick et al.: Overcoming catastrophic forgetting in neural networks, PNAS 2017, equation 3 (arXiv 1612.00796),
applied to clients: the global model is what is not to be forgotten in local training. There F is the old task's; here
it is the client's own, which costs no traffic. FedCurv (Shoham et al. 2019, arXiv 1910.07796) sends the others' F.

The code of the report "Federated Diffusion Model with Non-IID Data" (github.com/kyrie-23/federated_diffusion, ewc.py)
applies it centrally, without clients: first SVHN, then MNIST, F as here the mean of squared minibatch gradients, and a
penalty lambda sum_k F_k (w_k - w*_k)^2 without the 1/2, lambda 1e10 in one version and 1e4 in another. Anchoring
clients to the global model is this project's reading of it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.plugins import torch
from strategies.base import State, Tensors
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class EWC(FedAvg):
    """Local loss L_i(w) + (lam / 2) sum_k F_k (w_k - w_round,k)^2 with the client's own diagonal Fisher information F.

    F is the mean over the steps of the client's last visit of its squared minibatch gradients, without the penalty's
    part; 0 at its first visit, which is FedAvg's. So a weight is held by its importance to the client itself, where
    FedProx holds all weights alike. A mean of squares of minibatch means is not the Fisher information of single
    images: it shrinks with the batch. Under Adam the pull passes through the moments, as FedProx's does; under SGD a
    step of rate eta is stable for eta lam max_k F_k < 2 only. Stragglers are dropped, as FedAvg does.

    Attributes:
        lam: strength of the pull, >= 0; 0 is FedAvg bit for bit and keeps no F. Squared gradients are tiny: on the
            small U-Net of this project's tests (batches of 8, Adam) their mean over the weights falls from 3e-4 to 1e-5
            in 20 rounds, the median from 7e-6 to 1e-7, the largest from 0.2 to 4e-3. So lam 1000 pulls at the mean
            weight as FedProx's mu 0.01 to 0.1 does, at most weights far less. Sensible grid: 100, 1000, 10000.

    Raises:
        ValueError: if lam is negative or not finite.
    """

    title: ClassVar[str] = "FedAvg + EWC"
    zero: ClassVar[Mapping[str, Any]] = {"lam": 0.0}

    lam: float = 1000.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lam) and self.lam >= 0):
            raise ValueError(f"lam must be a finite number >= 0, got {self.lam}")

    def correct_grads(self, params: Tensors, down: Tensors, local: State) -> None:
        """Add the squared gradients to this visit's sum, then lam F (w - w_round) to the gradients."""
        if self.lam == 0:
            return
        grads = {name: p.grad for name, p in params.items() if p.grad is not None}
        sums = local.setdefault("squares", {})
        sums.update({name: torch.zeros_like(g) for name, g in grads.items() if name not in sums})
        torch._foreach_addcmul_([sums[name] for name in grads], list(grads.values()), list(grads.values()))
        local["steps"] = local.get("steps", 0) + 1
        if "fisher" in local:
            known = [name for name in grads if name in local["fisher"]]
            pulls = torch._foreach_sub([params[name].detach() for name in known], [down[name] for name in known])
            torch._foreach_addcmul_(
                [grads[name] for name in known], pulls, [local["fisher"][name] for name in known], value=self.lam
            )

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        if self.lam > 0:
            fisher, steps = local.pop("squares"), local.pop("steps")
            torch._foreach_div_(list(fisher.values()), steps)
            local["fisher"] = fisher
        return params
