"""A pack of U-Nets against as many models of diffusers."""

import pytest
import torch
from reference import diffusers_models
from small import CONDITIONAL, TINY, random_rows, roundings

from begat.diffusion.parameter_rows import flatten, unflatten
from begat.diffusion.unet import UNetConfig, initial_weights, parameter_shapes, unet
from begat.errors import BegatError

MODELS, BATCH = 3, 4


def inputs(config, dtype):
    generator = torch.Generator().manual_seed(1)
    shape = (MODELS, BATCH, config.image_channels, config.sample_size, config.sample_size)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    t = torch.randint(1000, (MODELS, BATCH), generator=generator)
    label = torch.randint(config.classes or 1, (MODELS, BATCH), generator=generator)
    return x, t, label if config.classes else None


@pytest.mark.numerics
def test_a_pack_predicts_what_separate_diffusers_models_predict(config):
    rows = random_rows(config, MODELS).double()
    x, t, label = inputs(config, torch.float64)
    packed = unet(unflatten(rows, config), config, x, t, label)
    for k, model in enumerate(diffusers_models(config, rows)):
        alone = model(x[k], t[k], class_labels=None if label is None else label[k]).sample
        torch.testing.assert_close(packed[k], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.numerics
def test_a_pack_has_the_gradients_of_separate_diffusers_models(config):
    rows = random_rows(config, MODELS).double().requires_grad_()
    x, t, label = inputs(config, torch.float64)
    loss = unet(unflatten(rows, config), config, x, t, label).square().mean((1, 2, 3, 4))
    packed = unflatten(torch.autograd.grad(loss.sum(), rows)[0], config)
    for k, model in enumerate(diffusers_models(config, rows.detach())):
        output = model(x[k], t[k], class_labels=None if label is None else label[k]).sample
        output.square().mean().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(packed[name][k], parameter.grad, rtol=1e-9, atol=1e-9)


def test_parameters_are_named_and_shaped_as_in_diffusers(config):
    from diffusers import UNet2DModel

    state = UNet2DModel(**config.diffusers_arguments()).state_dict()
    assert parameter_shapes(config) == {name: tuple(p.shape) for name, p in state.items()}


def test_initial_weights_are_distributed_as_in_diffusers():
    from diffusers import UNet2DModel

    config = UNetConfig(8, 3, (32, 64), 1, (False, True), True, 8, 8, classes=50)
    ours = initial_weights(config, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    for name, theirs in UNet2DModel(**config.diffusers_arguments()).state_dict().items():
        if theirs.numel() < 1000:
            continue
        assert ours[name].std().item() == pytest.approx(theirs.std().item(), rel=0.05)
        assert ours[name].abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.3)


def predictions_and_gradients(rows, x, t):
    rows = rows.requires_grad_()
    output = unet(unflatten(rows, TINY), TINY, x, t)
    return output.detach(), torch.autograd.grad(output.square().mean((1, 2, 3, 4)).sum(), rows)[0]


@pytest.mark.numerics
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_models_prediction_and_gradient_depend_on_its_pack_by_rounding_only(dtype):
    rows, (x, t, _) = random_rows(TINY, MODELS).to(dtype), inputs(TINY, dtype)
    truth = predictions_and_gradients(rows.double(), x.double(), t)
    close = 1e-9 if dtype == torch.float64 else roundings(TINY, x[0].numel())
    assert close < 1e-3
    for pack in ([0, 1, 2], [2, 0], [1]):
        found = predictions_and_gradients(rows[pack].detach(), x[pack], t[pack])
        for value, expected in zip(found, truth, strict=True):
            error = (value.double() - expected[pack]).flatten(1).norm(dim=1)
            assert (error <= close * expected[pack].flatten(1).norm(dim=1)).all()


def test_rows_and_named_parameters_are_two_forms_of_one_thing(config):
    rows = random_rows(config, 2)
    assert torch.equal(flatten(unflatten(rows, config)), rows)
    with pytest.raises(BegatError, match="expected .* parameters per model, found 7"):
        unflatten(torch.zeros(2, 7), config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(attention=(True,)),
            "attention: expected one value for each of the 2 levels, found 1",
        ),
        (dict(norm_num_groups=3), "multiples of norm_num_groups=3, found 8"),
        (dict(mid_attention=True, attention_head_dim=5), "attention_head_dim=5 .* found 16"),
        (dict(sample_size=7), "image size 7 cannot be halved 1 times"),
    ],
)
def test_impossible_networks_are_refused_in_words(change, message):
    known = {k: getattr(TINY, k) for k in TINY.__dataclass_fields__}
    with pytest.raises(BegatError, match=message):
        UNetConfig(**{**known, **change})


def test_labels_are_needed_exactly_by_conditional_models():
    for config, label in ((TINY, torch.zeros(1, 2, dtype=torch.long)), (CONDITIONAL, None)):
        x = torch.zeros(1, 2, 1, 8, 8)
        weights = unflatten(random_rows(config, 1), config)
        with pytest.raises(BegatError, match="labels are needed exactly"):
            unet(weights, config, x, torch.zeros(1, 2, dtype=torch.long), label)
