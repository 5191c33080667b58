"""Personal models as a mixture: which client's model judges and draws which image."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.cell.diagnostics import DRAWS, diagnose, validation_by_group
from bench.federation import mixture
from bench.federation.mixture import Personal
from bench.federation.tasks import mean_error
from bench.fidelity.references import moments_by_class, statistics
from bench.fidelity.scores import client_fids, fid_of_mix, fid_spread, frechet_distance
from strategies.fedavg import FedAvg
from strategies.local_only import LocalOnly
from tests.laws.conftest import SIZES, finish, small_net


@given(sizes=st.lists(st.integers(1, 500), min_size=1, max_size=40), count=st.integers(1, 600))
def test_every_image_belongs_to_one_client_in_proportion_to_its_images(sizes, count):
    whose = mixture.assigned(sizes, count)
    counts = torch.bincount(whose, minlength=len(sizes)).double()
    exact = torch.tensor(sizes).double() * count / sum(sizes)
    assert counts.sum() == count
    assert ((counts - exact).abs() < 1).all()
    assert torch.equal(whose, mixture.assigned(sizes, count))


def test_a_clients_images_are_spread_over_all():
    whose = mixture.assigned([50, 50], 100)
    assert 15 < (whose[:50] == 0).sum() < 35


@given(n=st.integers(1, 2000))
def test_judged_clients_are_all_or_twenty_spread_evenly(n):
    judged = mixture.judged(n)
    assert len(judged) == min(n, mixture.MOST_JUDGED)
    assert judged == sorted(set(judged))
    assert judged[0] == 0
    assert judged[-1] == n - 1


def test_the_heldout_loss_of_personal_models_is_their_mixtures(make_training):
    run = make_training(LocalOnly(), rounds=2)
    *_, record = run.rounds()
    whose = mixture.assigned(SIZES, run.task.n_heldout)
    errors = []
    for weights in run.models():
        net = small_net()
        net.load_state_dict(weights)
        errors.append(run.task.heldout_errors(net))
    mixed = torch.stack(errors)[whose, torch.arange(len(whose))]
    torch.testing.assert_close(run.validation_errors, mixed, rtol=1e-6, atol=1e-9)
    assert record.validation_loss == record.validation_loss_raw == mean_error(run.validation_errors)
    assert len({tuple(e.tolist()) for e in errors}) == 3


def test_models_of_a_global_strategy_are_the_global_model(make_training):
    run = make_training(FedAvg(), rounds=1)
    params = finish(run)
    models = list(run.models())
    assert len(models) == 3
    assert all(model[name] is params[name] for model in models for name in params)


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
MIXES = np.array([[5, 0, 0], [0, 2, 2]])


@pytest.fixture
def task(task):
    """With classes."""
    return dataclasses.replace(task, heldout_labels=LABELS)


def personal_of(nets):
    return Personal([30, 10], lambda: iter([dict(net.state_dict()) for net in nets]))


def two_nets():
    first, second = small_net(), small_net()
    with torch.no_grad():
        for p in second.parameters():
            p.add_(0.05)
    return first, second


def test_clients_are_diagnosed_by_their_own_models(task):
    nets = two_nets()
    found = diagnose(task, small_net(), list("abc"), MIXES, personal_of(nets))
    alone = [diagnose(task, net, list("abc"), MIXES) for net in nets]
    assert found.client_loss == pytest.approx((alone[0].client_loss[0], alone[1].client_loss[1]))
    assert alone[0].client_loss[1] != pytest.approx(alone[1].client_loss[1])


def test_losses_by_class_of_personal_models_are_the_mixtures(task):
    nets = two_nets()
    found = diagnose(task, small_net(), list("abc"), MIXES, personal_of(nets))
    whose = mixture.assigned([30, 10], 10)
    errors = torch.zeros(10, dtype=torch.float64)
    for batch in task.heldout_batches(DRAWS):
        for number, net in enumerate(nets):
            mine = whose[batch.indices] == number
            with torch.no_grad():
                errors[batch.indices[mine]] += task.noise_errors(net.eval(), batch).double()[mine] / DRAWS
    for k, loss in enumerate(found.class_loss):
        assert loss == pytest.approx(errors[k == LABELS].mean().item(), rel=1e-5)


def test_clients_that_see_other_images_are_diagnosed_on_those(task):
    inverted = dataclasses.replace(task, heldout=255 - task.heldout)
    net = small_net()
    found = diagnose(task, net, list("abc"), MIXES, views=lambda number: (task, inverted)[number])
    plain, other = (diagnose(view, net, list("abc"), MIXES) for view in (task, inverted))
    assert found.client_loss == pytest.approx((plain.client_loss[0], other.client_loss[1]))
    assert found.class_loss == plain.class_loss


def test_a_rounds_groups_are_means_over_classes_and_mixes():
    errors = torch.tensor([1.0, 2.0, 3.0, 3.0], dtype=torch.float64)
    told = validation_by_group(errors, torch.tensor([0, 1, 1, 2]), np.array([[1, 1, 0, 0], [0, 0, 0, 4]]))
    assert told == {"class_loss": [1.0, 2.5, 3.0, None], "client_loss": [1.75, None]}
    assert validation_by_group(errors, torch.tensor([0, 1, 1, 2]), np.zeros((0, 4)))["client_loss"] == []


def features_of(seed, count=400, width=5):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_moments_of_the_datas_own_mix_are_its_mean_and_covariance():
    features, labels = features_of(0), torch.arange(400) % 3
    mean, covariance = moments_by_class(features, labels, 3).of_mix(np.bincount(labels.numpy()).astype(float))
    wanted = statistics(features)
    np.testing.assert_allclose(mean, wanted[0], atol=1e-12)
    np.testing.assert_allclose(covariance, wanted[1], atol=1e-12)


def test_moments_of_one_class_are_those_of_its_images():
    features, labels = features_of(1), torch.arange(400) % 4
    mean, covariance = moments_by_class(features, labels, 5).of_mix(np.array([0, 0, 7.0, 0, 0]))
    own = statistics(features[labels == 2])
    np.testing.assert_allclose(mean, own[0], atol=1e-12)
    np.testing.assert_allclose(covariance, own[1], atol=1e-12)


def test_moments_of_a_mix_are_those_of_images_repeated_in_its_shares():
    features, labels = features_of(2, 200), torch.arange(200) % 2
    mean, covariance = moments_by_class(features, labels, 2).of_mix(np.array([3.0, 1.0]))
    repeated = torch.cat([features[labels == 0].repeat(3, 1), features[labels == 1]])
    np.testing.assert_allclose(mean, repeated.mean(0), atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(repeated.T.numpy(), ddof=0), rtol=0.02)


def test_a_mix_with_a_class_nobody_has_is_refused():
    with pytest.raises(ValueError, match="a class of the mix has no image"):
        moments_by_class(features_of(0), torch.zeros(400, dtype=torch.long), 2).of_mix(np.array([1.0, 1.0]))


def test_clients_are_compared_with_shared_samples_or_with_their_own():
    shared, own = features_of(3, 300, 4).float(), features_of(4, 300, 4).float()
    logits = torch.zeros(300, 2)
    references = {0: statistics(features_of(5, 300, 4)), 2: statistics(1 + features_of(6, 300, 4))}
    by_shared = client_fids(dict.fromkeys(references, (shared, logits)), references)
    assert by_shared == {i: frechet_distance(statistics(shared), reference) for i, reference in references.items()}
    assert by_shared[2] > 3.5 > by_shared[0]
    by_own = client_fids({0: (own, logits), 2: (own + 1, logits)}, references)
    assert by_own[2] < 0.2
    told = fid_spread([1.0, 3.0], [0.5, 1.0])
    spread = {"fid_client_sd": 1.0, "fid_client_max": 3.0}
    assert told == {"fid_avg": 2.0, "fid_avg_floor": 0.75, "fid_avg_excess": 1.25} | spread
    assert fid_spread([], []) == {}


def test_images_of_a_clients_classes_are_weighted_to_its_shares():
    """Two classes far apart: a generator of both serves clients of either, and lacks what it does not draw."""
    classes = torch.arange(400) % 2
    features = features_of(7, 400, 3) + 5 * classes[:, None]
    logits = torch.nn.functional.one_hot(classes, 3).float()
    moments = moments_by_class(features.double(), classes, 3)

    def score(chosen, *mix):
        return fid_of_mix((features[chosen], logits[chosen]), np.array(mix), moments.of_mix(np.array(mix)))

    all_images = torch.ones(400, dtype=torch.bool)
    for mix in ((1.0, 0, 0), (3.0, 1, 0), (1.0, 1, 0)):
        assert score(all_images, *mix) == pytest.approx(0, abs=1e-6)
    assert score(classes == 0, 1.0, 0, 0) == pytest.approx(0, abs=1e-6)
    lost, half = score(classes == 0, 0, 1.0, 0), score(classes == 0, 1.0, 1.0, 0)
    assert lost == pytest.approx(3 * 25, rel=0.1)  # all images, of the other class
    assert 0 < half < lost
