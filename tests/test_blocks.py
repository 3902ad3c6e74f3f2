"""Blocks of examples: the elements on a tape are bounded, and the bound changes no result."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from small import CONDITIONAL, TINY, random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.draws import per_image_draws
from begat.diffusion.schedules import cosine_schedule
from begat.errors import BegatError
from begat.influence import blocks
from begat.influence.blocks import MAX_EXAMPLES, draw_slices, image_slices
from begat.influence.corrected_eigenvalues import corrected_eigenvalues
from begat.influence.curvature import covariances, eigenbases, sampled_output_gradients
from begat.influence.factors import FactorsConfig, factors
from begat.influence.gradient_source import ImageSet, gradient_source
from begat.influence.gradients import (
    backward_passes,
    image_gradients,
    image_losses,
    measurement_gradients,
)
from begat.influence.scores import score
from begat.influence.tracin import score as tracin
from begat.influence.trak import score as trak
from begat.influence.variants import variants

pytestmark = pytest.mark.numerics

IMAGES, DRAWS = 2, 8
GROUPS = np.array([[True, False], [False, True]])


def case(config=TINY, max_examples=MAX_EXAMPLES):
    row = random_rows(config, 1)[0].double()
    denoiser = unet_denoiser(row, config, cosine_schedule(50), "v_prediction", torch.device("cpu"))
    label = np.arange(IMAGES) if config.classes else None
    images = ImageSet(random_images(IMAGES, config), label, range(IMAGES))
    shape = (config.image_channels, config.sample_size, config.sample_size)
    draws = per_image_draws(0, "test", DRAWS, 50, shape, flip=True)
    return gradient_source(denoiser, draws, norms=True, max_examples=max_examples), images


@cache
def elements_of_one(config):
    """The elements that one example puts on a tape."""
    _, tape = next(backward_passes(*case(config, 1), measurement_gradients(["noise"])))
    return tape.elements


def within(monkeypatch, examples, config=TINY):
    """Bound the tape to so many examples."""
    bound = int(elements_of_one(config) * examples)
    monkeypatch.setattr(blocks, "MAX_TAPE_NUMBERS", bound)
    return bound


# one example, less than a part of the draws, a part, less than an image, images, everything
@pytest.mark.parametrize("examples", [1, 2.9, 4, 5, 8, 100])
@pytest.mark.parametrize("parts", [1, 2, DRAWS])
def test_a_tape_holds_no_more_than_its_bound_and_every_example_once(monkeypatch, examples, parts):
    bound, examples_on_tape, largest = within(monkeypatch, examples), [], 0
    for block, tape in backward_passes(*case(), measurement_gradients(["noise"]), parts=parts):
        assert tape.elements <= bound
        largest = max(largest, len(tape.layer_calls(tape.layers[0])[0][0]))
        span = range(DRAWS)[block.span]
        examples_on_tape += [(image, draw) for image in block.ids for draw in span]
        assert block.draws.count == len(span)
    assert examples_on_tape == [(image, draw) for image in range(IMAGES) for draw in range(DRAWS)]
    whole_images = min(IMAGES, int(examples) // DRAWS) * DRAWS
    assert largest >= (whole_images or min(int(examples), DRAWS // parts))


def test_an_example_larger_than_the_bound_goes_alone(monkeypatch):
    monkeypatch.setattr(blocks, "MAX_TAPE_NUMBERS", 1)
    spans = [block.span for block, _ in backward_passes(*case(), measurement_gradients(["noise"]))]
    assert spans == [slice(i, i + 1) for i in range(DRAWS)] * IMAGES


@pytest.mark.parametrize("parts", [1, 2, 3, 12])
def test_a_slice_of_draws_consists_of_whole_parts_or_lies_in_one(parts):
    length = 12 // parts
    for examples in range(1, 14):
        spans = list(draw_slices(12, parts, examples))
        assert [draw for span in spans for draw in range(12)[span]] == list(range(12))
        for span in spans:
            assert span.stop - span.start <= examples
            whole = span.start % length == span.stop % length == 0
            assert whole or span.start // length == (span.stop - 1) // length


def test_as_many_images_go_together_as_fit_with_all_their_draws():
    assert list(image_slices(range(5), 4, 11)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(image_slices(range(2), 4, 1)) == [slice(0, 1), slice(1, 2)]


@pytest.mark.parametrize(
    ("config", "parts"),
    [(CONDITIONAL, 1), (TINY, 2), (TINY, DRAWS)],
    ids=["with classes", "in halves", "draw by draw"],
)
def test_gradients_do_not_depend_on_the_bound(monkeypatch, config, parts):
    def rows():
        stream = image_gradients(*case(config), ("noise", "training"), parts=parts)
        return [torch.cat(blocks, 1) for blocks in zip(*(r for _, r in stream), strict=True)]

    whole = rows()
    for examples in (3, 5):
        within(monkeypatch, examples, config)
        for bounded, expected in zip(rows(), whole, strict=True):
            torch.testing.assert_close(bounded, expected, rtol=1e-9, atol=1e-12)


def test_curvature_does_not_depend_on_the_bound(monkeypatch):
    passes = *case(), sampled_output_gradients(0, "test")
    bases = eigenbases(covariances(*passes), torch.zeros(0).double())

    def curvature():
        groups = torch.from_numpy(GROUPS).double()
        return [covariances(*passes), *corrected_eigenvalues(*passes, bases, groups=groups)]

    whole = curvature()
    within(monkeypatch, 3)
    for one, two in zip(curvature(), whole, strict=True):
        for layer, parts in two.items():
            for name, value in parts.items():
                torch.testing.assert_close(one[layer][name], value, rtol=1e-9, atol=1e-12)


def test_scores_do_not_depend_on_the_bound(monkeypatch):
    source, images = case()
    curvature = factors(source.denoiser, images, GROUPS, FactorsConfig(4), seed=0)
    queries = ImageSet(random_images(2, TINY, seed=1), None, range(IMAGES, IMAGES + 2))

    def scores():
        grid = variants("mean_eigenvalue", [0.1])
        influence = score(source, curvature, images, queries, grid, member_of=GROUPS)
        methods = ("trak", "dtrak", "das")
        family = {m: trak(source, images, queries, m, [0.1], seed=0) for m in methods}
        losses = image_losses(source, images).numpy()
        steps = tracin([source], [0.1], images, queries)
        return influence | family | {"tracin": steps, "loss": losses}

    whole = scores()
    within(monkeypatch, 3)
    for name, value in scores().items():
        if name != "chosen" and not name.startswith("reliability"):
            scale = np.abs(whole[name]).max()
            np.testing.assert_allclose(value, whole[name], rtol=1e-9, atol=1e-9 * scale)


def test_a_gradient_that_is_not_finite_is_named_in_a_slice_of_draws_too(monkeypatch):
    source, images = case()
    within(monkeypatch, 1)

    def with_nan(ids):
        draws = source.draws(ids)
        draws.noise[:, 5] = np.nan
        return draws

    with pytest.raises(BegatError, match="gradient of image 0 is not finite in draw 5 "):
        list(image_gradients(replace(source, draws=with_nan), images))
