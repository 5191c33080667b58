"""FedDyn: every client's loss gets a linear and a quadratic term that make its minimum agree with the global one.

Acar, Zhao, Navarro, Mattina, Whatmough, Saligrama: Federated Learning Based on Dynamic Regularization, ICLR 2021,
algorithm 1 (arXiv 2111.04263).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import torch
from strategies.base import State, Strategy, Tensors, Upload, WeightedMean


@dataclass(frozen=True)
class FedDyn(Strategy):
    """Local loss L_i(w) - <g_i, w> + (alpha / 2) ||w - w_round||^2, then g_i <- g_i - alpha (w_i - w_round).

    Where the local loss is minimised, the new g_i is the gradient of L_i at w_i. The server keeps their mean h,

        h <- h - alpha sum_{i arrived} (N_i / N) (w_i - w_round),    w <- sum_i p_i w_i - h / alpha.

    The paper has 1 / m and 1 / |P| for m clients of which P take part, and so minimises the mean over clients; the
    weights here, equal to those for clients of equal size, minimise the pooled loss. Where no local model moves any
    more, all g_i are gradients at one point and h = 0: that point is stationary for the pooled loss, however few full
    gradient steps a client does. Few steps make it slow to get there, or unstable: -h / alpha is the sum of all drifts
    so far whatever alpha is, a momentum that never fades, and only the pulls of alpha (w - w_round) and g_i on local
    training bring it to rest. Under Adam w_i - w_round is no multiple of a gradient, g_i becomes one only as local
    training converges, and the terms pass through the moments: a heuristic.

    What is evaluated is this w, the paper's cloud model. The authors' published code scores the mean of the clients'
    models instead, before h is taken off.

    Stragglers are dropped: the paper asks for local minima. One client alone is not centralized training, since its
    loss has the terms, too. What travels is FedAvg's; a client keeps g_i, one model's size.

    Attributes:
        alpha: strength of the pull, > 0: at 0 nothing holds g_i and h together. Sensible grid: 0.01, 0.1, 1.

    Raises:
        ValueError: if alpha is not a positive finite number.
    """

    title: ClassVar[str] = "FedDyn"
    convex: ClassVar[bool] = False
    keeps_equal: ClassVar[bool] = False
    alone_is_centralized: ClassVar[bool] = False

    alpha: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha must be a finite number > 0, got {self.alpha}")

    def correct_grads(self, params: Tensors, down: Tensors, local: State) -> None:
        """Add the two terms' gradient, alpha (w - w_round) - g_i; g_i is 0 at the first visit."""
        grads = {name: p.grad for name, p in params.items() if p.grad is not None}
        pulls = torch._foreach_sub([params[name].detach() for name in grads], [down[name] for name in grads])
        torch._foreach_add_(list(grads.values()), pulls, alpha=self.alpha)
        if "gradient" in local:
            torch._foreach_sub_(list(grads.values()), [local["gradient"][name] for name in grads])

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        names = [name for name, p in params.items() if p.is_floating_point()]
        changes = torch._foreach_sub([params[name].detach() for name in names], [down[name] for name in names])
        torch._foreach_mul_(changes, -self.alpha)
        if "gradient" in local:
            torch._foreach_add_(changes, [local["gradient"][name] for name in names])
        local["gradient"] = dict(zip(names, changes, strict=True))
        return params

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        params = server["params"]
        origin = {name: w.double() for name, w in params.items() if w.is_floating_point()}
        means, arrived = WeightedMean({**params, **origin}), 0
        for upload in uploads:
            means.add(upload.tensors, upload.n_samples)
            arrived += upload.n_samples
        mean, pull = means.result(), self.alpha * arrived / server["n_samples"]
        h = {name: t.double() for name, t in server.get("gradient", {}).items()}
        for name, w in origin.items():
            h[name] = h.get(name, 0) - pull * (mean[name] - w)
            mean[name] -= h[name] / self.alpha
        server["params"] = {name: w.to(params[name].dtype) for name, w in mean.items()}
        server["gradient"] = {name: t.to(params[name].dtype) for name, t in h.items()}
