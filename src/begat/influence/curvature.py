"""Curvature of a denoiser's loss, layer by layer: what is accumulated over images.

The loss of an example is mean_D (output - target)^2, so its Gauss-Newton matrix is
Jac^T (2/D) Jac, the mean of g g^T over g = Jac^T e, e = eta sqrt(2/D), eta ~ N(0, I): the Fisher
matrix of the model, from *fake* output gradients e (Martens & Grosse, arXiv 1503.05671; for
diffusion Mlodozeniec et al., arXiv 2410.13850). With a_p, b_p as in ``influence.layers``:

``expand``   A = mean over examples and positions of a_p a_p^T, B = mean over examples of
             sum_p b_p b_p^T: every position is a case of its own.
``reduce``   a = mean_p a_p, b = sum_p b_p, then as one case (arXiv 2311.00636).

EK-FAC's eigenvalues are the mean over draws of (Q_B^T [sum_p b_p a_p^T] Q_A)^2: summed over
positions first, squared after. All matrices are means over images times draws and carry the mean
over D pixels: a damping for a sum over pixels is D times one for the mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from begat.diffusion.denoisers import Answer, Denoiser
from begat.diffusion.image_draws import DrawsOf
from begat.influence import winograd
from begat.influence.blocks import MAX_EXAMPLES, Block
from begat.influence.convolutions import gram, inputs_gram
from begat.influence.gradients import (
    Back,
    Sample,
    passes,
)
from begat.influence.kronecker import Curvature
from begat.influence.layer_inputs import outputs_of
from begat.influence.layers import Layer
from begat.influence.tape_gradients import layer_gradients, pieces
from begat.influence.tapes import CACHE_NUMBERS, Tape
from begat.rng.torch_generators import torch_generator

Weight = Literal["expand", "reduce"]
MAX_TILES = 128  # tiles at a time: for fewer, all filters have to be read too often
L2_CACHE_NUMBERS = 2**18  # numbers that stay in the second-level cache


def fake_gradients(seed: int, stage: str) -> Back:
    """Gives output gradients eta sqrt(2/D), which belong to (root seed, stage, image)."""

    def of(block: Block, found: Answer) -> Tensor:
        shape = (block.all_draws.number, *found.output.shape[1:])
        eta = [
            torch.randn(shape, generator=torch_generator(seed, stage, "fake", int(i)))[block.run]
            for i in block.names
        ]
        return torch.cat(eta).to(found.output) * (2 / found.dimensions) ** 0.5

    return of


def covariances(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    sample: Sample,
    draws: DrawsOf,
    fake: Back,
    *,
    sharing: Weight = "expand",
    examples: int = MAX_EXAMPLES,
) -> dict[str, dict[str, Tensor]]:
    """The factors A and B of every layer, of a norm layer the whole curvature, in float64."""
    totals = {layer.name: _zeros(denoiser, layer) for layer in layers}
    seen = len(sample) * draws(sample.number[:1]).number
    for _, tape in passes(denoiser, layers, sample, draws, [fake], examples):
        for layer in layers:
            for name, value in products(tape, layer, sharing):
                totals[layer.name][name] += value
    for part in totals.values():
        for total in part.values():
            total /= seen
    return totals


def products(tape: Tape, layer: Layer, sharing: Weight) -> Iterator[tuple[str, Tensor]]:
    """What the examples on a tape add to a layer's factors."""
    if not layer.inputs:
        for _, a, b in tape.pieces(layer):
            yield "parameter", gram(layer_gradients(layer, a, b))
        return
    if sharing == "reduce":
        for _, a, b in tape.pieces(layer):
            yield "activation", gram(a.mean(1))
            yield "gradient", gram(b.sum(1))
        return
    uses = tape.uses(layer)
    positions = sum(back[0].numel() for _, back in uses) // layer.outputs
    for seen, back in uses:
        yield "activation", inputs_gram(layer.module, seen, back) / positions
        yield "gradient", gram(outputs_of(layer.module, back).flatten(0, 1))


def _zeros(denoiser: Denoiser, layer: Layer) -> dict[str, Tensor]:
    sizes = {"activation": layer.inputs, "gradient": layer.outputs}
    sizes = sizes if layer.inputs else {"parameter": layer.stop - layer.start}
    zeros = denoiser.like.new_zeros
    return {name: zeros(n, n, dtype=torch.float64) for name, n in sizes.items()}


def eigenbases(
    covariance: Mapping[str, Mapping[str, Tensor]], like: Tensor
) -> dict[str, dict[str, Tensor]]:
    """Eigenvectors and eigenvalues of every factor, in the dtype of ``like``."""
    found: dict[str, dict[str, Tensor]] = {}
    for layer, parts in covariance.items():
        found[layer] = {}
        for name, matrix in parts.items():
            values, vectors = torch.linalg.eigh(matrix)
            found[layer][f"{name}_eigenvalues"] = values.clamp(min=0).to(like)
            found[layer][f"{name}_eigenvectors"] = vectors.to(like)
    return found


