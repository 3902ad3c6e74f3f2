"""EK-FAC's corrected eigenvalues: mean squared gradients along K-FAC's eigenvectors.

They are the mean over draws of (Q_B^T [sum_p b_p a_p^T] Q_A)^2 (George et al., arXiv 1806.03884;
letters as in ``influence.curvature``): summed over positions first, squared after.
"""

from collections.abc import Iterator, Mapping
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from begat.influence import winograd
from begat.influence.gradient_source import GradientSource, ImageSet
from begat.influence.gradients import OutputGradientFn, backward_passes
from begat.influence.kronecker import Curvature
from begat.influence.layer_inputs import output_gradients
from begat.influence.layers import Layer
from begat.influence.tape_gradients import gradient_chunks, layer_gradients
from begat.influence.tapes import CACHE_ELEMENTS, Tape

MAX_TILES = 128  # tiles at a time: with fewer, all filters have to be read too often
L2_CACHE_ELEMENTS = 2**18  # elements that stay in the second-level cache

GroupTotals = Float[Tensor, "group feature_out feature_in"]


def corrected_eigenvalues(
    source: GradientSource,
    images: ImageSet,
    output_gradient: OutputGradientFn,
    bases: Curvature,
    *,
    groups: Float[Tensor, "group image"] | None = None,
) -> list[dict[str, dict[str, Tensor]]]:
    """Returns the eigenvalues in the given bases: over all images, or an entry for each group.

    Args:
        source: the network, its layers and the images' draws.
        images: what the network was trained on.
        output_gradient: samples the output gradients.
        bases: from ``influence.curvature.eigenbases``.
        groups: the weight of each image in each group; without it all weigh 1. Eigenvalues of a
            group without images are 0.
    """
    like = source.denoiser.like
    weights = torch.ones(1, len(images)) if groups is None else groups
    weights = weights.to(like)
    totals = {layer.name: _zeros(like, layer, len(weights)) for layer in source.layers}
    for block, tape in backward_passes(source, images, [output_gradient]):
        weight = weights[:, block.images].repeat_interleave(block.draws.count, 1)
        for layer in source.layers:
            for name, term in squared_gradients(tape, layer, bases[layer.name], weight):
                totals[layer.name][name] += term
    draws = source.draws_per_image(images)
    scale = (weights.sum(1) * draws).where(weights.any(1), 1)
    return [
        {layer: {k: (v[g] / s).to(like) for k, v in sums.items()} for layer, sums in totals.items()}
        for g, s in enumerate(scale)
    ]


def _zeros(like: Tensor, layer: Layer, groups: int) -> dict[str, Tensor]:
    sizes: dict[str, tuple[int, ...]] = {"eigenvalues": (layer.out_features, layer.in_features)}
    if not layer.in_features:
        sizes = {"parameter_eigenvalues": (layer.stop - layer.start,)}
    elif layer.has_bias:
        sizes["bias_eigenvalues"] = (layer.out_features,)
    return {
        name: like.new_zeros(groups, *shape, dtype=torch.float64) for name, shape in sizes.items()
    }


def squared_gradients(
    tape: Tape,
    layer: Layer,
    basis: Mapping[str, Tensor],
    weight: Float[Tensor, "group example"],
) -> Iterator[tuple[str, Float[Tensor, "group ..."]]]:
    """Yields squared gradients in the eigenbasis, by name, summed over chunks of examples."""
    if not layer.in_features:
        for chunk, a, b in tape.chunks(layer):
            rows = layer_gradients(layer, a, b) @ basis["parameter_eigenvectors"]
            yield "parameter_eigenvalues", weight[:, chunk] @ rows.square()  # [group, parameter]
        return
    basis_out = basis["gradient_eigenvectors"]  # [feature_out, eigenvector]
    for chunk, squares in _weight_squares(tape, layer, basis, weight):
        yield "eigenvalues", squares
        if layer.has_bias:
            calls = tape.layer_calls(layer)
            sums = (output_gradients(layer.module, b[chunk]).sum(1) for _, b in calls)
            bias = reduce(torch.add, sums) @ basis_out  # [example, eigenvector]
            yield "bias_eigenvalues", weight[:, chunk] @ bias.square()  # [group, eigenvector]


