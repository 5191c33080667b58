"""SCAFFOLD: control variates take the clients' drift out of their local gradients.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning,
ICML 2020, algorithm 1 with option II (arXiv 1910.06378).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from strategies.base import State, Strategy, Tensors, Upload, WeightedMean

CONTROL = "control/"  # names of controls on their way; a parameter's name holds no slash


@dataclass(frozen=True)
class Scaffold(Strategy):
    """Local steps along g - c_i + c: client i's gradient g, its own control c_i and the server's control c.

    Option II's new control is c_i+ = c_i - c + (x - y_i) / (K eta) after K local steps from x to y_i. For SGD at a
    constant rate, x - y_i = eta sum_k (g_k - c_i + c), so that c_i+ is the mean of the raw gradients g_k along the
    path. It is computed as that mean, which stays an estimate of the client's gradient under any optimizer and any
    schedule of the rate, where (x - y_i) / (K eta) would not: Adam's steps are no gradients. Under Adam the corrected
    gradient enters both moments; each client rescales it by its own second moment, so drift is reduced and no longer
    cancelled, and moments that are kept between visits remember corrections by older controls.

    The server sets x <- x + server_lr sum_i p_i (y_i - x) and c <- c + sum_i (N_i / N) (c_i+ - c_i) over the clients
    that arrive. The paper has 1 / |S| and 1 / N clients instead: the same for clients of equal size. So c stays the
    mean of all clients' controls weighted by their numbers of images, of those that did not take part, too, and fixed
    points minimise the pooled loss. Model and control travel both ways: twice FedAvg's bytes.

    Stragglers are dropped: the paper has the same K for all. With one client c = c_i, and at server_lr = 1 it is
    centralized training bit for bit.

    Attributes:
        server_lr: the server's step eta_g, > 0. Sensible grid: 0.5, 1, 2.

    Raises:
        ValueError: if server_lr is not a positive finite number.
    """

    title: ClassVar[str] = "SCAFFOLD"

    server_lr: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.server_lr) and self.server_lr > 0):
            raise ValueError(f"server_lr must be a finite number > 0, got {self.server_lr}")

    @property
    def convex(self) -> bool:  # type: ignore[override]  # a claim that hangs on a field, as the next one
        return self.server_lr == 1

    @property
    def alone_is_centralized(self) -> bool:  # type: ignore[override]
        return self.server_lr == 1

    def download(self, server: State, client: int) -> Tensors:
        return {**server["params"], **_marked(_control(server))}

    def start(self, down: Tensors, local: State) -> Tensors:
        return {name: tensor for name, tensor in down.items() if not name.startswith(CONTROL)}

    def correct_grads(self, params: Tensors, down: Tensors, local: State) -> None:
        """Add g to the path's sum, then make it g + (c - c_i)."""
        if "steps" not in local:
            control = _zeros(_unmarked(down))
            local.update(steps=0, gradients=control, control=local.get("control") or _zeros(control))
        local["steps"] += 1
        grads = {name: p.grad for name, p in params.items() if p.grad is not None}
        torch._foreach_add_([local["gradients"][name] for name in grads], list(grads.values()))
        pulls = torch._foreach_sub([down[CONTROL + name] for name in grads], [local["control"][name] for name in grads])
        torch._foreach_add_(list(grads.values()), pulls)

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        """The model and the control's difference. The client adds the difference as the server will, not c_i+ itself:
        they round alike, so that c remains the mean of the clients' controls.
        """
        means, own = local.pop("gradients"), local["control"]
        torch._foreach_div_(list(means.values()), local.pop("steps"))
        differences = torch._foreach_sub(list(means.values()), [own[name] for name in means])
        torch._foreach_add_([own[name] for name in means], differences)
        return {**params, **_marked(dict(zip(means, differences, strict=True)))}

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        params, control = server["params"], _control(server)
        means, arrived = WeightedMean({**params, **_marked(control)}), 0
        for upload in uploads:
            means.add(upload.tensors, upload.n_samples)
            arrived += upload.n_samples
        mean = means.result()
        share = arrived / server["n_samples"]
        server["params"] = {name: _between(x, mean[name], self.server_lr) for name, x in params.items()}
        server["control"] = {
            name: (c.double() + share * mean[CONTROL + name].double()).to(c.dtype) for name, c in control.items()
        }


def _between(x: Tensor, y: Tensor, weight: float) -> Tensor:
    """x + weight (y - x), which is y bit for bit at weight 1; integers are y's."""
    return torch.lerp(x.double(), y.double(), weight).to(x.dtype) if x.is_floating_point() else y


def _control(server: State) -> Tensors:
    """The server's control: 0 until a first update has arrived."""
    return server.get("control") or _zeros({n: t for n, t in server["params"].items() if t.is_floating_point()})


def _zeros(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def _marked(control: Tensors) -> Tensors:
    return {CONTROL + name: tensor for name, tensor in control.items()}


def _unmarked(down: Tensors) -> Tensors:
    return {name.removeprefix(CONTROL): tensor for name, tensor in down.items() if name.startswith(CONTROL)}
