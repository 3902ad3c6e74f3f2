"""Sums over a convolution's positions by unfolded rows, against its patches written out."""

import pytest
import torch
from networks import random_convolution
from reference import gradients_by_example, patches_by_unfold
from torch import nn

from begat.influence.convolutions import convolution_gradients, input_covariance

pytestmark = pytest.mark.numerics

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
def test_the_covariance_of_inputs_by_unfolded_rows_is_that_of_patches(module, size, monkeypatch):
    module, activation, gradient = random_convolution(module, size)
    patches = patches_by_unfold(module, activation)
    truth = torch.einsum("npi,npj->ij", patches, patches)
    whole = input_covariance(module, activation, gradient)
    torch.testing.assert_close(whole, truth, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr("begat.influence.convolutions.MAX_ELEMENTS", 200)
    monkeypatch.setattr("begat.influence.convolutions.BLOCK_COLUMNS", 2)
    in_parts = input_covariance(module, activation, gradient)
    torch.testing.assert_close(in_parts, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("group_size", [1, 3])
@pytest.mark.parametrize("module", CONVOLUTIONS, ids=str)
def test_gradients_by_unfolded_rows_are_sums_over_patches_of_an_images_draws(module, group_size):
    module, activation, gradient = random_convolution(module, (5, 7))
    truth = gradients_by_example(module, activation, gradient).unflatten(0, (-1, group_size)).sum(1)
    parts = convolution_gradients(module, activation, gradient, group_size)
    gradients = torch.cat([part.clone() for part in parts], 2)
    torch.testing.assert_close(gradients, truth, rtol=1e-12, atol=1e-12)
