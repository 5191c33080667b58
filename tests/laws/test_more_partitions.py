"""What each partition beyond IID and Dirichlet promises, noise on clients' images, and Flower's partitioners."""

import importlib.util
import json
import math
import random
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.stats import kstest, norm

import partitions
from bench.config.grid_file import load_grid
from bench.pictures.of_a_cell import partition_heatmap
from partitions.base import IntArray, Partition, PartitionError, checked_split, partition_digest
from partitions.dirichlet import Dirichlet
from partitions.feature_noise import FeatureNoise
from partitions.flower import Flower
from partitions.iid import IID
from partitions.k_labels import KLabels
from partitions.noise import add_noise
from partitions.quantity import Quantity
from partitions.report import skew_report
from partitions.shards import Shards

HAS_FLOWER = importlib.util.find_spec("flwr_datasets") is not None
needs_flower = pytest.mark.skipif(not HAS_FLOWER, reason="the extra 'flower' is not installed")
BOUNDED = settings(max_examples=50, deadline=None)
BALANCED = np.repeat(np.arange(10), 450)
IID_OF_FLOWER = Flower("IidPartitioner")


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def histogram_of(labels: IntArray, split: list[IntArray], n_classes: int) -> np.ndarray:
    return np.stack([np.bincount(labels[part], minlength=n_classes) for part in split])


def k_labels_of(draw: st.DrawFn, n_classes: int, n_clients: int) -> Partition:
    fewest = math.ceil(n_classes / n_clients)
    return KLabels(draw(st.integers(fewest, n_classes)))


Made = Callable[[st.DrawFn, int, int], Partition]  # a partition that can split 20 samples or more of each class
MADE: dict[str, Made] = {
    "k-labels": k_labels_of,
    "shards": lambda draw, n_classes, n_clients: Shards(draw(st.integers(1, 2))),
    "quantity": lambda draw, n_classes, n_clients: Quantity(draw(st.sampled_from([2.0, 20.0])), min_size=1),
    "feature-noise": lambda draw, n_classes, n_clients: FeatureNoise(draw(st.floats(0, 1))),
    "flower": lambda draw, n_classes, n_clients: IID_OF_FLOWER,
}


@st.composite
def requests(draw: st.DrawFn, name: str) -> tuple[Partition, IntArray, int, int]:
    """A partition, labels of 1 to 6 classes of 20 to 90 samples, a number of clients, a seed."""
    counts = draw(st.lists(st.integers(20, 90), min_size=1, max_size=6))
    labels = rng_of(draw(st.integers(0, 99))).permutation(np.repeat(np.arange(len(counts)), counts))
    n_clients = draw(st.integers(1, 10))
    return MADE[name](draw, len(counts), n_clients), labels, n_clients, draw(st.integers(0, 2**32))


names = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_flower if name == "flower" else ()) for name in MADE]
)


def for_requests(name: str, check: Callable[[Partition, IntArray, int, int], None]) -> None:
    """Run a law over drawn requests; Flower's partitioners take a fifth of a second a split, so over fewer."""

    @settings(max_examples=6 if name == "flower" else 40, deadline=None)
    @given(requests(name))
    def law(request: tuple[Partition, IntArray, int, int]) -> None:
        check(*request)

    law()


