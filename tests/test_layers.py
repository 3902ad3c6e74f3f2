"""Tracked layers and their gradients by example on a tape, against autograd."""

import pytest
import torch
from reference import diffusers_models
from small import TINY, random_rows
from torch import nn

from begat.errors import BegatError
from begat.influence.layers import tracked_layers, untracked_parameters
from begat.influence.tape_gradients import layer_gradients
from begat.influence.tapes import recording

pytestmark = pytest.mark.numerics


def taped(module, layers, output_of, gradient_of):
    """Gradients by example and parameter name."""
    with recording(module, layers) as tape:
        tape.clear()
        output = output_of()
        tape.backward(output, gradient_of(output))
        rows = torch.cat([layer_gradients(x, *tape.inputs_and_gradients(x)) for x in layers], 1)
    return {k: v for layer in layers for k, v in layer.named_parameters(rows).items()}


def check_against_autograd(module, x, output_of, examples):
    layers = tracked_layers(module, norms=True)
    found = taped(module, layers, lambda: output_of(x), lambda o: 2 * o.detach())
    parameters = dict(module.named_parameters())
    for i in range(examples):
        loss = output_of(x)[i].square().sum()
        truth = torch.autograd.grad(loss, [parameters[n] for n in found], retain_graph=True)
        for name, value in zip(found, truth, strict=True):
            torch.testing.assert_close(found[name][i], value, rtol=1e-9, atol=1e-12)
    return layers


def test_gradients_by_example_are_those_of_autograd_in_every_kind_of_unet(config):
    (module,) = diffusers_models(config, random_rows(config, 1).double())
    generator = torch.Generator().manual_seed(0)
    size = config.sample_size
    x = torch.randn(3, config.image_channels, size, size, generator=generator).double()
    t, label = torch.tensor([0, 7, 900]), torch.arange(3) if config.classes else None
    layers = check_against_autograd(
        module.eval(), x, lambda x: module(x, t, class_labels=label).sample, 3
    )
    left = untracked_parameters(module, layers)
    assert set(left) == ({"class_embedding.weight"} if config.classes else set())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Conv2d(3, 4, (1, 3), padding=(2, 0), bias=False),
        nn.Conv2d(3, 4, 2, dilation=(1, 2)),
        nn.Conv2d(3, 4, 1, stride=2),
        nn.Conv2d(3, 4, 1),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 2, 3)),
        nn.Sequential(nn.LayerNorm((3, 6, 7)), nn.Linear(7, 2)),
        nn.Sequential(nn.Linear(7, 7), nn.LayerNorm(7)),
    ],
    ids=str,
)
def test_gradients_of_layers_of_any_shape_are_those_of_autograd(layer):
    x = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    module = nn.Sequential(layer).double()
    check_against_autograd(module, x, module, 2)


def test_a_layer_that_is_used_twice_sums_its_uses():
    layer = nn.Linear(4, 4)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x)))

    module = Twice().double()
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).double()
    check_against_autograd(module, x, module, 2)


def test_parameters_that_cannot_be_tracked_are_listed_with_their_share():
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 4, 1, padding_mode="reflect"), nn.Embedding(3, 2)
    )
    module.append(nn.Conv2d(4, 4, 3, padding="same")).append(nn.Linear(2, 2))
    layers = tracked_layers(module)
    assert [layer.name for layer in layers] == ["4"]
    left = untracked_parameters(module, layers)
    assert list(left) == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "2.weight",
        "3.weight",
        "3.bias",
    ]
    assert sum(left.values()) == pytest.approx(1 - 6 / sum(p.numel() for p in module.parameters()))


def test_normalisation_layers_are_tracked_only_if_requested():
    (module,) = diffusers_models(TINY, random_rows(TINY, 1))
    without_norms, all_ = tracked_layers(module), tracked_layers(module, norms=True)
    assert {layer.name for layer in all_} - {layer.name for layer in without_norms} == {
        n.rsplit(".", 1)[0] for n in untracked_parameters(module, without_norms)
    }
    assert not untracked_parameters(module, all_)


def test_a_module_is_left_as_it_was_even_after_an_error():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 2))
    module[1].eval()
    module[0].bias.requires_grad_(False)
    before = [m.training for m in module.modules()], [p.requires_grad for p in module.parameters()]
    with pytest.raises(ZeroDivisionError), recording(module, tracked_layers(module)):
        assert not any(m.training for m in module.modules())
        raise ZeroDivisionError
    assert before == (
        [m.training for m in module.modules()],
        [p.requires_grad for p in module.parameters()],
    )
    assert not module[0]._forward_hooks


def test_a_layer_that_takes_no_part_is_named():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    module = Idle()
    with pytest.raises(BegatError, match="layer idle took no part"):
        taped(module, tracked_layers(module), lambda: module(torch.zeros(1, 2)), torch.ones_like)
