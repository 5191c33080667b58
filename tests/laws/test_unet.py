"""The U-Net's layout against labml's: counts, names, shapes and outputs."""

import json
from pathlib import Path

import pytest
import torch

from bench.diffusion.unet import UNet, count_parameters

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "labml_unet.json").read_text())


@pytest.mark.parametrize(("widths", "count"), [((64, 128, 256, 1024), 167_775_681), ((64, 128, 128, 256), 16_287_169)])
def test_both_readings_of_the_multipliers_have_the_known_counts(widths, count):
    with torch.device("meta"):
        assert count_parameters(UNet(1, widths, (False, False, False, True), attention_norm=False)) == count


def labml_state():
    """Every tensor of a small labml network, filled by a rule: the one with which the golden output was made."""
    state = {}
    for i, (name, shape) in enumerate(sorted(GOLDEN["shapes"].items())):
        value = torch.randn(shape, generator=torch.Generator().manual_seed(i))
        if value.dim() > 1:
            state[name] = value / max(1, value[0].numel()) ** 0.5
        elif "norm" in name and name.endswith("weight"):
            state[name] = 1 + 0.1 * value
        else:
            state[name] = 0.1 * value
    return state


def golden_input():
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(99)), torch.tensor([3, 700])


@torch.no_grad()
def test_a_labml_checkpoint_gives_labmls_output():
    net = UNet.from_labml(labml_state()).eval()
    output = net(*golden_input()).flatten()
    torch.testing.assert_close(output, torch.tensor(GOLDEN["output"]), atol=2e-5, rtol=1e-4)


def test_a_checkpoint_goes_to_labml_and_back_unchanged():
    state = labml_state()
    written = UNet.from_labml({f"eps_model.{name}": tensor for name, tensor in state.items()}).to_labml()
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], state[name]) for name in state)


def test_a_checkpoint_of_another_layout_is_refused():
    state = labml_state()
    del state["middle.res1.conv1.weight"]
    with pytest.raises(ValueError, match=r"(?s)not a checkpoint in labml's U-Net layout.*middle\.res1\.conv1\.weight"):
        UNet.from_labml(state)
    with pytest.raises(ValueError, match="not a checkpoint"):
        UNet.from_labml({"conv.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"groups": 8}, "groups=8"),
        ({"learned_variance": True}, "learned_variance=True"),
        ({"classes": 10}, "classes=10"),
        ({"attention_norm": True}, "attention_norm=True"),
        ({"blocks": 1}, "blocks=1"),
    ],
)
def test_a_network_that_labml_cannot_express_is_not_written(setting, told):
    net = UNet(1, (32, 64), (False, True), **{"attention_norm": False} | setting)
    with pytest.raises(
        ValueError, match=f"labml's U-Net has .*learned_variance=False, classes=None; this one has {told}$"
    ):
        net.to_labml()


def test_the_normalisation_before_attention_is_applied_only_where_asked():
    torch.manual_seed(0)
    with_norm, without = (UNet(1, (8, 16), (False, True), groups=8, attention_norm=flag) for flag in (True, False))
    without.load_state_dict(with_norm.state_dict())
    x, t = torch.randn(1, 1, 8, 8), torch.tensor([5])
    assert not torch.allclose(with_norm(x, t), without(x, t))
    without(x, t).sum().backward()
    assert without.middle.attn.norm.weight.grad is None


def test_widths_and_flags_must_fit():
    with pytest.raises(ValueError, match="2 widths but 3 attention flags"):
        UNet(1, (8, 16), (False, True, True), groups=8)
    with pytest.raises(ValueError, match="width 12 is not divisible by groups=8"):
        UNet(1, (8, 12), (False, True), groups=8)


@pytest.mark.parametrize("channels", [1, 3])
def test_output_has_the_images_shape(channels):
    net = UNet(channels, (8, 16, 16), (False, True, True), blocks=1, groups=8, dropout=0.1)
    x = torch.randn(2, channels, 12, 12)
    assert net(x, torch.tensor([0, 999])).shape == x.shape


