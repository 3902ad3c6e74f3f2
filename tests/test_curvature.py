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
    noisy,
    sample,
    seeded,
)
from torch import nn

from begat.errors import BegatError
from begat.influence.curvature import (
    covariances,
    eigenbases,
    eigenvalues,
    fake_gradients,
    passes,
)
from begat.influence.gradients import part_gradients
from begat.influence.kronecker import blocks, dead_blocks, preconditioned, without
from begat.influence.layers import covered_layers

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


def curvature(module, images, number=2, *, norms=False, **how):
    """Layers and their curvature, the fake gradients' expectation taken exactly."""
    layers = covered_layers(module, norms=norms)
    asked = denoiser(module), layers, images, for_every_pixel(draws(number)), every_pixel
    bases = eigenbases(covariances(*asked, **how), LIKE)
    (values,) = eigenvalues(*asked, bases)
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
        for name, at in layer.parameters(marks).items():
            order[at.flatten().long()] = index[name].flatten()
    assert total >= len(order)
    return gauss_newton(module, x)[order][:, order]


def test_fake_gradients_pulled_back_are_the_gauss_newton_matrix():
    module, images = nonlinear(), sample(3)
    layers = covered_layers(module, norms=True)
    asked = denoiser(module), layers, images, for_every_pixel(draws(2)), [every_pixel]
    total = 0
    for some, _, tape in passes(*asked):
        n = 2 * 4 * (some.stop - some.start)
        rows = part_gradients(tape, n, 1)[0]
        total = total + rows.T @ rows
    torch.testing.assert_close(
        total / (3 * 2 * 4), truth(module, layers, images), rtol=1e-9, atol=1e-12
    )


def test_fake_gradients_have_the_variance_of_the_loss_and_belong_to_an_image():
    module, images = nonlinear(), sample(2)
    fake = fake_gradients(3, "test")
    dealt = draws(2000)(range(2))
    from begat.diffusion.denoisers import answer

    found = answer(denoiser(module), images.images(slice(0, 2)), None, dealt)
    both = fake([5, 9], dealt, found)
    assert both.var().item() == pytest.approx(2 / 4, rel=0.05)
    one = answer(denoiser(module), images.images(slice(1, 2)), None, draws(2000)([1]))
    assert torch.equal(both[2000:], fake([9], draws(2000)([1]), one))


@pytest.mark.parametrize("structure", ["kfac", "ekfac"])
@pytest.mark.parametrize(
    ("module", "images", "number"),
    [(deep_linear(), 5, 3), (deep(), 1, 1), (per_position(), 4, 2)],
    ids=["deep linear", "one draw", "every layer above acts by position"],
)
def test_blocks_are_exact_where_inputs_and_gradients_are_independent(
    module, images, number, structure
):
    images = sample(images)
    layers, found = curvature(module, images, number)
    dense = truth(module, layers, images, number)
    for block in blocks(layers, found, structure):
        expected = dense[block.place, block.place]
        torch.testing.assert_close(matrix(block), expected, rtol=1e-8, atol=1e-10)


def test_positions_that_a_later_layer_mixes_make_expand_inexact_except_in_the_last_layer():
    images = sample(4)
    module = mixing()
    layers, found = curvature(module, images)
    dense = truth(module, layers, images)
    first, _, last, _ = blocks(layers, found, "kfac")
    torch.testing.assert_close(matrix(last), dense[last.place, last.place], rtol=1e-8, atol=1e-10)
    wrong = matrix(first) - dense[first.place, first.place]
    assert wrong.norm() > 0.1 * dense[first.place, first.place].norm()


def test_one_example_is_not_exact_where_weights_are_shared():
    images = sample(1)
    layers, found = curvature(mixing(), images, 1)
    dense = truth(mixing(), layers, images, 1)
    block = blocks(layers, found, "kfac")[0]
    assert (matrix(block) - dense[block.place, block.place]).norm() > 0.01


def test_reduce_is_exact_for_biases_and_differs_from_expand_elsewhere():
    images = sample(4)
    layers, reduced = curvature(mixing(), images, sharing="reduce")
    _, expanded = curvature(mixing(), images)
    dense = truth(mixing(), layers, images)
    for block in blocks(layers, reduced, "kfac"):
        if block.name.endswith("bias"):
            torch.testing.assert_close(
                matrix(block), dense[block.place, block.place], rtol=1e-8, atol=1e-10
            )
    a, b = (blocks(layers, found, "kfac")[0] for found in (reduced, expanded))
    assert (matrix(a) - matrix(b)).norm() > 0.1 * matrix(b).norm()


def test_ekfac_has_the_true_diagonal_in_its_basis_the_true_trace_and_less_error_than_kfac():
    images, module = sample(5), nonlinear()
    layers, found = curvature(module, images, 3, norms=True)
    dense = truth(module, layers, images, 3)
    exact, product = blocks(layers, found, "ekfac"), blocks(layers, found, "kfac")
    for block, other in zip(exact, product, strict=True):
        expected = dense[block.place, block.place]
        basis_in = block.basis_in if block.basis_in is not None else torch.eye(1).double()
        basis = torch.kron(block.basis_out, basis_in)
        diagonal = (basis.T @ expected @ basis).diagonal()
        torch.testing.assert_close(block.eigenvalues.flatten(), diagonal, rtol=1e-8, atol=1e-12)
        assert block.eigenvalues.sum().item() == pytest.approx(expected.trace().item(), rel=1e-9)
        error, rival = ((matrix(b) - expected).norm().item() for b in (block, other))
        assert error <= rival * (1 + 1e-9) + 1e-12


