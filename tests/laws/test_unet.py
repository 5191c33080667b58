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


def test_a_network_that_labml_cannot_express_is_not_written():
    with pytest.raises(ValueError, match="groups=8"):
        UNet(1, (16, 32), (False, True), groups=8, attention_norm=False).to_labml()


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
