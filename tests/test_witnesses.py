"""Curvature and scores of a U-Net with attention, against two libraries that know nothing of us."""

import numpy as np
import pytest
import torch
from networks import SCHEDULE, draws, every_pixel, for_every_pixel, image_set, noisy
from small import random_rows
from torch import nn

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.unet_shapes import UNetConfig
from begat.influence.corrected_eigenvalues import corrected_eigenvalues
from begat.influence.curvature import covariances, eigenbases
from begat.influence.gradient_source import GradientSource, gradient_source
from begat.influence.gradients import image_gradients
from begat.influence.kronecker import curvature_blocks, from_eigenbasis, to_eigenbasis
from begat.influence.layers import tracked_layers
from begat.influence.scores import ScoreOptions, score
from begat.influence.variants import Variant

pytestmark = pytest.mark.numerics

SHAPE = (1, 4, 4)
CONFIG = UNetConfig(4, 1, (4, 8), 1, (False, True), True, 4, 2)
LIKE = torch.zeros((), dtype=torch.float64)


def unet(*, biases=True):
    row = random_rows(CONFIG, 1)[0].double()
    denoiser = unet_denoiser(row, CONFIG, SCHEDULE, "epsilon", torch.device("cpu"))
    if not biases:
        for part in denoiser.module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.bias = None
    return denoiser


class OfPair(nn.Module):
    """A diffusers model as a function of one mapping, with a flat output."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, given):
        return self.module(given["x"], given["t"]).sample.flatten(1)


@pytest.mark.filterwarnings("ignore")  # the witnesses' own
@pytest.mark.parametrize("structure", ["kfac", "ekfac"])
def test_curvlinops_finds_the_same_curvature(structure):
    from curvlinops import EKFACLinearOperator, KFACLinearOperator

    denoiser, images = unet(), image_set(3, SHAPE)
    layers = tracked_layers(denoiser.module)
    sampler = draws(2, SHAPE)
    source = GradientSource(denoiser, layers, for_every_pixel(sampler))
    passes = source, images, every_pixel
    bases = eigenbases(covariances(*passes), LIKE)
    (values,) = corrected_eigenvalues(*passes, bases)
    curvature = {name: bases[name] | values[name] for name in bases}
    rows = torch.randn(2, layers[-1].stop, generator=torch.Generator().manual_seed(0)).double()
    ours = torch.cat(
        [
            from_eigenbasis(block, to_eigenbasis(block, rows) * block.eigenvalues)
            for block in curvature_blocks(layers, curvature, structure)
        ],
        1,
    )
    x, noise = noisy(sampler, images)
    t = sampler(images.ids).timestep.flatten()
    parameters = [p for layer in layers for p in layer.module.parameters(recurse=False)]
    operator = {"kfac": KFACLinearOperator, "ekfac": EKFACLinearOperator}[structure]
    theirs = operator(
        OfPair(denoiser.module),
        nn.MSELoss(),
        parameters,
        [({"x": x, "t": t}, noise.flatten(1))],
        fisher_type="type-2",
        kfac_approx="expand",
        separate_weight_and_bias=True,
        check_deterministic=False,
        batch_size_fn=lambda given: len(given["x"]),
    )
    for row, our in zip(rows, ours, strict=True):
        given = [v for layer in layers for v in layer.named_parameters(row).values()]
        expected = [v for layer in layers for v in layer.named_parameters(our).values()]
        for value, other in zip(theirs @ given, expected, strict=True):
            scale = other.abs().max().item()
            torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-6 * scale + 1e-15)


def kronfluence_scores(module, train, queries, damping, folder):
    """Pairwise scores of datasets (x, t, noise, sampled output gradient)."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Denoising(Task):
        def compute_train_loss(self, batch, model, sample=False):
            x, t, noise, sampled = batch
            output = model(x, t).sample
            if sample:
                return (output * sampled).sum()
            return (output - noise).square().mean((1, 2, 3)).sum()

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    task, double = Denoising(), torch.float64
    analyzer = Analyzer(
        "witness", prepare_model(module, task), task, cpu=True, disable_tqdm=True, output_dir=folder
    )
    analyzer.fit_all_factors(
        "factors",
        torch.utils.data.TensorDataset(*train),
        per_device_batch_size=len(train[0]),
        factor_args=FactorArguments(
            activation_covariance_dtype=double,
            gradient_covariance_dtype=double,
            per_sample_gradient_dtype=double,
            lambda_dtype=double,
        ),
    )
    analyzer.compute_pairwise_scores(
        "scores",
        "factors",
        torch.utils.data.TensorDataset(*queries),
        torch.utils.data.TensorDataset(*train),
        per_device_query_batch_size=len(queries[0]),
        per_device_train_batch_size=len(train[0]),
        score_args=ScoreArguments(
            damping_factor=damping,
            per_sample_gradient_dtype=double,
            precondition_dtype=double,
            score_dtype=double,
        ),
    )
    return analyzer.load_pairwise_scores("scores")["all_modules"].double().numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("biases", "agreement"), [(False, 1 - 1e-9), (True, 0.99)])
def test_kronfluence_finds_the_same_scores(biases, agreement, tmp_path):
    """It joins weight and bias in one block and we do not: without biases all is equal."""
    denoiser = unet(biases=biases)
    images, queries = image_set(24, SHAPE), image_set(5, SHAPE, 100)
    source = GradientSource(denoiser, tracked_layers(denoiser.module), draws(1, SHAPE))
    generator = torch.Generator().manual_seed(0)
    sampled = torch.randn(24, *SHAPE, generator=generator).double() * (2 / 16) ** 0.5
    passes = source, images, lambda block, output: sampled[list(block.ids)]
    bases = eigenbases(covariances(*passes), LIKE)
    (values,) = corrected_eigenvalues(*passes, bases)
    curvature = {n: {k: v.numpy() for k, v in (bases[n] | values[n]).items()} for n in bases}
    damping = 1e-3
    ours = score(
        source,
        curvature,
        images,
        queries,
        [Variant("ekfac", "absolute", damping)],
        options=ScoreOptions(centred=False, halves=False),
    )["score"][0] * len(images)

    def inputs(image_set):
        x, noise = noisy(source.draws, image_set)
        return x, source.draws(image_set.ids).timestep.flatten(), noise

    data = (*inputs(images), sampled), (*inputs(queries), sampled[:5])
    theirs = kronfluence_scores(denoiser.module, *data, damping, str(tmp_path))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > agreement
    if not biases:
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())


def test_the_gradient_products_are_those_of_autograd_one_image_at_a_time():
    denoiser, images = unet(), image_set(3, SHAPE)
    source = gradient_source(denoiser, draws(2, SHAPE), norms=True)
    ((_, (rows,)),) = image_gradients(source, images)
    x, noise = noisy(source.draws, images)
    t = source.draws(images.ids).timestep.flatten()
    flat = []
    for i in range(3):
        span = slice(2 * i, 2 * i + 2)
        loss = (denoiser.module(x[span], t[span]).sample - noise[span]).square().mean()
        flat.append(torch.autograd.grad(loss, list(denoiser.module.parameters())))
    flat = torch.stack([torch.cat([g.flatten() for g in grads]) for grads in flat])
    torch.testing.assert_close(rows[0] @ rows[0].T, flat @ flat.T, rtol=1e-8, atol=1e-12)