class TestEverySplit:
    @names
    def test_is_disjoint_complete_and_large_enough(self, name: str) -> None:
        def check(partition: Partition, labels: IntArray, n_clients: int, seed: int) -> None:
            split = checked_split(partition, labels, n_clients, rng_of(seed))
            assert len(split) == n_clients
            assert sorted(np.concatenate(split).tolist()) == list(range(len(labels)))
            assert min(map(len, split)) >= partition.min_size

        for_requests(name, check)

    @names
    def test_follows_from_the_seed_alone(self, name: str) -> None:
        def check(partition: Partition, labels: IntArray, n_clients: int, seed: int) -> None:
            digests = []
            for stream, of_the_process in ((seed, 1), (seed, 2), (seed + 1, 1)):
                np.random.seed(of_the_process)  # noqa: NPY002
                random.seed(of_the_process)
                digests.append(partition_digest(checked_split(partition, labels, n_clients, rng_of(stream))))
            assert digests[0] == digests[1] != digests[2]

        for_requests(name, check)

    @names
    def test_does_not_read_the_names_of_classes(self, name: str) -> None:
        def check(partition: Partition, labels: IntArray, n_clients: int, seed: int) -> None:
            first, second = (
                checked_split(partition, given, n_clients, rng_of(seed)) for given in (labels, 7 * labels + 3)
            )
            assert partition_digest(first) == partition_digest(second)

        for_requests(name, check)

    @names
    def test_leaves_the_global_generators_alone(self, name: str) -> None:
        partition = {"k-labels": KLabels(), "shards": Shards(), "quantity": Quantity(0.5)}.get(name)
        partition = partition or (FeatureNoise() if name == "feature-noise" else IID_OF_FLOWER)
        before = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
        checked_split(partition, BALANCED, 5, rng_of(0))
        assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # type: ignore[index]  # noqa: NPY002

    @names
    @pytest.mark.parametrize("n_clients", [5, 10])
    def test_is_reported_and_drawn(self, name: str, n_clients: int, tmp_path: Path) -> None:
        partition: Partition = {
            "k-labels": KLabels(),
            "shards": Shards(),
            "quantity": Quantity(0.5),
            "feature-noise": FeatureNoise(),
            "flower": IID_OF_FLOWER,
        }[name]
        split = checked_split(partition, BALANCED, n_clients, rng_of(0))
        report = skew_report(BALANCED, split, 10, partition.noise_levels(n_clients))
        assert report.noise == tuple(partition.noise_levels(n_clients))
        assert len(report.noise) == n_clients
        assert any(report.noise) == (name == "feature-noise")
        assert json.loads(json.dumps(report.as_dict(), allow_nan=False)) == report.as_dict()
        partition_heatmap(np.array(report.histogram), tuple("0123456789"), tmp_path / "p.png", name, report.noise)
        assert (tmp_path / "p.png").stat().st_size > 5000

    @pytest.mark.parametrize("n_clients", [3, 30])
    def test_noise_stands_beside_the_sizes_where_there_is_any(
        self, n_clients: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn: list[Figure] = []
        monkeypatch.setattr("bench.pictures.of_a_cell.save", lambda figure, path: drawn.append(figure))
        counts, levels = np.full((n_clients, 2), 7), np.linspace(0, 0.25, n_clients).tolist()
        for noise in ((), [0.0] * n_clients, levels):
            partition_heatmap(counts, ("a", "b"), tmp_path / "p.png", "split", noise)
        named = [[axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()] for figure in drawn]
        assert named == [["class", "images"], ["class", "images"], ["class", "images", "noise (std)"]]
        bars = drawn[2].axes[2]
        assert [bar.get_width() for bar in bars.patches] == levels
        told = [text.get_text() for text in bars.texts]
        assert told == (["0", "0.125", "0.25"] if n_clients == 3 else [])

    def test_has_a_name(self) -> None:
        known = {"k-labels": KLabels, "shards": Shards, "quantity": Quantity, "feature-noise": FeatureNoise}
        for name, cls in (known | {"flower": Flower}).items():
            assert partitions.load(name) is cls
        assert [name for name in known if partitions.load(name).uses_beta] == ["quantity"]

    @pytest.mark.parametrize("partition", [IID(), Dirichlet(0.1), KLabels(), Shards(), Quantity(1.0)])
    def test_has_no_noise_unless_it_says_so(self, partition: Partition) -> None:
        assert partition.noise_levels(3) == [0.0, 0.0, 0.0]


class TestKLabels:
    @BOUNDED
    @given(requests("k-labels"))
    def test_gives_every_client_k_classes_and_every_class_a_client(
        self, request: tuple[KLabels, IntArray, int, int]
    ) -> None:
        partition, labels, n_clients, seed = request
        counts = histogram_of(labels, checked_split(partition, labels, n_clients, rng_of(seed)), labels.max() + 1)
        assert ((counts > 0).sum(axis=1) == partition.k).all()
        assert (counts.sum(axis=0) == np.bincount(labels)).all()
        for client in range(n_clients):
            assert counts[client, client % counts.shape[1]] > 0
        for of_class in counts.T:
            holders = of_class[of_class > 0]
            assert holders.max() - holders.min() <= 1

    @pytest.mark.parametrize("seed", range(5))
    def test_where_there_is_one_holder_to_a_class_clients_hold_whole_classes(self, seed: int) -> None:
        counts = histogram_of(BALANCED, checked_split(KLabels(2), BALANCED, 5, rng_of(seed)), 10)
        assert np.sort(counts, axis=1).tolist() == [[0] * 8 + [450, 450]] * 5
        assert (counts > 0).sum(axis=0).tolist() == [1] * 10

    def test_draws_the_other_classes_uniformly(self) -> None:
        rng, partition = rng_of(3), KLabels(3)
        held = np.mean([partition._choose_classes(12, 10, rng) for _ in range(2000)], axis=0)
        for client in range(12):
            others = np.delete(held[client], client % 10)
            assert held[client, client % 10] == 1
            assert others == pytest.approx(np.full(9, 2 / 9), abs=0.04)  # 4.3 standard errors

    def test_deals_classes_nobody_has_to_any_client_alike(self) -> None:
        rng, partition = rng_of(3), KLabels(2)
        held = np.mean([partition._choose_classes(5, 10, rng) for _ in range(2000)], axis=0)
        assert held[:, :5].tolist() == np.eye(5).tolist()
        assert held[:, 5:] == pytest.approx(np.full((5, 5), 1 / 5), abs=0.04)

    @pytest.mark.parametrize("n_clients", [1, 3, 7])
    def test_with_all_classes_is_an_even_mix(self, n_clients: int) -> None:
        counts = histogram_of(BALANCED, checked_split(KLabels(10), BALANCED, n_clients, rng_of(0)), 10)
        assert counts.max() - counts.min() <= 1

    @pytest.mark.parametrize("partition", [KLabels(), Shards()])
    def test_the_order_of_the_file_plays_no_part(self, partition: Partition) -> None:
        splits = [partition.split(BALANCED, 10, rng_of(seed)) for seed in range(40)]
        shared = [part for split in splits for part in split if np.bincount(BALANCED[part]).max() == 225]
        late = [np.mean(part % 450 >= 225) for part in shared]  # of a class's second half
        assert len(late) > 20
        assert 0.35 < min(late) <= max(late) < 0.65

    def test_throws_draws_away_that_leave_a_client_too_small(self) -> None:
        with pytest.raises(PartitionError, match="none of 1 draws gave each of 10 clients k=2 classes"):
            checked_split(KLabels(2, min_size=320, max_retries=0), BALANCED, 10, rng_of(0))
        split = checked_split(KLabels(2, min_size=320), BALANCED, 10, rng_of(0))
        assert min(map(len, split)) >= 320

    @pytest.mark.parametrize(
        ("k", "n_clients", "counts", "message"),
        [
            (11, 5, [450] * 10, "k=11 classes a client, but the samples have only 10"),
            (
                2,
                4,
                [450] * 10,
                "4 clients of k=2 classes hold at most 8 of the 10 classes; raise k to 3 or n_clients to 5",
            ),
            (2, 4, [1, 3, 3], "need 8 holders with a sample each; the classes have samples for 7"),
            (1, 4, [1, 99], r"none of 6 draws .*; the smallest client .* held 0, and the smallest class has 1"),
        ],
    )
    def test_what_cannot_be_is_an_error_with_numbers(
        self, k: int, n_clients: int, counts: list[int], message: str
    ) -> None:
        labels = np.repeat(np.arange(len(counts)), counts)
        with pytest.raises(PartitionError, match=message):
            checked_split(KLabels(k, max_retries=5), labels, n_clients, rng_of(0))

    def test_just_enough_samples_are_enough(self) -> None:
        labels = np.repeat([0, 1, 2], [2, 2, 2])
        counts = histogram_of(labels, checked_split(KLabels(2), labels, 3, rng_of(0)), 3)
        assert np.sort(counts, axis=1).tolist() == [[0, 1, 1]] * 3

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"k": 0}, "k must be at least 1 class, not 0"),
            ({"max_retries": -1}, "max_retries must be 0 or more, not -1"),
            ({"min_size": 0}, "min_size must be at least 1, not 0"),
        ],
    )
    def test_hyper_parameters_are_checked(self, wrong: dict[str, int], message: str) -> None:
        with pytest.raises(PartitionError, match=message):
            KLabels(**wrong)


