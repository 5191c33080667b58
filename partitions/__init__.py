"""Ways to split a labelled data set among clients: one a file, found by name, by dotted path or by entry point."""

from bench.plugins import Registry
from partitions.base import Partition, PartitionError, checked_split, partition_digest
from partitions.dirichlet import Dirichlet
from partitions.dirichlet_plain import DirichletPlain
from partitions.iid import IID
from partitions.report import SkewReport, skew_report

__all__ = [
    "IID",
    "Dirichlet",
    "DirichletPlain",
    "Partition",
    "PartitionError",
    "SkewReport",
    "checked_split",
    "load",
    "partition_digest",
    "registry",
    "skew_report",
]

_SHIPPED: dict[str, type[Partition]] = {"iid": IID, "dirichlet": Dirichlet, "dirichlet-plain": DirichletPlain}
registry: Registry[Partition] = Registry("partition", "bench.partitions", Partition, _SHIPPED)  # type: ignore[type-abstract]
load = registry.load
