"""FedYogi: Yogi on the server, with the clients' mean update as its gradient.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization, ICLR 2021,
algorithm 2 (arXiv 2003.00295), after Zaheer, Reddi, Sachan, Kale, Kumar: Adaptive Methods for Nonconvex
Optimization, NeurIPS 2018.
"""

from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from strategies.fedadam import FedAdam


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """FedAdam with v <- v - (1 - beta2) Delta^2 sign(v - Delta^2).

    v rises by (1 - beta2) Delta^2 where it is below Delta^2, and else falls by as much: small updates after large ones
    hardly lower it and so do not bring large steps back. The authors' experiments have initial_v = 0 with bias
    correction, Flower's FedYogi without.

    Attributes and errors: as `FedAdam` and `FedOpt`.
    """

    title: ClassVar[str] = "FedYogi"

    def accumulate(self, v: list[Tensor], squares: list[Tensor]) -> None:
        signs = torch._foreach_sign(torch._foreach_sub(v, squares))
        torch._foreach_addcmul_(v, squares, signs, value=self.beta2 - 1)