class TestShards:
    def test_the_papers_split_gives_most_clients_two_classes(self) -> None:
        labels = np.repeat(np.arange(10), 600)  # a tenth of its 60,000 digits
        counts = histogram_of(labels, checked_split(Shards(), labels, 100, rng_of(0)), 10)
        assert set(counts.ravel().tolist()) <= {0, 30, 60}
        assert (counts.sum(axis=1) == 60).all()
        assert set((counts > 0).sum(axis=1).tolist()) == {1, 2}

    @BOUNDED
    @given(requests("shards"))
    def test_few_classes_a_client_and_equal_sizes(self, request: tuple[Shards, IntArray, int, int]) -> None:
        partition, labels, n_clients, seed = request
        split = checked_split(partition, labels, n_clients, rng_of(seed))
        n_classes, each = int(labels.max()) + 1, partition.shards_per_client
        # A border between two classes adds a class to one shard at most.
        assert (histogram_of(labels, split, n_classes) > 0).sum() <= n_clients * each + n_classes - 1
        shard = len(labels) / (n_clients * each)
        assert all(each * math.floor(shard) <= len(part) <= each * math.ceil(shard) for part in split)

    def test_shards_are_dealt_at_random(self) -> None:
        rng, alike = rng_of(5), 0
        for _ in range(500):
            alike += int((histogram_of(BALANCED, Shards().split(BALANCED, 10, rng), 10) == 450).sum())
        # Of the 19 other shards one is of the same class.
        assert alike / (500 * 10) == pytest.approx(1 / 19, abs=0.013)  # 4 standard errors

    def test_more_shards_than_samples_are_an_error_with_numbers(self) -> None:
        with pytest.raises(PartitionError, match="8 clients of shards_per_client=3 need 24 samples; there are 20"):
            checked_split(Shards(3), np.arange(20) % 2, 8, rng_of(0))
        with pytest.raises(PartitionError, match="shards_per_client must be at least 1, not 0"):
            Shards(0)


