"""Winograd's F(4x4, 3x3) for projected gradients, against patches written out."""

import pytest
import torch
from networks import denoiser, draws, image_set, random_convolution, random_tensor, seeded
from reference import gradients_by_example
from torch import nn

from begat.influence import winograd
from begat.influence.corrected_eigenvalues import corrected_eigenvalues
from begat.influence.curvature import covariances, eigenbases, sampled_output_gradients
from begat.influence.gradient_source import GradientSource
from begat.influence.layers import tracked_layers

pytestmark = pytest.mark.numerics

LIKE = torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize(
    ("size", "padding"),
    [
        (size, padding)
        for size in ((4, 4), (8, 8), (5, 9), (3, 2))
        for padding in (0, 1, 2)
        if min(size) + 2 * padding >= 3  # the kernel fits
    ],
    ids=str,
)
def test_tiles_project_gradients_as_patches_do(size, padding):
    module, activation, gradient = random_convolution(nn.Conv2d(3, 4, 3, padding=padding), size)
    basis_in, basis_out = random_tensor(27, 27), random_tensor(4, 4)
    truth = basis_out.T @ gradients_by_example(module, activation, gradient) @ basis_in
    filters = winograd.transform_filters(basis_in, 3)
    left, right = winograd.eigenbasis_factors(module, activation, gradient, basis_out, filters)
    torch.testing.assert_close(left @ right, truth, rtol=1e-10, atol=1e-10)


def test_tiles_are_cheaper_where_channels_are_many_and_pixels_few():
    def is_cheaper(channels, outputs, size, examples=64, **options):
        module = nn.Conv2d(channels, outputs, **({"kernel_size": 3, "padding": 1} | options))
        activation = torch.zeros(examples, channels, size, size)
        return winograd.is_cheaper(module, activation, module(activation).detach())

    assert is_cheaper(128, 64, 4)
    assert is_cheaper(64, 64, 8)
    assert not is_cheaper(128, 64, 4, examples=1)
    assert not is_cheaper(8, 8, 8)
    assert not is_cheaper(64, 8, 16)
    assert not is_cheaper(128, 64, 4, kernel_size=1, padding=0)
    assert not is_cheaper(128, 64, 8, stride=2)
    assert not winograd.is_cheaper(nn.Linear(2, 2), torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))


def test_tiles_change_no_eigenvalue(monkeypatch):
    def build():
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1)
        )

    module, images = seeded(build), image_set(5, (1, 6, 6))
    layers = tracked_layers(module)
    source = GradientSource(denoiser(module), layers, draws(2, (1, 6, 6)))
    passes = source, images, sampled_output_gradients(0, "test")
    bases = eigenbases(covariances(*passes), LIKE)
    groups = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
    eigenvalues = []
    monkeypatch.setattr("begat.influence.winograd.MIN_CHANNELS", 1)
    monkeypatch.setattr("begat.influence.corrected_eigenvalues.MAX_TILES", 12)
    monkeypatch.setattr("begat.influence.corrected_eigenvalues.L2_CACHE_ELEMENTS", 60)
    for saving in (1e9, 0):
        monkeypatch.setattr("begat.influence.winograd.MIN_SAVING", saving)
        eigenvalues.append(corrected_eigenvalues(*passes, bases, groups=groups))
    for plain, tiled in zip(*eigenvalues, strict=True):
        for layer, parts in plain.items():
            for name, value in parts.items():
                torch.testing.assert_close(tiled[layer][name], value, rtol=1e-9, atol=1e-14)
