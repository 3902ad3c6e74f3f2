"""Kronecker factors in the cases where they are exact, against an explicit Gauss-Newton matrix."""

import numpy as np
import pytest
import torch
from networks import (
    Flat,
    denoiser,
    draws,
    every_pixel,
    for_every_pixel,
    gauss_newton,
    image_set,
    noisy,
    seeded,
)
from torch import nn

from begat.diffusion.denoisers import evaluate
from begat.errors import BegatError
from begat.influence.blocks import ExampleBlock
from begat.influence.corrected_eigenvalues import corrected_eigenvalues
from begat.influence.curvature import (
    covariances,
    eigenbases,
    sampled_output_gradients,
)
from begat.influence.gradient_source import GradientSource
from begat.influence.gradients import backward_passes
from begat.influence.kronecker import (
    curvature_blocks,
    downdated,
    preconditioned,
    zero_curvature_blocks,
)
from begat.influence.layers import tracked_layers
from begat.influence.tape_gradients import part_gradients

pytestmark = pytest.mark.numerics

LIKE = torch.zeros((), dtype=torch.float64)


def deep_linear():
    return seeded(lambda: Flat(nn.Linear(4, 3), nn.Linear(3, 5), nn.Linear(5, 4)))


def deep():
    return seeded(lambda: Flat(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4)))


def per_position():
    def build():
        return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1))

    return seeded(build)


def mixing():
    def build():
        return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1))

    return seeded(build)


def nonlinear():
    def build():
        return nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1),
            nn.GroupNorm(1, 2),
            nn.Tanh(),
            nn.Conv2d(2, 1, 3, padding=1),
        )

    return seeded(build)


def curvature(module, images, number=2, *, norms=False, **options):
    """Layers and their curvature, the sampled output gradients' expectation taken exactly."""
    layers = tracked_layers(module, norms=norms)
    passes = (
        GradientSource(denoiser(module), layers, for_every_pixel(draws(number))),
        images,
        every_pixel,
    )
    bases = eigenbases(covariances(*passes, **options), LIKE)
    (values,) = corrected_eigenvalues(*passes, bases)
    return layers, {name: bases[name] | values[name] for name in bases}


def matrix(block):
    """A block's curvature, written out; outputs vary slowest, as in a row."""
    basis_in = block.basis_in if block.basis_in is not None else torch.eye(1).double()
    basis = torch.kron(block.basis_out, basis_in)
    return basis @ torch.diag(block.eigenvalues.flatten()) @ basis.T


def truth(module, layers, images, number=2):
    """The Gauss-Newton matrix in the order of a row."""
    x, _ = noisy(draws(number), images)
    total = sum(p.numel() for p in module.parameters())
    index, names = {}, dict(module.named_parameters())
    for name, start in zip(
        names, np.cumsum([0] + [p.numel() for p in names.values()]), strict=False
    ):
        index[name] = torch.arange(start, start + names[name].numel()).view(names[name].shape)
    order = torch.empty(layers[-1].stop, dtype=torch.long)
    marks = torch.arange(layers[-1].stop).double()
    for layer in layers:
        for name, at in layer.named_parameters(marks).items():
            order[at.flatten().long()] = index[name].flatten()
    assert total >= len(order)
    return gauss_newton(module, x)[order][:, order]


def test_sampled_gradients_pulled_back_are_the_gauss_newton_matrix():
    module, images = nonlinear(), image_set(3)
    layers = tracked_layers(module, norms=True)
    source = GradientSource(denoiser(module), layers, for_every_pixel(draws(2)))
    total = 0
    for block, tape in backward_passes(source, images, [every_pixel]):
        n = 2 * 4 * len(block.ids)
        rows = part_gradients(tape, n, 1)[0]
        total = total + rows.T @ rows
    torch.testing.assert_close(
        total / (3 * 2 * 4), truth(module, layers, images), rtol=1e-9, atol=1e-12
    )


def test_sampled_gradients_have_the_variance_of_the_loss_and_depend_on_the_image():
    module, images = nonlinear(), image_set(2)
    sampled = sampled_output_gradients(3, "test")
    both_draws = draws(2000)(range(2))
    output = evaluate(denoiser(module), images.images(slice(0, 2)), None, both_draws)
    both = sampled(ExampleBlock(slice(0, 2), [5, 9], both_draws, slice(0, 2000)), output)
    assert both.var().item() == pytest.approx(2 / 4, rel=0.05)
    block = ExampleBlock(slice(1, 2), [9], draws(2000)([1]), slice(500, 600))
    one = evaluate(denoiser(module), images.images(slice(1, 2)), None, block.draws)
    assert torch.equal(both[2500:2600], sampled(block, one))