def test_a_normalisation_layer_is_one_exact_dense_block():
    images, module = sample(5), nonlinear()
    layers, found = curvature(module, images, 3, norms=True)
    dense = truth(module, layers, images, 3)
    (norm,) = [b for b in blocks(layers, found, "ekfac") if b.name == "1"]
    torch.testing.assert_close(matrix(norm), dense[norm.place, norm.place], rtol=1e-8, atol=1e-12)


def test_neither_blocks_of_images_nor_their_order_change_the_curvature(monkeypatch):
    images, module = sample(5), nonlinear()
    layers = covered_layers(module, norms=True)

    def found(some, **how):
        asked = denoiser(module), layers, some, draws(4), fake_gradients(0, "test")
        factors = covariances(*asked, **how)
        return factors, eigenvalues(*asked, bases, **how)[0]

    asked = denoiser(module), layers, images, draws(4), fake_gradients(0, "test")
    bases = eigenbases(covariances(*asked), LIKE)
    whole = found(images)
    monkeypatch.setattr("begat.influence.layers.HELD", 20)
    monkeypatch.setattr("begat.influence.convolutions.TILE", 4)
    for other in (found(images, examples=4), found(images.only([3, 1, 0, 4, 2]), examples=8)):
        for one, two in zip(whole, other, strict=True):
            for layer, parts in one.items():
                for name, value in parts.items():
                    torch.testing.assert_close(two[layer][name], value, rtol=1e-9, atol=1e-13)


def test_groups_eigenvalues_add_up_and_taking_one_away_leaves_the_others():
    images, module = sample(6), nonlinear()
    layers = covered_layers(module, norms=True)
    asked = denoiser(module), layers, images, for_every_pixel(draws(2)), every_pixel
    bases = eigenbases(covariances(*asked), LIKE)
    (everyone,) = eigenvalues(*asked, bases)
    member_of = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
    groups = eigenvalues(*asked, bases, groups=member_of)
    whole, first, second = (
        blocks(layers, {n: bases[n] | v[n] for n in v}, "ekfac") for v in (everyone, *groups)
    )
    for left, other in zip(without(whole, first, 2 / 6), second, strict=True):
        torch.testing.assert_close(
            left.eigenvalues, other.eigenvalues * 4 / 6, rtol=1e-9, atol=1e-13
        )


def test_zero_damping_is_the_true_inverse():
    images, module = sample(40), deep_linear()
    layers, found = curvature(module, images, 3)
    dense = truth(module, layers, images, 3)
    first = blocks(layers, found, "ekfac")[:2]
    rows = torch.randn(3, layers[-1].stop, generator=torch.Generator().manual_seed(0)).double()
    (inverse,) = preconditioned(first, rows, "absolute", [0.0])
    for block in first:
        expected = torch.linalg.solve(dense[block.place, block.place], rows[:, block.place].T).T
        torch.testing.assert_close(inverse[:, block.place], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "structure"), [("absolute", "ekfac"), ("mean_eigenvalue", "kfac")]
)
def test_a_grid_of_dampings_is_each_damped_inverse(kind, structure):
    images, module = sample(5), nonlinear()
    layers, found = curvature(module, images, norms=True)
    rows = torch.randn(2, layers[-1].stop, generator=torch.Generator().manual_seed(0)).double()
    grid = [1e-3, 0.1, 2.0]
    all_ = preconditioned(blocks(layers, found, structure), rows, kind, grid)
    for block in blocks(layers, found, structure):
        for value, result in zip(grid, all_, strict=True):
            damping = value * (matrix(block).diagonal().mean() if kind == "mean_eigenvalue" else 1)
            dense = matrix(block) + damping * torch.eye(len(matrix(block))).double()
            expected = torch.linalg.solve(dense, rows[:, block.place].T).T
            torch.testing.assert_close(result[:, block.place], expected, rtol=1e-9, atol=1e-9)


def test_a_dead_layer_contributes_nothing_and_is_counted():
    module = mixing()
    with torch.no_grad():
        module[1].weight.zero_()
    layers, found = curvature(module, sample(3))
    parts = blocks(layers, found, "ekfac")
    assert dead_blocks(parts) == ["0.weight", "0.bias"]
    rows = torch.ones(1, layers[-1].stop).double()
    for kind in ("absolute", "mean_eigenvalue"):
        (result,) = preconditioned(parts, rows, kind, [1e-3])
        assert (result[:, parts[0].place] == 0).all()
        assert (result[:, parts[-1].place] != 0).all()


def test_a_singular_layer_without_damping_is_refused_by_name():
    layers, found = curvature(deep_linear(), sample(1), 1)
    with pytest.raises(BegatError, match=r"layers.0.weight: its curvature is singular"):
        preconditioned(
            blocks(layers, found, "ekfac"),
            torch.ones(1, layers[-1].stop).double(),
            "absolute",
            [0.0],
        )