def _weight_squares(
    tape: Tape, layer: Layer, basis: Mapping[str, Tensor], weight: Float[Tensor, "group example"]
) -> Iterator[tuple[slice, GroupTotals]]:
    """Yields squared gradients of a layer's weight for chunks of examples, by the cheapest way."""
    basis_in, basis_out = basis["activation_eigenvectors"], basis["gradient_eigenvectors"]
    module, ((activation, gradient), *others) = layer.module, tape.layer_calls(layer)
    if not others and winograd.is_cheaper(module, activation, gradient):
        filters = winograd.transform_filters(basis_in, activation.shape[1])
        assert isinstance(module, nn.Conv2d)
        tiles = winograd.tile_count(gradient)
        for chunk in tape.slices(layer, tiles, max_elements=MAX_TILES):
            inputs = activation[chunk], gradient[chunk], basis_out, filters
            factors = winograd.eigenbasis_factors(module, *inputs)
            yield chunk, _squared_products(*factors, weight[:, chunk])
        return
    many_positions = gradient[0].numel() >= 2 * layer.out_features**2
    if many_positions and isinstance(module, nn.Conv2d) and module.kernel_size[1] > 1:
        for chunk, weight_gradient in _whole_gradients(tape, layer, module):
            projected = basis_out.T @ (weight_gradient @ basis_in)  # [example, output, input]
            yield chunk, _weighted_squares(projected, weight[:, chunk])
        return
    for chunk, a, b in tape.chunks(layer):
        yield chunk, _position_squares(a, b @ basis_out, basis_in, weight[:, chunk])


def _whole_gradients(
    tape: Tape, layer: Layer, module: nn.Conv2d
) -> Iterator[tuple[slice, Float[Tensor, "example feature_out feature_in"]]]:
    """Yields per-example gradients of a convolution's weight, its kernel rows put together."""
    gradient = tape.layer_calls(layer)[0][1]
    for chunk, kernel_rows in gradient_chunks(tape, layer, len(gradient), CACHE_ELEMENTS):
        examples = len(gradient[chunk])
        whole = gradient.new_empty(examples, layer.out_features, layer.in_features)
        views = whole.chunk(module.kernel_size[0], 2)  # [example, output, window] per kernel row
        for view, kernel_row in zip(views, kernel_rows, strict=False):  # a bias would follow
            view.copy_(kernel_row)
        yield chunk, whole


def _position_squares(
    a: Float[Tensor, "example position feature_in"],
    b: Float[Tensor, "example position feature_out"],
    basis_in: Float[Tensor, "feature_in feature_in"],
    weight: Float[Tensor, "group example"],
) -> GroupTotals:
    """Returns the same from ``a`` and projected ``b``, in the order with fewer products."""
    if a.shape[1] == 1:  # the square of a product is a product of squares
        left, right = b[:, 0].square(), (a[:, 0] @ basis_in).square()  # [example, feature]
        return torch.stack([(left * w[:, None]).T @ right for w in weight])
    if a.shape[1] < b.shape[2]:
        return _squared_products(b.transpose(1, 2), a @ basis_in, weight)
    return _weighted_squares(torch.bmm(b.transpose(1, 2), a) @ basis_in, weight)


def _weighted_squares(
    gradient: Float[Tensor, "example feature_out feature_in"],
    weight: Float[Tensor, "group example"],
) -> GroupTotals:
    squares = gradient.flatten(1).square_()  # [example, output input]
    return (weight @ squares).unflatten(1, gradient.shape[1:])


def _squared_products(
    left: Float[Tensor, "example feature_out point"],
    right: Float[Tensor, "example point feature_in"],
    weight: Float[Tensor, "group example"],
) -> GroupTotals:
    """Returns squares of left @ right, weighted and summed; products stay within a cache."""
    size = left.shape[1], right.shape[2]
    step = max(1, L2_CACHE_ELEMENTS // (size[0] * size[1]))
    buffer = left.new_empty(step, *size)  # [example, output, input]
    total = left.new_zeros(len(weight), size[0] * size[1])  # [group, output input]
    chunks = zip(left.split(step), right.split(step), weight.split(step, 1), strict=True)
    for left_chunk, right_chunk, weight_chunk in chunks:
        product = torch.bmm(left_chunk, right_chunk, out=buffer[: len(left_chunk)])
        total.addmm_(weight_chunk, product.flatten(1).square_())
    return total.unflatten(1, size)