@pytest.mark.parametrize("structure", ["kfac", "ekfac"])
@pytest.mark.parametrize(
    ("module", "images", "number"),
    [(deep_linear(), 5, 3), (deep(), 1, 1), (per_position(), 4, 2)],
    ids=["deep linear", "one draw", "every layer above acts by position"],
)
def test_blocks_are_exact_where_inputs_and_gradients_are_independent(
    module, images, number, structure
):
    images = image_set(images)
    layers, found = curvature(module, images, number)
    dense = truth(module, layers, images, number)
    for block in curvature_blocks(layers, found, structure):
        expected = dense[block.span, block.span]
        torch.testing.assert_close(matrix(block), expected, rtol=1e-8, atol=1e-10)


def test_positions_that_a_later_layer_mixes_make_expand_inexact_except_in_the_last_layer():
    images = image_set(4)
    module = mixing()
    layers, found = curvature(module, images)
    dense = truth(module, layers, images)
    first, _, last, _ = curvature_blocks(layers, found, "kfac")
    torch.testing.assert_close(matrix(last), dense[last.span, last.span], rtol=1e-8, atol=1e-10)
    wrong = matrix(first) - dense[first.span, first.span]
    assert wrong.norm() > 0.1 * dense[first.span, first.span].norm()


def test_one_example_is_not_exact_where_weights_are_shared():
    images = image_set(1)
    layers, found = curvature(mixing(), images, 1)
    dense = truth(mixing(), layers, images, 1)
    block = curvature_blocks(layers, found, "kfac")[0]
    assert (matrix(block) - dense[block.span, block.span]).norm() > 0.01


def test_reduce_is_exact_for_biases_and_differs_from_expand_elsewhere():
    images = image_set(4)
    layers, reduced = curvature(mixing(), images, weight_sharing="reduce")
    _, expanded = curvature(mixing(), images)
    dense = truth(mixing(), layers, images)
    for block in curvature_blocks(layers, reduced, "kfac"):
        if block.name.endswith("bias"):
            torch.testing.assert_close(
                matrix(block), dense[block.span, block.span], rtol=1e-8, atol=1e-10
            )
    a, b = (curvature_blocks(layers, found, "kfac")[0] for found in (reduced, expanded))
    assert (matrix(a) - matrix(b)).norm() > 0.1 * matrix(b).norm()


def test_ekfac_has_the_true_diagonal_in_its_basis_the_true_trace_and_less_error_than_kfac():
    images, module = image_set(5), nonlinear()
    layers, found = curvature(module, images, 3, norms=True)
    dense = truth(module, layers, images, 3)
    exact, product = (
        curvature_blocks(layers, found, "ekfac"),
        curvature_blocks(layers, found, "kfac"),
    )
    for block, other in zip(exact, product, strict=True):
        expected = dense[block.span, block.span]
        basis_in = block.basis_in if block.basis_in is not None else torch.eye(1).double()
        basis = torch.kron(block.basis_out, basis_in)
        diagonal = (basis.T @ expected @ basis).diagonal()
        torch.testing.assert_close(block.eigenvalues.flatten(), diagonal, rtol=1e-8, atol=1e-12)
        assert block.eigenvalues.sum().item() == pytest.approx(expected.trace().item(), rel=1e-9)
        error, rival = ((matrix(b) - expected).norm().item() for b in (block, other))
        assert error <= rival * (1 + 1e-9) + 1e-12


def test_a_normalisation_layer_is_one_exact_dense_block():
    images, module = image_set(5), nonlinear()
    layers, found = curvature(module, images, 3, norms=True)
    dense = truth(module, layers, images, 3)
    (norm,) = [b for b in curvature_blocks(layers, found, "ekfac") if b.name == "1"]
    torch.testing.assert_close(matrix(norm), dense[norm.span, norm.span], rtol=1e-8, atol=1e-12)


