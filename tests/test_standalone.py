"""Gradients and curvature of torch modules outside the pipeline, and the public names."""

from dataclasses import replace

import pytest
import torch
from networks import SCHEDULE, Flat, denoiser, draws, image_set, random_tensor, seeded
from small import random_rows
from torch import nn
from torch.nn.functional import mse_loss

import begat
from begat.config.schema import Diffusion
from begat.diffusion.denoisers import evaluate, pipeline_denoiser, unet_denoiser
from begat.diffusion.unet_shapes import UNetConfig
from begat.errors import BegatError
from begat.execution.export import to_pipeline
from begat.influence.factors import FactorsConfig
from begat.influence.kronecker import from_eigenbasis, to_eigenbasis

MODULES = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 3, 2)
    ),
    "linear": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(50, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2, bias=False)
    ),
}


@pytest.mark.numerics
@pytest.mark.parametrize("module", MODULES)
def test_gradients_are_those_of_each_example_alone(module):
    module, batch = seeded(MODULES[module]), random_tensor(5, 2, 5, 5)
    gradients = begat.per_example_gradients(
        module, lambda: module(batch).square().flatten(1).sum(1)
    )
    assert set(gradients) == {name for name, _ in module.named_parameters()}
    for i, example in enumerate(batch):
        module.zero_grad()
        module(example[None]).square().sum().backward()
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(gradients[name][i], parameter.grad)


def test_a_mean_over_the_batch_and_a_module_without_layers_are_refused():
    module = seeded(MODULES["linear"])
    batch = random_tensor(5, 2, 5, 5)
    with pytest.raises(BegatError, match=r"expected a loss per example, found shape \(\)"):
        begat.per_example_gradients(module, lambda: mse_loss(module(batch), batch.new_zeros(5, 2)))
    with pytest.raises(BegatError, match="expected a module with a convolution or linear layer"):
        begat.per_example_gradients(nn.ReLU(), lambda: batch.sum((1, 2, 3)))


@pytest.mark.numerics
def test_damped_curvature_times_the_solution_is_the_gradient():
    network = denoiser(seeded(lambda: Flat(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4))))
    curvature = begat.ekfac(network, image_set(12), FactorsConfig(draws=4))
    output = evaluate(network, image_set(3).images(slice(3)), None, draws(1)(range(3)))
    noisy = output.output.detach()
    gradients = begat.per_example_gradients(
        network.module, lambda: network.module(noisy).square().flatten(1).sum(1)
    )
    solutions = curvature.solve(gradients, damping=0.3)
    assert {block.name for block in curvature.blocks} == set(gradients)
    for block in (replace(block, span=slice(None)) for block in curvature.blocks):
        damped = block.eigenvalues + 0.3 * block.eigenvalues.mean()
        rows = solutions[block.name].flatten(1)
        product = from_eigenbasis(block, to_eigenbasis(block, rows) * damped)
        torch.testing.assert_close(product, gradients[block.name].flatten(1))
    with pytest.raises(BegatError, match=r"expected a gradient of layers\.0\.bias, found none"):
        curvature.solve({n: g for n, g in gradients.items() if n != "layers.0.bias"})


@pytest.mark.numerics
def test_a_pipeline_computes_what_the_model_in_it_does():
    config = UNetConfig(4, 1, (4, 8), 1, (False, True), True, 4, 2)
    row = random_rows(config, 1)
    diffusion = Diffusion(SCHEDULE.timesteps, "squaredcos_cap_v2", "v_prediction", True)
    pipeline = to_pipeline(row, config, diffusion)
    cpu = torch.device("cpu")
    expected = unet_denoiser(row[0], config, SCHEDULE, "v_prediction", cpu)
    images, shape = image_set(3, (1, 4, 4)), (1, 4, 4)
    batch = images.images(slice(3)), None, draws(4, shape)(images.ids)
    with torch.no_grad():
        found = evaluate(pipeline_denoiser(pipeline), *batch)
        torch.testing.assert_close(found.output, evaluate(expected, *batch).output)
        torch.testing.assert_close(found.target, evaluate(expected, *batch).target)
    pipeline.scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(BegatError, match="expected epsilon or v_prediction, found sample"):
        pipeline_denoiser(pipeline)


def test_every_public_name_is_there():
    assert all(callable(getattr(begat, name)) for name in begat.__all__)
    assert set(begat.__all__) == set(begat.PUBLIC)
    with pytest.raises(AttributeError, match="has no attribute 'x'"):
        begat.x  # noqa: B018
