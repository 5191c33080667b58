"""From a grid to jobs: data and extractor are looked at once, every cell gets its id, and every split is tried.

What cannot work is found here, before anything is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import partitions
from bench.cell import setting as assemble
from bench.cell.environment import resolve_device
from bench.cell.job import CellJob
from bench.config.cell import DataConfig, EvaluationConfig
from bench.config.errors import ConfigError
from bench.config.grid_file import Grid
from bench.config.ids import cell_id, likelihood_id, train_id
from bench.config.names import cell_name, labels, titles
from bench.data.sets import Dataset
from bench.fidelity.extractors import Extractor
from bench.run import cost
from bench.store.grid_folder import PlannedCell, Store
from bench.store.records import FAILURES


@dataclass(frozen=True)
class Plan:
    """A grid made ready: its store and one job a cell, in the grid's order."""

    grid: Grid
    store: Store
    jobs: tuple[CellJob, ...]
    data: dict[DataConfig, Dataset]

    def states(self) -> dict[str, str]:
        """State of every planned cell by id, read from disk."""
        return {job.cell_id: self.store.cell(job.cell_id).state() for job in self.jobs}

    def pending(self, retry_failed: bool) -> list[CellJob]:
        """Jobs that are not done; failed ones only if they are to be tried again."""
        skip = {"done"} if retry_failed else {"done", *FAILURES}
        states = self.states()
        return [job for job in self.jobs if states[job.cell_id] not in skip]

    def passes(self, job: CellJob) -> dict[str, float]:
        """Network passes of the job by phase, in the phases' order; see `bench.run.cost.passes`."""
        passes = cost.passes(job.config, len(self.data[job.config.data].train_images))
        if job.how.until is None:
            return passes
        return {"autoencoder": passes["autoencoder"], "train": passes["train"] * cost.share(job)}

    def estimate(self, jobs: list[CellJob]) -> dict[str, float]:
        """Seconds each job takes alone, by cell id: from finished cells with the same network, else from a probe.

        Of jobs that share their training or their bits/dim the first has the cost, none if it is already paid.
        """
        rates: dict[tuple[object, ...], tuple[float, float]] = {}
        seconds = {}
        for job, passes in zip(jobs, self.unpaid_passes(jobs), strict=True):
            key = cost.model_key(job.config, job.device)
            if key not in rates:
                rates[key] = self._rates(job)
            first = passes.pop("autoencoder")
            seconds[job.cell_id] = sum(passes.values()) * rates[key][0] + first * rates[key][1]
        return seconds

    def unpaid_passes(self, jobs: Sequence[CellJob]) -> list[dict[str, float]]:
        """Each job's `passes` without what an earlier one or a cell on disk already has: training, bits/dim."""
        trained, bounded = self.store.trained_ids(), self.store.likelihood_ids()
        unpaid = []
        for job in jobs:
            passes = self.passes(job)
            bound = likelihood_id(job.config, self.data[job.config.data].digest, job.device)
            if job.train_id in trained:
                passes |= {"autoencoder": 0.0, "train": 0.0}
            if bound in bounded:
                passes |= {"likelihood": 0.0} if "likelihood" in passes else {}
            trained.add(job.train_id)
            bounded.add(bound)
            unpaid.append(passes)
        return unpaid

    def _rates(self, job: CellJob) -> tuple[float, float]:
        """Seconds a pass of the job's network and of its autoencoder, 0 where it has none."""
        data, key = self.data[job.config.data], cost.model_key(job.config, job.device)
        alike = [(j.cell_id, j.config) for j in self.jobs if cost.model_key(j.config, j.device) == key]
        measured = cost.measured(self.store, alike, len(data.train_images))
        rate = measured or cost.probe(job.config, data.channels, data.n_classes, job.device)
        return rate, cost.probe_autoencoder(job.config, data.channels, job.device) if job.config.is_latent else 0.0

    def describe(self) -> dict[str, Any]:
        """The content of grid.json."""
        cells = [PlannedCell(j.cell_id, j.train_id, j.labels, j.config.model_dump(mode="json")) for j in self.jobs]
        return {
            "name": self.grid.name,
            "description": self.grid.description,
            "axes": self.grid.axes,
            "extra_axes": self.grid.extra_axes,
            "titles": titles(self.grid),
            "claims": self.grid.claims,
            "tuned": self.grid.tuned.model_dump() if self.grid.tuned else None,
            "cells": cells,
        }


def make_plan(grid: Grid, results: Path, data_root: Path | None = None, download: bool = False) -> Plan:
    """Look at all that the grid needs and give every cell its id. Nothing is written.

    Raises:
        ConfigError: if data, extractor weights or the device are missing, or a cell's data cannot be split as it asks.
    """
    data: dict[DataConfig, Dataset] = {}
    extractors: dict[EvaluationConfig, Extractor] = {}
    try:
        data_root = data_root.resolve() if data_root is not None else None
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a NUL
        raise ConfigError(f"--data-root {data_root}: cannot be read: {error}") from error
    root = results / grid.name
    jobs = []
    for cell in grid.cells:
        try:
            if cell.data not in data:
                data[cell.data] = assemble.load_data(cell, data_root, download)
            device = resolve_device(cell.device)
            if cell.evaluation not in extractors:
                extractors[cell.evaluation] = assemble.load_cell_extractor(cell, download)
            extractor = extractors[cell.evaluation]
            extractor.check(data[cell.data].channels, cell.data.size)
            if extractor.datasets is not None and cell.data.name not in extractor.datasets:
                raise ValueError(
                    f"extractor {extractor.name} knows {' and '.join(extractor.datasets)}, not {cell.data.name}; "
                    'use evaluation.extractor = "inception-v3-compat"'
                )
            assemble.check_reference(cell, data[cell.data])
            assemble.split(cell, data[cell.data].train_labels)
        except partitions.PartitionError as error:
            raise ConfigError(
                f"grid {grid.name}: {cell_name(labels(grid, cell))}: {error}; take it out with [[exclude]] "
                "or change n_clients, beta or the partition"
            ) from error
        except ValueError as error:
            raise ConfigError(f"grid {grid.name}: {error}") from error
        digest = data[cell.data].digest
        ids = cell_id(cell, digest, extractor.digest, device), train_id(cell, digest, device)
        jobs.append(CellJob(cell, *ids, labels(grid, cell), root, data_root, device))
    unique = {job.cell_id: job for job in jobs}
    return Plan(grid, Store(root), tuple(unique.values()), data)
