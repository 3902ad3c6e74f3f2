"""Shared draws: stratified in time, antithetic in noise, a query's own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from begat.diffusion.draws import shared_draws
from begat.errors import BegatError
from begat.rng.torch_generators import torch_generator

pytestmark = pytest.mark.numerics


def test_draws_come_in_antithetic_pairs_one_in_each_stratum_of_time():
    t, noise = shared_draws(torch_generator(0, "q"), 32, 1000, (1, 4, 4))
    assert torch.equal(t[::2], t[1::2])
    assert torch.equal(noise[::2], -noise[1::2])
    assert torch.equal(t[::2] * 16 // 1000, torch.arange(16))


def test_every_timestep_is_drawn_equally_often():
    counts = torch.zeros(10)
    for q in range(4000):
        t, _ = shared_draws(torch_generator(0, q), 6, 10, (1, 1, 1))
        counts += torch.bincount(t, minlength=10)
    expected = counts.sum() / 10
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


def test_draws_are_the_same_for_the_same_query_and_others_for_another():
    first, again, other = (
        shared_draws(torch_generator(0, q), 4, 100, (1, 2, 2)) for q in (3, 3, 4)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_another_instruction_set_draws_the_same_but_for_the_rounding_of_the_normal():
    code = (
        "import json; from begat.rng.torch_generators import torch_generator as g; import torch; "
        "print(json.dumps([torch.rand(99, generator=g(0, 'u')).tolist(), "
        "torch.randperm(99, generator=g(0, 'p')).tolist(), "
        "torch.randn(99, generator=g(0, 'n')).tolist()]))"
    )
    uniform, order, normal = zip(
        *(
            json.loads(subprocess.check_output([sys.executable, "-c", code], env=os.environ | how))
            for how in ({}, {"ATEN_CPU_CAPABILITY": "default"})
        ),
        strict=True,
    )
    assert uniform[0] == uniform[1]
    assert order[0] == order[1]
    # sqrt(-2 log u) cos(2 pi v): radii to 6, angles to 2 pi, both rounded to 24 bits
    np.testing.assert_allclose(normal[0], normal[1], rtol=0, atol=6 * 2 * np.pi * 2**-22)


@pytest.mark.parametrize("draws", [3, 0, -2])
def test_an_odd_number_of_draws_is_refused(draws):
    with pytest.raises(BegatError, match="expected an even number"):
        shared_draws(torch_generator(0, "q"), draws, 100, (1, 2, 2))
