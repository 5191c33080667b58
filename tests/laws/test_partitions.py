"""Laws every split obeys, and what the Dirichlet rules are known to do."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

import partitions
from partitions.base import IntArray, Partition, PartitionError, checked_split, partition_digest
from partitions.dirichlet import Dirichlet
from partitions.dirichlet_plain import DirichletPlain
from partitions.iid import IID
from partitions.report import skew_report

BOUNDED = settings(max_examples=50, deadline=None)
MNIST_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
SMALL_MNIST = np.repeat(np.arange(10), np.array(MNIST_COUNTS) // 10)  # the statistics do not depend on the scale

label_arrays = st.tuples(st.lists(st.integers(20, 90), min_size=1, max_size=6), st.integers(0, 99)).map(
    lambda drawn: np.random.default_rng(drawn[1]).permutation(np.repeat(np.arange(len(drawn[0])), drawn[0]))
)
kinds = st.sampled_from([IID(), Dirichlet(0.5, min_size=3), DirichletPlain(0.5, min_size=3), Dirichlet(5.0)])


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def mean_over_draws(partition: Partition, n_clients: int, draws: int) -> tuple[float, float]:
    """Mean size coefficient of variation and mean total variation of splits of `SMALL_MNIST`."""
    rng = rng_of(11)
    reports = [skew_report(SMALL_MNIST, partition.split(SMALL_MNIST, n_clients, rng), 10) for _ in range(draws)]
    return (
        float(np.mean([report.size_cv for report in reports])),
        float(np.mean([report.total_variation_mean for report in reports])),
    )


def listwise_labeldir(labels: IntArray, n: int, beta: float, balance: bool, rng: np.random.Generator) -> list[IntArray]:
    """The rule in the shape of the original script: lists, full-length shares, a loop until everyone has ten."""
    total = len(labels)
    smallest = 0
    while smallest < 10:
        batches: list[list[int]] = [[] for _ in range(n)]
        for label in sorted({int(label) for label in labels}):
            members = np.array([i for i, other in enumerate(labels) if other == label])
            rng.shuffle(members)
            shares = rng.dirichlet([beta] * n)
            takes = [not balance or len(batch) < total / n for batch in batches]
            shares = np.array([share * take for share, take in zip(shares, takes, strict=True)])
            stops = [int(len(members) * reached) for reached in np.cumsum(shares / shares.sum())]
            last = max(client for client in range(n) if takes[client])
            for client in range(n):
                start = stops[client - 1] if client else 0
                if takes[client]:
                    batches[client] += [
                        int(i) for i in members[start : len(members) if client == last else stops[client]]
                    ]
        smallest = min(len(batch) for batch in batches)
    shuffled = [np.array(batch) for batch in batches]
    for batch in shuffled:
        rng.shuffle(batch)
    return shuffled


class TestEverySplit:
    @BOUNDED
    @given(labels=label_arrays, partition=kinds, n_clients=st.integers(1, 2), seed=st.integers(0, 2**32))
    def test_is_disjoint_complete_and_large_enough(
        self, labels: IntArray, partition: Partition, n_clients: int, seed: int
    ) -> None:
        split = checked_split(partition, labels, n_clients, rng_of(seed))
        assert sorted(np.concatenate(split).tolist()) == list(range(len(labels)))
        assert len(split) == n_clients
        assert min(len(part) for part in split) >= partition.min_size

    @BOUNDED
    @given(labels=label_arrays, partition=kinds, seed=st.integers(0, 2**32))
    def test_follows_from_the_seed(self, labels: IntArray, partition: Partition, seed: int) -> None:
        first, second = (checked_split(partition, labels, 2, rng_of(seed)) for _ in range(2))
        assert partition_digest(first) == partition_digest(second)
        assert partition_digest(first) != partition_digest(checked_split(partition, labels, 2, rng_of(seed + 1)))

    @BOUNDED
    @given(labels=label_arrays, partition=kinds, seed=st.integers(0, 2**32))
    def test_does_not_read_the_names_of_classes(self, labels: IntArray, partition: Partition, seed: int) -> None:
        renamed = 7 * labels + 3
        assert partition_digest(checked_split(partition, labels, 2, rng_of(seed))) == partition_digest(
            checked_split(partition, renamed, 2, rng_of(seed))
        )

    @BOUNDED
    @given(order=st.permutations(list(range(10))), seed=st.integers(0, 2**32))
    def test_permuted_class_names_leave_the_skew(self, order: list[int], seed: int) -> None:
        renamed = np.array(order)[SMALL_MNIST]
        assert max(skew_report(renamed, IID().split(renamed, 5, rng_of(seed)), 10).total_variation) < 0.1
        report = skew_report(renamed, Dirichlet(100.0).split(renamed, 5, rng_of(seed)), 10)
        assert report.total_variation_mean < 0.06

    def test_leaves_the_global_generator_alone(self) -> None:
        before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
        for partition in (IID(), Dirichlet(0.1), DirichletPlain(0.1)):
            checked_split(partition, SMALL_MNIST, 5, rng_of(0))
        assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002

    @pytest.mark.parametrize("partition", [IID(), Dirichlet(0.01), DirichletPlain(0.01)])
    def test_one_client_gets_everything(self, partition: Partition) -> None:
        (only,) = checked_split(partition, SMALL_MNIST, 1, rng_of(0))
        assert len(only) == len(SMALL_MNIST)

    @pytest.mark.parametrize("partition", [IID(min_size=10), Dirichlet(1.0), DirichletPlain(1.0)])
    def test_too_many_clients_is_an_error_at_once(self, partition: Partition) -> None:
        with pytest.raises(PartitionError, match="11 clients of at least 10 samples need 110 samples; there are 109"):
            checked_split(partition, np.arange(109) % 10, 11, rng_of(0))

    @pytest.mark.parametrize("n_clients", [0, -1])
    def test_no_clients_is_an_error(self, n_clients: int) -> None:
        with pytest.raises(PartitionError, match="n_clients must be at least 1"):
            Dirichlet(1.0).split(SMALL_MNIST, n_clients, rng_of(0))

    @pytest.mark.parametrize("labels", [np.zeros(50), np.zeros((50, 1), dtype=np.int64)])
    def test_labels_are_a_row_of_integers(self, labels: IntArray) -> None:
        with pytest.raises(PartitionError, match="1-D integer"):
            checked_split(IID(), labels, 2, rng_of(0))


def test_iid_parts_differ_by_at_most_one_sample() -> None:
    sizes = [len(part) for part in checked_split(IID(), SMALL_MNIST, 7, rng_of(0))]
    assert max(sizes) - min(sizes) <= 1


class TestDirichlet:
    @BOUNDED
    @given(
        labels=label_arrays,
        beta=st.sampled_from([0.2, 0.5, 1.0, 10.0]),
        n_clients=st.integers(1, 2),
        balance=st.booleans(),
        seed=st.integers(0, 2**32),
    )
    def test_equals_the_rule_written_the_slow_way(
        self, labels: IntArray, beta: float, n_clients: int, balance: bool, seed: int
    ) -> None:
        kind = Dirichlet if balance else DirichletPlain
        split = kind(beta).split(labels, n_clients, rng_of(seed))
        slow = listwise_labeldir(labels, n_clients, beta, balance, rng_of(seed))
        assert partition_digest(split) == partition_digest(slow)

    @pytest.mark.parametrize("balance", [True, False])
    @pytest.mark.parametrize(("beta", "n_clients"), [(0.1, 3), (0.1, 10), (0.5, 5), (0.5, 20), (100.0, 5)])
    def test_equals_the_slow_rule_on_digits(self, beta: float, n_clients: int, balance: bool) -> None:
        kind = Dirichlet if balance else DirichletPlain
        split = kind(beta).split(SMALL_MNIST, n_clients, rng_of(5))
        slow = listwise_labeldir(SMALL_MNIST, n_clients, beta, balance, rng_of(5))
        assert partition_digest(split) == partition_digest(slow)

    @pytest.mark.parametrize("seed", range(5))
    def test_large_beta_is_the_global_mix(self, seed: int) -> None:
        labels = np.repeat(np.arange(10), MNIST_COUNTS)
        for kind in (Dirichlet, DirichletPlain):
            report = skew_report(labels, checked_split(kind(100.0), labels, 5, rng_of(seed)), 10)
            assert report.total_variation_mean < 0.05

    def test_small_beta_gives_a_class_to_about_one_client(self) -> None:
        report = skew_report(SMALL_MNIST, checked_split(Dirichlet(0.01), SMALL_MNIST, 3, rng_of(0)), 10)
        largest_share = np.array(report.histogram).max(axis=0) / np.array(report.histogram).sum(axis=0)
        assert largest_share.mean() > 0.9

    @BOUNDED
    @given(
        beta=st.sampled_from([5e-324, 1e-300, 1e-8, 0.001, 0.01, 1e300, 1.7e308]),
        n_clients=st.sampled_from([3, 5]),
        seed=st.integers(0, 2**32),
        kind=st.sampled_from([Dirichlet, DirichletPlain]),
    )
    def test_extreme_beta_ends_in_a_split_or_an_error(
        self, beta: float, n_clients: int, seed: int, kind: Callable[..., Partition]
    ) -> None:
        partition = kind(beta, max_retries=20)
        with np.errstate(divide="raise", invalid="raise"):
            try:
                split = checked_split(partition, SMALL_MNIST, n_clients, rng_of(seed))
            except PartitionError as error:
                message = str(error)
            else:
                message = ""
                assert min(len(part) for part in split) >= 10
        assert not message or f"beta={beta}, n_clients={n_clients}" in message

    @pytest.mark.parametrize("beta", [0.001, 0.01, 0.05])
    def test_a_class_is_not_spread_evenly_where_the_mass_underflows(self, beta: float) -> None:
        partition, rng, labels = Dirichlet(beta), rng_of(0), SMALL_MNIST
        classes = [np.flatnonzero(labels == label) for label in range(10)]
        draws = [partition._draw(classes, 3, rng) for _ in range(200)]
        counts = np.array([[np.bincount(labels[part], minlength=10) for part in parts] for parts in draws])
        largest_share = counts.max(axis=1) / counts.sum(axis=1)
        # E[max] of Dir(beta) over 2 or 3 clients; equal spreading would put a visible number of classes at 1/2.
        assert (largest_share < 0.6).mean() < 2.5 * beta

    @pytest.mark.parametrize("seed", range(10))
    def test_a_client_at_the_mean_size_is_full(self, seed: int) -> None:
        labels = np.repeat([0, 1], 30)
        # One client takes class 0 whole, N/n samples, so the first draw gives class 1 to the other.
        split = Dirichlet(1e-8, max_retries=0).split(labels, 2, rng_of(seed))
        assert sorted(labels[part].tolist() for part in split) == [[0] * 30, [1] * 30]

    @pytest.mark.parametrize("beta", [0.0, -0.1, math.inf, -math.inf, math.nan])
    @pytest.mark.parametrize("kind", [Dirichlet, DirichletPlain])
    def test_beta_is_finite_and_positive(self, kind: Callable[..., Partition], beta: float) -> None:
        with pytest.raises(PartitionError, match="beta must be finite and greater than 0"):
            kind(beta)

    def test_other_parameters_are_checked(self) -> None:
        with pytest.raises(PartitionError, match="min_size"):
            Dirichlet(1.0, min_size=0)
        with pytest.raises(PartitionError, match="max_retries"):
            Dirichlet(1.0, max_retries=-1)

    def test_giving_up_says_why(self) -> None:
        labels = np.repeat(np.arange(10), MNIST_COUNTS)
        with pytest.raises(PartitionError) as caught:
            Dirichlet(0.01, max_retries=3).split(labels, 50, rng_of(0))
        message = str(caught.value)
        assert "none of 4 draws at beta=0.01, n_clients=50" in message
        assert "gave every client 10 of the 60000 samples" in message
        assert "the smallest client of the best draw held 0" in message

    def test_giving_up_names_the_best_of_all_draws(self) -> None:
        labels = np.repeat([0, 1, 2], 23)
        partition, replayed = Dirichlet(0.5, min_size=34, max_retries=10), rng_of(6)
        classes = [np.flatnonzero(labels == label) for label in range(3)]
        smallest = [min(len(part) for part in partition._draw(classes, 2, replayed)) for _ in range(11)]
        assert max(smallest[:-1]) > smallest[-1]
        with pytest.raises(PartitionError, match=f"best draw held {max(smallest)}"):
            partition.split(labels, 2, rng_of(6))

    @pytest.mark.parametrize(
        ("beta", "n_clients", "rejected", "tolerance"), [(0.05, 50, 0.95, 0.06), (0.1, 50, 0.24, 0.1)]
    )
    def test_share_of_draws_thrown_away(self, beta: float, n_clients: int, rejected: float, tolerance: float) -> None:
        labels = np.repeat(np.arange(10), MNIST_COUNTS)
        partition, rng = Dirichlet(beta, max_retries=0), rng_of(3)
        failures = 0
        for _ in range(150):
            try:
                partition.split(labels, n_clients, rng)
            except PartitionError:
                failures += 1
        assert failures / 150 == pytest.approx(rejected, abs=tolerance)

    @pytest.mark.parametrize(
        ("beta", "n_clients", "with_rule", "without"),
        [(0.1, 5, 0.28, 0.49), (0.1, 10, 0.44, 0.65), (0.5, 5, 0.185, 0.315), (0.5, 10, 0.246, 0.376)],
    )
    def test_size_variation(self, beta: float, n_clients: int, with_rule: float, without: float) -> None:
        assert mean_over_draws(Dirichlet(beta), n_clients, 300)[0] == pytest.approx(with_rule, abs=0.025)
        assert mean_over_draws(DirichletPlain(beta), n_clients, 300)[0] == pytest.approx(without, abs=0.035)

    @pytest.mark.parametrize(
        ("beta", "with_rule", "without"), [(0.1, 0.67, 0.64), (0.5, 0.456, 0.412), (1, 0.353, 0.314), (5, 0.166, 0.149)]
    )
    def test_label_skew(self, beta: float, with_rule: float, without: float) -> None:
        assert mean_over_draws(Dirichlet(beta), 5, 300)[1] == pytest.approx(with_rule, abs=0.012)
        assert mean_over_draws(DirichletPlain(beta), 5, 300)[1] == pytest.approx(without, abs=0.012)


@dataclass(frozen=True)
class Broken(Partition):
    """Hands out a fixed split, right or wrong."""

    parts: tuple[tuple[int, ...], ...]
    dtype: str = "int64"

    def split(self, labels: IntArray, n_clients: int, rng: np.random.Generator) -> list[IntArray]:
        return [np.array(part, dtype=self.dtype) for part in self.parts]


class TestCheckedSplit:
    @pytest.mark.parametrize(
        ("partition", "message"),
        [
            (Broken(((0, 1, 2), (2, 3, 4, 5))), "not disjoint: 1 samples are given more than once, the first is 2"),
            (Broken(((0, 1, 2), (3, 5))), "not complete: 1 of 6 samples are given to no client, the first is 4"),
            (Broken(((0, 1, 2, 3, 4), (5,)), min_size=2), "client 1 holds 1 samples; the minimum is 2"),
            (Broken(((), (0, 1, 2, 3, 4, 5))), "client 0 holds 0 samples; the minimum is 1"),
            (Broken(((0, 1, 2, 3, 4, 5),)), "made 1 clients; 2 were asked for"),
            (Broken(((0, 1, 2), (3, 4, 6))), r"index 6 lies outside 0\.\.5"),
            (Broken(((0, 1, 2), (3, 4, -1))), r"index -1 lies outside 0\.\.5"),
            (Broken(((0, 1, 2), (3, 4, 5)), dtype="float64"), "client 0 is not a 1-D integer array"),
        ],
    )
    def test_refuses_what_is_no_partition(self, partition: Partition, message: str) -> None:
        with pytest.raises(PartitionError, match=f"Broken.*{message}"):
            checked_split(partition, np.zeros(6, dtype=np.int64), 2, rng_of(0))

    def test_lets_a_right_one_through(self) -> None:
        split = checked_split(Broken(((3, 4, 5), (0, 1, 2)), dtype="int32"), np.zeros(6, dtype=np.int64), 2, rng_of(0))
        assert [part.tolist() for part in split] == [[3, 4, 5], [0, 1, 2]]
        assert {part.dtype for part in split} == {np.dtype(np.int64)}


def test_digest_tells_splits_apart() -> None:
    splits = [[[0, 1], [2]], [[0], [1, 2]], [[1, 0], [2]], [[2], [0, 1]], [[0, 1, 2]], [[0, 1], [2], []]]
    digests = {partition_digest([np.array(part, dtype=np.int64) for part in split]) for split in splits}
    assert len(digests) == len(splits)


class TestReport:
    def test_by_hand(self) -> None:
        labels = np.array([0, 0, 0, 1, 1, 1])
        report = skew_report(labels, [np.array([0, 1]), np.array([2, 3, 4, 5])], 3)
        assert report.sizes == (2, 4)
        assert report.histogram == ((2, 0, 0), (1, 3, 0))
        assert report.total_variation == pytest.approx((0.5, 0.25))
        assert report.total_variation_mean == pytest.approx(0.375)
        assert report.total_variation_weighted == pytest.approx(1 / 3)
        assert report.effective_classes[0] == pytest.approx(1.0)
        assert report.effective_classes[1] == pytest.approx(math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75)))
        assert report.size_cv == pytest.approx(1 / 3)

    def test_jensen_shannon_is_scipys(self) -> None:
        split = checked_split(Dirichlet(0.3), SMALL_MNIST, 5, rng_of(2))
        report = skew_report(SMALL_MNIST, split, 10)
        overall = np.bincount(SMALL_MNIST) / len(SMALL_MNIST)
        expected = [jensenshannon(np.array(row) / sum(row), overall, base=2) for row in report.histogram]
        assert report.jensen_shannon == pytest.approx(expected)

    @BOUNDED
    @given(labels=label_arrays, seed=st.integers(0, 2**32))
    def test_ranges(self, labels: IntArray, seed: int) -> None:
        n_classes = int(labels.max()) + 1
        report = skew_report(labels, IID().split(labels, 4, rng_of(seed)), n_classes)
        assert sum(report.sizes) == len(labels)
        assert all(0 <= value <= 1 for value in (*report.total_variation, *report.jensen_shannon))
        assert all(1 - 1e-9 <= value <= n_classes + 1e-9 for value in report.effective_classes)

    def test_one_client_has_no_skew(self) -> None:
        report = skew_report(SMALL_MNIST, IID().split(SMALL_MNIST, 1, rng_of(0)), 10)
        assert (report.total_variation_mean, report.size_cv) == (0.0, 0.0)
        assert report.jensen_shannon == pytest.approx((0.0,), abs=1e-7)

    def test_is_json(self) -> None:
        report = skew_report(SMALL_MNIST, Dirichlet(0.3).split(SMALL_MNIST, 5, rng_of(2)), 10)
        assert json.loads(json.dumps(report.as_dict(), allow_nan=False)) == report.as_dict()

    def test_wrong_input_is_an_error(self) -> None:
        with pytest.raises(PartitionError, match="labels lie in"):
            skew_report(np.array([0, 1, 2]), [np.array([0, 1, 2])], 2)
        with pytest.raises(PartitionError, match="each with a sample"):
            skew_report(np.array([0, 1]), [np.array([0, 1]), np.array([], dtype=np.int64)], 2)


def test_which_partitions_use_beta() -> None:
    uses = {name: partitions.load(name).uses_beta for name in ("iid", "dirichlet", "dirichlet-plain")}
    assert uses == {"iid": False, "dirichlet": True, "dirichlet-plain": True}
