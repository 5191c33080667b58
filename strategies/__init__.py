"""What is compared: one strategy a file, found by name, by dotted path or by entry point."""

from bench.plugins import Registry
from strategies.base import State, Strategy, Tensors, Upload, WeightedMean
from strategies.centralized import Centralized
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx

__all__ = ["State", "Strategy", "Tensors", "Upload", "WeightedMean", "load", "registry"]

_SHIPPED: dict[str, type[Strategy]] = {"centralized": Centralized, "fedavg": FedAvg, "fedprox": FedProx}
registry: Registry[Strategy] = Registry("strategy", "bench.strategies", Strategy, _SHIPPED)
load = registry.load
