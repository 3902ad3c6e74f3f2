"""Kronecker-factored curvature of a denoiser's loss, layer by layer: covariances and eigenbases.

The loss of an example is mean_D (output - target)^2, so its Gauss-Newton matrix is
Jac^T (2/D) Jac, the mean of g g^T over g = Jac^T e, e = eta sqrt(2/D), eta ~ N(0, I): the Fisher
matrix of the model, from *sampled* output gradients e (Martens & Grosse, arXiv 1503.05671; for
diffusion Mlodozeniec et al., arXiv 2410.13850). With a_p, b_p as in ``influence.layers``:

``expand``   A = mean over examples and positions of a_p a_p^T, B = mean over examples of
             sum_p b_p b_p^T: every position is a case of its own.
``reduce``   a = mean_p a_p, b = sum_p b_p, then as one case (arXiv 2311.00636).

All matrices are means over images times draws and carry the mean over D pixels: a damping for a sum
over pixels is D times one for the mean.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.denoisers import DenoiserOutput
from begat.influence.blocks import ExampleBlock
from begat.influence.convolutions import gram, input_covariance
from begat.influence.gradient_source import GradientSource, ImageSet
from begat.influence.gradients import OutputGradientFn, backward_passes
from begat.influence.layer_inputs import output_gradients
from begat.influence.layers import Layer
from begat.influence.tape_gradients import layer_gradients
from begat.influence.tapes import Tape
from begat.rng.torch_generators import torch_generator

WeightSharing = Literal["expand", "reduce"]


def sampled_output_gradients(seed: int, stage: str) -> OutputGradientFn:
    """Returns output gradients eta sqrt(2/D), eta a function of (root seed, stage, image)."""

    def sample(block: ExampleBlock, output: DenoiserOutput) -> Tensor:
        shape = (block.all_draws.count, *output.output.shape[1:])
        generators = [torch_generator(seed, stage, "fake", int(i)) for i in block.ids]
        eta = [torch.randn(shape, generator=g)[block.span] for g in generators]
        return torch.cat(eta).to(output.output) * (2 / output.dimensions) ** 0.5

    return sample


def covariances(
    source: GradientSource,
    images: ImageSet,
    output_gradient: OutputGradientFn,
    *,
    weight_sharing: WeightSharing = "expand",
) -> dict[str, dict[str, Tensor]]:
    """Returns A and B of every layer, of a norm layer the whole curvature, in float64."""
    totals = {layer.name: _zeros(source.denoiser.like, layer) for layer in source.layers}
    examples = len(images) * source.draws_per_image(images)
    for _, tape in backward_passes(source, images, [output_gradient]):
        for layer in source.layers:
            for name, term in covariance_terms(tape, layer, weight_sharing):
                totals[layer.name][name] += term
    for matrices in totals.values():
        for total in matrices.values():
            total /= examples
    return totals


def covariance_terms(
    tape: Tape, layer: Layer, weight_sharing: WeightSharing
) -> Iterator[tuple[str, Float[Tensor, "feature feature"]]]:
    """Yields what the examples on a tape add to a layer's factors, by name of the factor."""
    if not layer.in_features:
        for _, a, b in tape.chunks(layer):  # [example, position, feature]
            yield "parameter", gram(layer_gradients(layer, a, b))  # [parameter, parameter]
        return
    if weight_sharing == "reduce":
        for _, a, b in tape.chunks(layer):
            yield "activation", gram(a.mean(1))  # [feature_in, feature_in]
            yield "gradient", gram(b.sum(1))  # [feature_out, feature_out]
        return
    calls = tape.layer_calls(layer)
    positions = sum(gradient[0].numel() for _, gradient in calls) // layer.out_features
    for activation, gradient in calls:
        yield "activation", input_covariance(layer.module, activation, gradient) / positions
        b = output_gradients(layer.module, gradient).flatten(0, 1)  # [example position, feature]
        yield "gradient", gram(b)


def _zeros(like: Tensor, layer: Layer) -> dict[str, Tensor]:
    sizes = {"activation": layer.in_features, "gradient": layer.out_features}
    if not layer.in_features:
        sizes = {"parameter": layer.stop - layer.start}
    return {name: like.new_zeros(n, n, dtype=torch.float64) for name, n in sizes.items()}


def eigenbases(
    covariance: Mapping[str, Mapping[str, Tensor]], like: Tensor
) -> dict[str, dict[str, Tensor]]:
    """Returns eigenvectors and eigenvalues of every factor, in the dtype of ``like``."""
    bases: dict[str, dict[str, Tensor]] = {}
    for layer, matrices in covariance.items():
        bases[layer] = {}
        for name, matrix in matrices.items():
            values, vectors = torch.linalg.eigh(matrix)
            bases[layer][f"{name}_eigenvalues"] = values.clamp(min=0).to(like)
            bases[layer][f"{name}_eigenvectors"] = vectors.to(like)
    return bases
