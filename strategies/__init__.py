"""What is compared: one strategy a file, found by name, by dotted path or by entry point."""

from bench.plugins import Registry
from strategies.base import State, Strategy, Tensors, Upload, WeightedMean, weighted_mean
from strategies.centralized import Centralized
from strategies.centralized_matched import CentralizedMatched
from strategies.dp_fedavg import DPFedAvg
from strategies.ewc import EWC
from strategies.fedadagrad import FedAdagrad
from strategies.fedadam import FedAdam
from strategies.fedavg import FedAvg
from strategies.fedavg_ema import FedAvgEMA
from strategies.fedavgm import FedAvgM
from strategies.feddiffuse import FedDiffuse
from strategies.feddyn import FedDyn
from strategies.fednova import FedNova
from strategies.fedprox import FedProx
from strategies.fedyogi import FedYogi
from strategies.flower import Flower
from strategies.local_only import LocalOnly
from strategies.median import FedMedian
from strategies.quantised import Quantised
from strategies.scaffold import Scaffold
from strategies.top_k import TopK
from strategies.trimmed_mean import TrimmedMean

__all__ = ["State", "Strategy", "Tensors", "Upload", "WeightedMean", "load", "registry", "weighted_mean"]

_SHIPPED: dict[str, type[Strategy]] = {
    "centralized": Centralized,
    "centralized-matched": CentralizedMatched,
    "local-only": LocalOnly,
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "fedadagrad": FedAdagrad,
    "scaffold": Scaffold,
    "fednova": FedNova,
    "feddyn": FedDyn,
    "ewc": EWC,
    "fedavg-ema": FedAvgEMA,
    "median": FedMedian,
    "trimmed-mean": TrimmedMean,
    "feddiffuse": FedDiffuse,
    "quantised": Quantised,
    "top-k": TopK,
    "dp-fedavg": DPFedAvg,
    "flower": Flower,
}
registry: Registry[Strategy] = Registry("strategy", "bench.strategies", Strategy, _SHIPPED)
load = registry.load