def listwise_quantity(n_samples: int, n: int, beta: float, rng: np.random.Generator) -> list[list[int]]:
    """The rule in the shape of the original script: draw until everyone has ten, then cut a shuffled row."""
    sizes = [0]
    while min(sizes) < 10:
        stops = [int(reached * n_samples) for reached in np.cumsum(rng.dirichlet([beta] * n))[:-1]] + [n_samples]
        sizes = [stop - start for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
    row = rng.permutation(n_samples).tolist()
    return [row[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)]


class TestQuantity:
    @pytest.mark.parametrize(("beta", "n_clients"), [(0.1, 5), (0.5, 5), (0.5, 10), (3.0, 20)])
    def test_equals_the_rule_written_the_slow_way(self, beta: float, n_clients: int) -> None:
        split = checked_split(Quantity(beta), BALANCED, n_clients, rng_of(7))
        slow = listwise_quantity(len(BALANCED), n_clients, beta, rng_of(7))
        assert [part.tolist() for part in split] == slow

    @pytest.mark.parametrize(("beta", "n_clients"), [(2.0, 5), (10.0, 5), (4.0, 2)])
    def test_shares_are_dirichlets(self, beta: float, n_clients: int) -> None:
        rng, draws, labels = rng_of(1), 3000, np.zeros(2000, dtype=np.int64)
        partition = Quantity(beta, min_size=1)
        shares = (
            np.array([[len(part) for part in partition.split(labels, n_clients, rng)] for _ in range(draws)]) / 2000
        )
        mean = 1 / n_clients
        variance = mean * (1 - mean) / (n_clients * beta + 1)
        assert shares.mean(axis=0) == pytest.approx(np.full(n_clients, mean), abs=4 * math.sqrt(variance / draws))
        assert shares.var(axis=0) == pytest.approx(np.full(n_clients, variance), rel=0.12)
        for client in range(n_clients):  # a share of Dir(beta, ..., beta) is Beta(beta, (n - 1) beta)
            assert kstest(shares[:, client], "beta", args=(beta, (n_clients - 1) * beta)).pvalue > 1e-3

    def test_every_client_has_the_global_mix_but_for_chance(self) -> None:
        rng, scaled = rng_of(2), []
        for _ in range(300):
            counts = histogram_of(BALANCED, Quantity(1.0).split(BALANCED, 5, rng), 10)
            sizes = counts.sum(axis=1, keepdims=True)
            chi2 = ((counts - sizes / 10) ** 2 / (sizes / 10)).sum(axis=1)
            scaled += (chi2 * (4500 - 1) / (4500 - sizes[:, 0])).tolist()
        # Without replacement the mean of chi squared is (K - 1)(N - s) / (N - 1).
        assert np.mean(scaled) == pytest.approx(9, abs=4 * math.sqrt(18 / len(scaled)))

    def test_large_beta_makes_equal_sizes(self) -> None:
        sizes = [len(part) for part in checked_split(Quantity(1e8), BALANCED, 10, rng_of(0))]
        assert max(sizes) - min(sizes) <= 2

    @BOUNDED
    @given(beta=st.sampled_from([5e-324, 1e-300, 1e-8, 0.01, 1e300, 1.7e308]), seed=st.integers(0, 2**32))
    def test_extreme_beta_ends_in_a_split_or_an_error(self, beta: float, seed: int) -> None:
        partition = Quantity(beta, max_retries=5)
        with np.errstate(divide="raise", invalid="raise"):
            if beta < 1:
                with pytest.raises(PartitionError, match=f"none of 6 draws at beta={beta}, n_clients=10 gave every"):
                    checked_split(partition, BALANCED, 10, rng_of(seed))
            else:
                assert {len(part) for part in checked_split(partition, BALANCED, 10, rng_of(seed))} <= {449, 450, 451}

    def test_small_beta_is_found_all_the_same(self) -> None:
        split = checked_split(Quantity(0.1), BALANCED, 10, rng_of(0))  # one draw in 5,700 does
        assert min(map(len, split)) >= 10

    def test_giving_up_says_why(self) -> None:
        with pytest.raises(PartitionError) as caught:
            Quantity(0.1, max_retries=2).split(BALANCED, 50, rng_of(0))
        assert str(caught.value) == (
            "Quantity: none of 3 draws at beta=0.1, n_clients=50 gave every client 10 of the 4500 samples; the smallest "
            "client of the best draw held 0. Raise beta or max_retries, or lower n_clients or min_size"
        )

    @pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
    def test_beta_is_finite_and_positive(self, beta: float) -> None:
        with pytest.raises(PartitionError, match="beta must be finite and greater than 0"):
            Quantity(beta)


class TestFeatureNoise:
    def test_variance_grows_evenly_to_sigma(self) -> None:
        levels = FeatureNoise(sigma=0.1).noise_levels(4)
        assert [level**2 for level in levels] == pytest.approx([0.025, 0.05, 0.075, 0.1])
        assert FeatureNoise(sigma=0.04).noise_levels(1) == pytest.approx([0.2])

    @BOUNDED
    @given(requests("feature-noise"))
    def test_splits_as_iid_does(self, request: tuple[FeatureNoise, IntArray, int, int]) -> None:
        partition, labels, n_clients, seed = request
        split = checked_split(partition, labels, n_clients, rng_of(seed))
        assert partition_digest(split) == partition_digest(checked_split(IID(), labels, n_clients, rng_of(seed)))

    @pytest.mark.parametrize("sigma", [-0.1, math.inf, math.nan])
    def test_sigma_is_finite_and_not_negative(self, sigma: float) -> None:
        with pytest.raises(PartitionError, match="sigma must be finite and 0 or more"):
            FeatureNoise(sigma)


def grey(n: int, level: int = 128) -> torch.Tensor:
    return torch.full((n, 1, 32, 32), level, dtype=torch.uint8)


class TestNoise:
    def test_has_each_clients_level_and_no_mean(self) -> None:
        split, levels = [np.arange(200), np.arange(200, 400), np.arange(400, 600)], [0.02, 0.05, 0.1]
        change = add_noise(grey(600), split, levels, rng_of(0)).double() - 128
        for part, level in zip(split, levels, strict=True):
            own = change[part]
            # Rounding adds the variance 1/12 of a uniform draw.
            assert own.std().item() == pytest.approx(math.sqrt((255 * level) ** 2 + 1 / 12), rel=0.01)
            assert own.mean().item() == pytest.approx(0, abs=4 * 255 * level / math.sqrt(own.numel()))

    def test_is_independent_from_image_to_image_and_pixel_to_pixel(self) -> None:
        change = add_noise(grey(2100), [np.arange(2100)], [0.1], rng_of(0)).double().flatten(1) - 128
        scaled = change / change.std()
        for other in (1, 1024, 2048):  # what is drawn at once must not come again
            assert (scaled[:-other] * scaled[other:]).mean().item() == pytest.approx(0, abs=0.02)
        assert (scaled[:, :-1] * scaled[:, 1:]).mean().item() == pytest.approx(0, abs=0.01)

    @pytest.mark.parametrize("level", [0.05, 0.3])
    def test_is_clipped_to_what_pixels_can_be(self, level: float) -> None:
        images = torch.cat([grey(100, 0), grey(100, 255)])
        noisy = add_noise(images, [np.arange(200)], [level], rng_of(0)).double() / 255
        black, white = noisy[:100], 1 - noisy[100:]
        expected = level / math.sqrt(2 * math.pi)
        if level == 0.3:  # E max(0, s z) above 1 is cut off: s phi(1/s) - (1 - Phi(1/s))
            expected -= level * norm.pdf(1 / level) - norm.sf(1 / level)
        for pixels in (black, white):
            assert pixels.mean().item() == pytest.approx(expected, rel=0.02)
            assert (pixels == 0).double().mean().item() == pytest.approx(norm.cdf(0.5 / 255 / level), abs=0.01)
            assert pixels.max() <= 1

    @BOUNDED
    @given(data=st.data(), seed=st.integers(0, 2**32))
    def test_of_an_image_follows_from_its_index_and_its_clients_level(self, data: st.DataObject, seed: int) -> None:
        images = torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        owners = np.array(data.draw(st.lists(st.integers(0, 2), min_size=12, max_size=12)))
        split = [rng_of(seed).permutation(np.flatnonzero(owners == client)) for client in range(3)]
        first = add_noise(images, split, [0.1, 0.0, 0.3], rng_of(seed))
        turned = add_noise(images, [part[::-1] for part in reversed(split)], [0.3, 0.0, 0.1], rng_of(seed))
        assert torch.equal(first, turned)
        others = add_noise(images, split, [0.1, 0.2, 0.0], rng_of(seed))
        assert torch.equal(first[split[0]], others[split[0]])
        assert torch.equal(first[split[1]], images[split[1]])
        assert torch.equal(others[split[2]], images[split[2]])

    def test_leaves_the_given_images_alone(self) -> None:
        images = grey(8)
        noisy = add_noise(images, [np.arange(8)], [0.2], rng_of(0))
        assert torch.equal(images, grey(8))
        assert (noisy.dtype, noisy.shape) == (torch.uint8, images.shape)
        assert not torch.equal(noisy, images)
        assert add_noise(images, [np.arange(8)], [0.0], rng_of(0)) is images
        assert add_noise(images, [np.arange(8)], FeatureNoise(0.0).noise_levels(1), rng_of(0)) is images

    def test_wrong_input_is_an_error(self) -> None:
        with pytest.raises(PartitionError, match=r"added to uint8 images, not to torch\.float32"):
            add_noise(grey(2).float(), [np.arange(2)], [0.1], rng_of(0))
        with pytest.raises(PartitionError, match="2 noise levels for 1 clients"):
            add_noise(grey(2), [np.arange(2)], [0.1, 0.1], rng_of(0))
        for level in (-0.1, math.nan, math.inf):
            with pytest.raises(PartitionError, match="noise level of client 0 must be finite and 0 or more"):
                add_noise(grey(2), [np.arange(2)], [level], rng_of(0))
            with pytest.raises(PartitionError, match="noise level of client 0 must be finite and 0 or more"):
                skew_report(np.array([0, 1]), [np.arange(2)], 2, [level])

    def test_stands_in_the_report_and_is_zero_unless_given(self) -> None:
        labels, split = np.array([0, 1, 0]), [np.array([0]), np.array([1, 2])]
        assert skew_report(labels, split, 2).noise == (0.0, 0.0)
        assert skew_report(labels, split, 2, [0.1, 0.2]).as_dict()["noise"] == [0.1, 0.2]


DIRICHLET: dict[str, Any] = {"alpha": 0.5, "min_partition_size": 5}
THEIRS: list[tuple[str, dict[str, Any], int]] = [
    ("IidPartitioner", {}, 7),
    ("LinearPartitioner", {}, 5),
    ("DirichletPartitioner", DIRICHLET, 5),
    ("DirichletPartitioner", DIRICHLET | {"self_balancing": True, "seed": 3}, 5),
    ("ShardPartitioner", {"num_shards_per_partition": 2}, 5),
    ("PathologicalPartitioner", {"num_classes_per_partition": 2, "class_assignment_mode": "deterministic"}, 10),
    ("SizePartitioner", {"partition_sizes": [200, 150, 100]}, 3),
    ("NaturalIdPartitioner", {}, 10),
]
# A partitioner that draws from the global generators and shows a bar, as other people's may.
GLOBAL = """
import random
import sys
import warnings
import numpy as np
from flwr_datasets.partitioner import Partitioner

class Careless(Partitioner):
    def __init__(self, num_partitions):
        super().__init__()
        self._parts = num_partitions

    def load_partition(self, partition_id):
        if partition_id == 0:
            self.order = np.random.permutation(len(self.dataset)).tolist()
            random.shuffle(self.order)
            print("100%|####|", file=sys.stderr)
            warnings.warn("careless", stacklevel=1)
        return self.dataset.select(self.order[partition_id :: self._parts])

    @property
    def num_partitions(self):
        return self._parts
"""


@pytest.fixture
def careless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "careless_partitions.py").write_text(GLOBAL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "careless_partitions", raising=False)
    return "careless_partitions:Careless"