def test_neither_blocks_of_images_nor_their_order_change_the_curvature(monkeypatch):
    images, module = image_set(5), nonlinear()
    layers = tracked_layers(module, norms=True)

    def estimated(images, **options):
        source = GradientSource(denoiser(module), layers, draws(4), **options)
        passes = source, images, sampled_output_gradients(0, "test")
        return covariances(*passes), corrected_eigenvalues(*passes, bases)[0]

    source = GradientSource(denoiser(module), layers, draws(4))
    bases = eigenbases(covariances(source, images, sampled_output_gradients(0, "test")), LIKE)
    whole = estimated(images)
    monkeypatch.setattr("begat.influence.tapes.CACHE_ELEMENTS", 20)
    monkeypatch.setattr("begat.influence.convolutions.BLOCK_COLUMNS", 4)
    order = [3, 1, 0, 4, 2]
    others = [estimated(images, max_examples=4)]
    others.append(estimated(images.subset(order), max_examples=8))
    for other in others:
        for one, two in zip(whole, other, strict=True):
            for layer, parts in one.items():
                for name, value in parts.items():
                    torch.testing.assert_close(two[layer][name], value, rtol=1e-9, atol=1e-13)


def test_groups_eigenvalues_add_up_and_taking_one_away_leaves_the_others():
    images, module = image_set(6), nonlinear()
    layers = tracked_layers(module, norms=True)
    passes = (
        GradientSource(denoiser(module), layers, for_every_pixel(draws(2))),
        images,
        every_pixel,
    )
    bases = eigenbases(covariances(*passes), LIKE)
    (everyone,) = corrected_eigenvalues(*passes, bases)
    member_of = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
    groups = corrected_eigenvalues(*passes, bases, groups=member_of)
    whole, first, second = (
        curvature_blocks(layers, {n: bases[n] | v[n] for n in v}, "ekfac")
        for v in (everyone, *groups)
    )
    for left, other in zip(downdated(whole, first, 2 / 6), second, strict=True):
        torch.testing.assert_close(
            left.eigenvalues, other.eigenvalues * 4 / 6, rtol=1e-9, atol=1e-13
        )


def test_zero_damping_is_the_true_inverse():
    images, module = image_set(40), deep_linear()
    layers, found = curvature(module, images, 3)
    dense = truth(module, layers, images, 3)
    first = curvature_blocks(layers, found, "ekfac")[:2]
    rows = torch.randn(3, layers[-1].stop, generator=torch.Generator().manual_seed(0)).double()
    (inverse,) = preconditioned(first, rows, "absolute", [0.0])
    for block in first:
        expected = torch.linalg.solve(dense[block.span, block.span], rows[:, block.span].T).T
        torch.testing.assert_close(inverse[:, block.span], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("damping_mode", "structure"), [("absolute", "ekfac"), ("mean_eigenvalue", "kfac")]
)
def test_a_grid_of_dampings_is_each_damped_inverse(damping_mode, structure):
    images, module = image_set(5), nonlinear()
    layers, found = curvature(module, images, norms=True)
    rows = torch.randn(2, layers[-1].stop, generator=torch.Generator().manual_seed(0)).double()
    grid = [1e-3, 0.1, 2.0]
    all_ = preconditioned(curvature_blocks(layers, found, structure), rows, damping_mode, grid)
    for block in curvature_blocks(layers, found, structure):
        for value, result in zip(grid, all_, strict=True):
            damping = value * (
                matrix(block).diagonal().mean() if damping_mode == "mean_eigenvalue" else 1
            )
            dense = matrix(block) + damping * torch.eye(len(matrix(block))).double()
            expected = torch.linalg.solve(dense, rows[:, block.span].T).T
            torch.testing.assert_close(result[:, block.span], expected, rtol=1e-9, atol=1e-9)


def test_a_layer_without_curvature_contributes_nothing_and_is_listed():
    module = mixing()
    with torch.no_grad():
        module[1].weight.zero_()
    layers, found = curvature(module, image_set(3))
    parts = curvature_blocks(layers, found, "ekfac")
    assert zero_curvature_blocks(parts) == ["0.weight", "0.bias"]
    rows = torch.ones(1, layers[-1].stop).double()
    for damping_mode in ("absolute", "mean_eigenvalue"):
        (result,) = preconditioned(parts, rows, damping_mode, [1e-3])
        assert (result[:, parts[0].span] == 0).all()
        assert (result[:, parts[-1].span] != 0).all()


def test_a_singular_layer_without_damping_is_refused_by_name():
    layers, found = curvature(deep_linear(), image_set(1), 1)
    with pytest.raises(BegatError, match=r"layers.0.weight: its curvature is singular"):
        preconditioned(
            curvature_blocks(layers, found, "ekfac"),
            torch.ones(1, layers[-1].stop).double(),
            "absolute",
            [0.0],
        )
