"""Dirichlet label skew as written in most papers: no balance rule, so client sizes vary more.

Hsu, Qi, Brown: "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", 2019 (arXiv 1909.06335), per class as in Yurochkin et al., 2019 (arXiv 1905.12022).
"""

from dataclasses import dataclass
from typing import ClassVar

from partitions.dirichlet import Dirichlet


@dataclass(frozen=True)
class DirichletPlain(Dirichlet):
    """`Dirichlet` in which a client that already holds its share of the data still takes part in later classes."""

    balance: ClassVar[bool] = False