@needs_flower
class TestFlower:
    @pytest.mark.parametrize(("name", "options", "n_clients"), THEIRS)
    def test_equals_the_partitioner_called_directly(self, name: str, options: dict[str, Any], n_clients: int) -> None:
        import datasets
        from flwr_datasets import partitioner as theirs

        labels = BALANCED[::10]
        split = checked_split(Flower(name, options), labels, n_clients, rng_of(4))
        replayed = rng_of(4)
        order, seed = replayed.permutation(len(labels)), int(replayed.integers(2**32))
        takes = {
            "IidPartitioner": {"num_partitions": n_clients},
            "LinearPartitioner": {"num_partitions": n_clients},
            "SizePartitioner": {},
            "NaturalIdPartitioner": {"partition_by": "label"},
        }.get(name, {"num_partitions": n_clients, "partition_by": "label", "seed": seed})
        direct = getattr(theirs, name)(**takes | options)
        direct.dataset = datasets.Dataset.from_dict({"label": labels[order].tolist()})
        assert [labels[part].tolist() for part in split] == [
            list(direct.load_partition(client)["label"]) for client in range(n_clients)
        ]

    def test_shuffles_as_flower_does_before_it_splits(self) -> None:
        report = skew_report(BALANCED, checked_split(IID_OF_FLOWER, BALANCED, 5, rng_of(0)), 10)
        assert max(report.total_variation) < 0.1

    def test_foreign_code_leaves_no_trace(self, careless: str, capfd: pytest.CaptureFixture[str], recwarn: Any) -> None:
        digests = []
        for of_the_process in (1, 2):
            np.random.seed(of_the_process)  # noqa: NPY002
            random.seed(of_the_process)
            before = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
            digests.append(partition_digest(checked_split(Flower(careless), BALANCED, 3, rng_of(0))))
            assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # type: ignore[index]  # noqa: NPY002
        assert digests[0] == digests[1]
        assert digests[0] != partition_digest(checked_split(Flower(careless), BALANCED, 3, rng_of(1)))
        assert capfd.readouterr() == ("", "")
        assert [str(warning.message) for warning in recwarn if "careless" in str(warning.message)] == []

    def test_shows_no_progress_bar(self, capfd: pytest.CaptureFixture[str]) -> None:
        checked_split(Flower("NaturalIdPartitioner"), BALANCED, 10, rng_of(0))
        assert capfd.readouterr() == ("", "")

    def test_a_list_of_lists_is_an_array(self) -> None:
        options = {
            "distribution_array": [[3.0, 1.0]] * 10,
            "num_unique_labels_per_partition": 2,
            "preassigned_num_samples_per_label": 5,
        }
        counts = histogram_of(
            BALANCED, checked_split(Flower("DistributionPartitioner", options), BALANCED, 10, rng_of(0)), 10
        )
        # 5 to each of a class's two holders, the other 440 in the ratio 3 to 1.
        assert np.sort(counts, axis=0)[-2:].tolist() == [[115] * 10, [335] * 10]

    @pytest.mark.parametrize(
        ("name", "options", "n_clients", "message"),
        [
            (
                "DirichletPartitoner",
                {},
                5,
                r"no Flower partitioner 'DirichletPartitoner' \(did you mean 'DirichletPart",
            ),
            ("Partitioner", {}, 5, "no Flower partitioner 'Partitioner'.*allowed: ContinuousPartitioner, Dirichlet"),
            ("json:JSONDecoder", {}, 5, "'json:JSONDecoder' is not a subclass of flwr_datasets"),
            ("no_such_package:Thing", {}, 5, "no module 'no_such_package' on the import path"),
            ("DirichletPartitioner", {}, 5, r"needs the option 'alpha': options = \{alpha = \.\.\.\}"),
            (
                "DirichletPartitioner",
                {"alhpa": 1},
                5,
                "unknown option 'alhpa'; allowed: num_partitions, partition_by, a",
            ),
            ("DirichletPartitioner", {"alpha": -1.0}, 5, "DirichletPartitioner: ValueError: Alpha values should be"),
            ("DirichletPartitioner", {"alpha": 1.0, "num_partitions": 3}, 5, "num_partitions=3 for 5 clients"),
            ("DirichletPartitioner", {"alpha": 1.0, "partition_by": "user"}, 5, r"Column \(user\) not in .*'label'"),
            ("ShardPartitioner", {}, 5, "ShardPartitioner: ValueError: The shard_size needs to be specified"),
            ("ShardPartitioner", {"num_shards_per_partition": 2}, 7, "not complete: 6 of 4500 samples are given to no"),
            ("NaturalIdPartitioner", {}, 5, "Flower made 10 clients; 5 were asked for"),
            ("VerticalEvenPartitioner", {}, 5, "VerticalEvenPartitioner: ValueError"),
        ],
    )
    def test_what_cannot_be_is_an_error_that_names_what_there_is(
        self, name: str, options: dict[str, Any], n_clients: int, message: str
    ) -> None:
        with pytest.raises(PartitionError, match=message):
            checked_split(Flower(name, options), BALANCED, n_clients, rng_of(0))

    def test_comes_out_of_a_grid_as_it_went_in(self) -> None:
        options = {"alpha": 0.5, "self_balancing": True}
        for text in (
            'flower(partitioner="DirichletPartitioner", options={alpha=0.5, self_balancing=true})',
            '{name="flower", partitioner="DirichletPartitioner", options={alpha=0.5, self_balancing=true}}',
        ):
            cells = load_grid("smoke", [f"partition={text}", "n_clients=5"]).cells
            made = [cell.make_partition() for cell in cells if cell.partition is not None]
            assert made == [Flower("DirichletPartitioner", options)] * len(made) != []


class TestFlowerWithoutFlower:
    def test_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("flwr_datasets", "datasets"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(PartitionError, match=r"needs Flower Datasets.*pip install -e '\.\[flower\]'"):
            checked_split(IID_OF_FLOWER, BALANCED, 5, rng_of(0))

    def test_survives_json(self) -> None:
        partition = Flower(
            "DirichletPartitioner", {"alpha": [0.1, 0.2], "self_balancing": True, "nested": {"a": [[1]]}}
        )
        assert Flower(**json.loads(json.dumps(asdict(partition)))) == partition

    @pytest.mark.parametrize("options", [{"alpha": math.inf}, {"alpha": np.ones(3)}, {"alpha": (1, 2)}, {1: 2}])
    def test_options_are_what_json_holds(self, options: dict[Any, Any]) -> None:
        with pytest.raises(PartitionError, match="options must be a table of numbers, texts, booleans and lists"):
            Flower("DirichletPartitioner", options)