def small(**settings):
    torch.manual_seed(3)
    return UNet(2, (8, 16), (False, True), blocks=1, groups=8, **settings)


def shared_weights_differ(a, b):
    """Names of weights of both that are not equal bit for bit."""
    a, b = a.state_dict(), b.state_dict()
    return {name for name in a.keys() & b.keys() if a[name].shape != b[name].shape or not torch.equal(a[name], b[name])}


def test_learned_variance_doubles_the_output_and_leaves_all_other_initial_weights():
    plain, learned = small(), small(learned_variance=True)
    assert learned(torch.randn(3, 2, 8, 8), torch.arange(3)).shape == (3, 4, 8, 8)
    assert plain.state_dict().keys() == learned.state_dict().keys()
    assert shared_weights_differ(plain, learned) == {"final.weight", "final.bias"}
    assert count_parameters(learned) - count_parameters(plain) == 2 * (8 * 9 + 1)  # two more 3x3 filters of 8 channels


def test_the_variance_part_depends_on_the_image_and_the_timestep():
    net, x = small(learned_variance=True), torch.randn(1, 2, 8, 8)
    first, later = net(x, torch.tensor([1]))[:, 2:], net(x, torch.tensor([900]))[:, 2:]
    assert not torch.allclose(first, later)
    assert not torch.allclose(first, net(-x, torch.tensor([1]))[:, 2:])


@pytest.mark.parametrize("learned", [False, True])
def test_classes_add_an_embedding_and_leave_all_other_initial_weights(learned):
    plain, conditional = small(learned_variance=learned), small(learned_variance=learned, classes=5)
    assert conditional.state_dict().keys() - plain.state_dict().keys() == {"class_emb.weight"}
    assert not shared_weights_differ(plain, conditional)
    assert conditional.class_emb.weight.shape == (6, 32)  # five classes and "none", as wide as the timestep's
    assert count_parameters(conditional) - count_parameters(plain) == 6 * 32


@torch.no_grad()
def test_every_class_and_none_has_an_output_of_its_own():
    net, x = small(classes=4).eval(), torch.randn(1, 2, 8, 8)
    outputs = [net(x, torch.tensor([7]), torch.tensor([y])) for y in range(5)]
    for i, a in enumerate(outputs):
        assert all(not torch.allclose(a, b) for b in outputs[i + 1 :])


@torch.no_grad()
def test_classes_are_each_images_own():
    net, x, t, y = small(classes=4).eval(), torch.randn(3, 2, 8, 8), torch.tensor([5, 80, 5]), torch.tensor([2, 4, 0])
    apart = torch.cat([net(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(net(x, t, y), apart, atol=1e-5, rtol=1e-5)


def test_only_a_class_shown_is_trained():
    net = small(classes=4)
    net(torch.randn(2, 2, 8, 8), torch.tensor([1, 2]), torch.tensor([1, 4])).square().sum().backward()
    touched = net.class_emb.weight.grad.abs().sum(dim=1) > 0
    assert touched.tolist() == [False, True, False, False, True]


@pytest.mark.parametrize(("classes", "y"), [(4, None), (None, torch.tensor([1]))])
def test_classes_are_needed_by_a_network_that_has_them_and_refused_by_any_other(classes, y):
    with pytest.raises(ValueError, match="classes y must be given to a class-conditional network, and to no other"):
        small(classes=classes)(torch.randn(1, 2, 8, 8), torch.tensor([1]), y)


def test_a_class_beyond_none_is_refused():
    with pytest.raises(IndexError):
        small(classes=4)(torch.randn(1, 2, 8, 8), torch.tensor([1]), torch.tensor([5]))


def test_sides_that_cannot_be_halved_are_padded_with_zeros_and_cut_off_again():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(1, (8, 16, 16), (False, False, False), groups=8, blocks=1).eval()
    x, t = torch.randn(2, 1, 7, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 900])
    padded = torch.zeros(2, 1, 8, 8)
    padded[:, :, :7, :6] = x
    assert net(x, t).shape == x.shape
    assert torch.equal(net(x, t), net(padded, t)[:, :, :7, :6])
