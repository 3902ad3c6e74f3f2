"""Sums over a convolution's positions by windows and by tiles, against its patches written out."""

import pytest
import torch
from networks import denoiser, draws, sample, seeded
from reference import gradients_by_example, patches_by_unfold
from torch import nn

from begat.influence import winograd
from begat.influence.convolutions import convolution_gradients, inputs_gram
from begat.influence.curvature import covariances, eigenbases, eigenvalues, fake_gradients
from begat.influence.layers import covered_layers

pytestmark = pytest.mark.numerics

LIKE = torch.zeros((), dtype=torch.float64)


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def asked(module, size, examples=6):
    """A convolution, images and gradients of its output."""
    module = seeded(lambda: module)
    seen = rows(examples, module.in_channels, *size)
    return module, seen, rows(*module(seen).shape, seed=1)


CONVOLUTIONS = [
    nn.Conv2d(3, 4, 3, padding=1),
    nn.Conv2d(3, 4, 3),
    nn.Conv2d(3, 4, 3, padding=2),
    nn.Conv2d(3, 4, (5, 1), padding=(2, 0)),
    nn.Conv2d(3, 4, (2, 3), padding=(0, 3), dilation=(1, 2)),
    nn.Conv2d(3, 4, 3, stride=2, padding=1),
    nn.Conv2d(3, 4, 3, stride=(1, 2), padding=1),
    nn.Conv2d(3, 4, 2, dilation=2),
    nn.Conv2d(3, 4, 1),
]


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (3, 5)], ids=str)
@pytest.mark.parametrize("module", CONVOLUTIONS, ids=str)
def test_products_of_windows_are_those_of_patches(module, size, monkeypatch):
    module, seen, back = asked(module, size)
    patches = patches_by_unfold(module, seen)
    truth = torch.einsum("npi,npj->ij", patches, patches)
    torch.testing.assert_close(inputs_gram(module, seen, back), truth, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr("begat.influence.convolutions.HELD", 200)
    monkeypatch.setattr("begat.influence.convolutions.TILE", 2)
    torch.testing.assert_close(inputs_gram(module, seen, back), truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("module", CONVOLUTIONS, ids=str)
def test_gradients_by_windows_are_sums_over_patches_of_an_images_draws(module, each):
    module, seen, back = asked(module, (5, 7))
    truth = gradients_by_example(module, seen, back).unflatten(0, (-1, each)).sum(1)
    parts = convolution_gradients(module, seen, back, each)
    found = torch.cat([part.clone() for part in parts], 2)
    torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-12)


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
def test_tiles_rotate_gradients_as_patches_do(size, padding):
    module, seen, back = asked(nn.Conv2d(3, 4, 3, padding=padding), size)
    basis_in, basis_out = rows(27, 27), rows(4, 4)
    truth = basis_out.T @ gradients_by_example(module, seen, back) @ basis_in
    weights = winograd.filters(basis_in, 3)
    left, right = winograd.rotated_factors(module, seen, back, basis_out, weights)
    torch.testing.assert_close(left @ right, truth, rtol=1e-10, atol=1e-10)


def test_tiles_pay_where_channels_are_many_and_pixels_few():
    def judged(channels, outputs, size, examples=64, **how):
        module = nn.Conv2d(channels, outputs, **({"kernel_size": 3, "padding": 1} | how))
        seen = torch.zeros(examples, channels, size, size)
        return winograd.pays(module, seen, module(seen).detach())

    assert judged(128, 64, 4)
    assert judged(64, 64, 8)
    assert not judged(128, 64, 4, examples=1)
    assert not judged(8, 8, 8)
    assert not judged(64, 8, 16)
    assert not judged(128, 64, 4, kernel_size=1, padding=0)
    assert not judged(128, 64, 8, stride=2)
    assert not winograd.pays(nn.Linear(2, 2), torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))


def test_tiles_change_no_eigenvalue(monkeypatch):
    def build():
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1)
        )

    module, images = seeded(build), sample(5, (1, 6, 6))
    layers = covered_layers(module)
    case = denoiser(module), layers, images, draws(2, (1, 6, 6)), fake_gradients(0, "test")
    bases = eigenbases(covariances(*case), LIKE)
    groups = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
    found = []
    monkeypatch.setattr("begat.influence.winograd.THIN", 1)
    monkeypatch.setattr("begat.influence.curvature.MAX_TILES", 12)
    monkeypatch.setattr("begat.influence.curvature.L2_CACHE_NUMBERS", 60)
    for gain in (1e9, 0):
        monkeypatch.setattr("begat.influence.winograd.GAIN", gain)
        found.append(eigenvalues(*case, bases, groups=groups))
    for plain, tiled in zip(*found, strict=True):
        for layer, parts in plain.items():
            for name, value in parts.items():
                torch.testing.assert_close(tiled[layer][name], value, rtol=1e-9, atol=1e-14)