def eigenvalues(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    sample: Sample,
    draws: DrawsOf,
    fake: Back,
    bases: Curvature,
    *,
    groups: Float[Tensor, "group image"] | None = None,
    examples: int = MAX_EXAMPLES,
) -> list[dict[str, dict[str, Tensor]]]:
    """EK-FAC's eigenvalues in the given bases: over all images, or one entry for each group.

    Args:
        denoiser, layers, sample, draws: see ``influence.gradients.image_gradients``.
        fake: the output gradients.
        bases: what ``eigenbases`` returned.
        groups: how much each image counts in each group; without it all count once. Eigenvalues of
            a group without images are 0.
        examples: noisy images per network call, at most.
    """
    number = draws(sample.number[:1]).number
    counts = torch.ones(1, len(sample)) if groups is None else groups
    counts = counts.to(denoiser.like)
    totals = {layer.name: _no_values(denoiser, layer, len(counts)) for layer in layers}
    for block, tape in passes(denoiser, layers, sample, draws, [fake], examples):
        count = counts[:, block.images].repeat_interleave(block.draws.number, 1)
        for layer in layers:
            for name, values in squares(tape, layer, bases[layer.name], count):
                totals[layer.name][name] += values
    scale = (counts.sum(1) * number).where(counts.any(1), 1)
    return [
        {n: {k: (v[g] / s).to(denoiser.like) for k, v in of.items()} for n, of in totals.items()}
        for g, s in enumerate(scale)
    ]


def _no_values(denoiser: Denoiser, layer: Layer, groups: int) -> dict[str, Tensor]:
    sizes: dict[str, tuple[int, ...]] = {"eigenvalues": (layer.outputs, layer.inputs)}
    if not layer.inputs:
        sizes = {"parameter_eigenvalues": (layer.stop - layer.start,)}
    elif layer.bias:
        sizes["bias_eigenvalues"] = (layer.outputs,)
    zeros = denoiser.like.new_zeros
    return {name: zeros(groups, *shape, dtype=torch.float64) for name, shape in sizes.items()}


def squares(
    tape: Tape,
    layer: Layer,
    basis: Mapping[str, Tensor],
    count: Float[Tensor, "group example"],
) -> Iterator[tuple[str, Float[Tensor, "group ..."]]]:
    """Squared gradients in the eigenbasis, summed over each group's examples, piece by piece."""
    if not layer.inputs:
        for some, a, b in tape.pieces(layer):
            rows = layer_gradients(layer, a, b) @ basis["parameter_eigenvectors"]
            yield "parameter_eigenvalues", count[:, some] @ rows.square()
        return
    basis_out = basis["gradient_eigenvectors"]
    for some, values in _weight_squares(tape, layer, basis, count):
        yield "eigenvalues", values
        if layer.bias:
            summed = reduce(
                torch.add, (outputs_of(layer.module, b[some]).sum(1) for _, b in tape.uses(layer))
            )
            yield "bias_eigenvalues", count[:, some] @ (summed @ basis_out).square()


def _weight_squares(
    tape: Tape, layer: Layer, basis: Mapping[str, Tensor], count: Tensor
) -> Iterator[tuple[slice, Float[Tensor, "group output input"]]]:
    """Those of a layer's weight, for some examples after others, by the cheapest way."""
    basis_in, basis_out = basis["activation_eigenvectors"], basis["gradient_eigenvectors"]
    module, (seen, back), *more = layer.module, *tape.uses(layer)
    if not more and winograd.pays(module, seen, back):
        assert isinstance(module, nn.Conv2d)
        number, weights = winograd.number(back), winograd.filters(basis_in, seen.shape[1])
        for some in tape.slices(layer, number, held=MAX_TILES):
            given = seen[some], back[some], basis_out, weights
            yield some, _squares(*winograd.rotated_factors(module, *given), count[:, some])
        return
    many = back[0].numel() >= 2 * layer.outputs**2  # positions beside outputs
    if many and isinstance(module, nn.Conv2d) and module.kernel_size[1] > 1:
        for some, found in pieces(tape, layer, len(back), CACHE_NUMBERS):
            gradient = back.new_empty(len(back[some]), layer.outputs, layer.inputs)
            for view, part in zip(gradient.chunk(module.kernel_size[0], 2), found, strict=False):
                view.copy_(part)
            yield some, _squared(basis_out.T @ (gradient @ basis_in), count[:, some])
        return
    for some, a, b in tape.pieces(layer):
        yield some, _position_squares(a, b @ basis_out, basis_in, count[:, some])


def _position_squares(
    a: Tensor, b: Tensor, basis_in: Tensor, count: Tensor
) -> Float[Tensor, "group output input"]:
    """With one position the square of a product is a product of squares."""
    if a.shape[1] == 1:
        left, right = b[:, 0].square(), (a[:, 0] @ basis_in).square()
        return torch.stack([(left * c[:, None]).T @ right for c in count])
    if a.shape[1] < b.shape[2]:
        return _squares(b.transpose(1, 2), a @ basis_in, count)
    return _squared(torch.bmm(b.transpose(1, 2), a) @ basis_in, count)


def _squared(gradient: Float[Tensor, "example output input"], count: Tensor) -> Tensor:
    return (count @ gradient.flatten(1).square_()).unflatten(1, gradient.shape[1:])


def _squares(
    left: Float[Tensor, "example output point"],
    right: Float[Tensor, "example point input"],
    count: Float[Tensor, "group example"],
) -> Float[Tensor, "group output input"]:
    """The squares of left @ right, summed; products are made, squared and added within a cache."""
    size = left.shape[1], right.shape[2]
    few = max(1, L2_CACHE_NUMBERS // (size[0] * size[1]))
    room, total = left.new_empty(few, *size), left.new_zeros(len(count), size[0] * size[1])
    parts = zip(left.split(few), right.split(few), count.split(few, 1), strict=True)
    for of_left, of_right, counted in parts:
        product = torch.bmm(of_left, of_right, out=room[: len(of_left)])
        total.addmm_(counted, product.flatten(1).square_())
    return total.unflatten(1, size)
