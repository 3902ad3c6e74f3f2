"""Blocks of examples: how much a tape holds at once, and that it changes no result."""

from functools import cache

import numpy as np
import pytest
import torch
from small import CONDITIONAL, TINY, random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.image_draws import own_draws
from begat.diffusion.schedules import cosine_schedule
from begat.errors import BegatError
from begat.influence import blocks
from begat.influence.blocks import blocks_of, runs_of
from begat.influence.curvature import covariances, eigenbases, eigenvalues, fake_gradients
from begat.influence.factors import factors
from begat.influence.gradients import Sample, backs_of, image_gradients, image_losses, passes
from begat.influence.layers import covered_layers
from begat.influence.scores import score, variants
from begat.influence.tracin import score as tracin
from begat.influence.trak import score as trak

pytestmark = pytest.mark.numerics

IMAGES, DRAWS = 2, 8
GROUPS = np.array([[True, False], [False, True]])


def case(config=TINY):
    row = random_rows(config, 1)[0].double()
    denoiser = unet_denoiser(row, config, cosine_schedule(50), "v_prediction", torch.device("cpu"))
    label = np.arange(IMAGES) if config.classes else None
    sample = Sample(random_images(IMAGES, config), label, range(IMAGES))
    shape = (config.image_channels, config.sample_size, config.sample_size)
    draws = own_draws(0, "test", DRAWS, 50, shape, flip=True)
    return denoiser, covered_layers(denoiser.module, norms=True), sample, draws


@cache
def numbers_of_one(config):
    """How many numbers one example puts on a tape."""
    _, tape = next(passes(*case(config), backs_of(["noise"]), examples=1))
    return tape.numbers


def within(monkeypatch, examples, config=TINY):
    """Let a tape hold no more than so many examples."""
    bound = int(numbers_of_one(config) * examples)
    monkeypatch.setattr(blocks, "MAX_TAPE_NUMBERS", bound)
    return bound


# one example, less than a part of the draws, a part, less than an image, images, everything
@pytest.mark.parametrize("examples", [1, 2.9, 4, 5, 8, 100])
@pytest.mark.parametrize("parts", [1, 2, DRAWS])
def test_a_tape_holds_no_more_than_its_bound_and_every_example_once(monkeypatch, examples, parts):
    bound, seen, largest = within(monkeypatch, examples), [], 0
    for block, tape in passes(*case(), backs_of(["noise"]), parts=parts):
        assert tape.numbers <= bound
        largest = max(largest, len(tape.uses(tape.layers[0])[0][0]))
        run = range(DRAWS)[block.run]
        seen += [(name, draw) for name in block.names for draw in run]
        assert block.draws.number == len(run)
    assert seen == [(image, draw) for image in range(IMAGES) for draw in range(DRAWS)]
    whole_images = min(IMAGES, int(examples) // DRAWS) * DRAWS
    assert largest >= (whole_images or min(int(examples), DRAWS // parts))


def test_an_example_larger_than_the_bound_goes_alone(monkeypatch):
    monkeypatch.setattr(blocks, "MAX_TAPE_NUMBERS", 1)
    runs = [block.run for block, _ in passes(*case(), backs_of(["noise"]))]
    assert runs == [slice(i, i + 1) for i in range(DRAWS)] * IMAGES


@pytest.mark.parametrize("parts", [1, 2, 3, 12])
def test_a_run_of_draws_holds_whole_parts_or_lies_in_one(parts):
    length = 12 // parts
    for examples in range(1, 14):
        runs = list(runs_of(12, parts, examples))
        assert [draw for run in runs for draw in range(12)[run]] == list(range(12))
        for run in runs:
            assert run.stop - run.start <= examples
            whole = run.start % length == run.stop % length == 0
            assert whole or run.start // length == (run.stop - 1) // length


def test_as_many_images_go_together_as_fit_with_all_their_draws():
    assert list(blocks_of(range(5), 4, 11)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(blocks_of(range(2), 4, 1)) == [slice(0, 1), slice(1, 2)]


@pytest.mark.parametrize(
    ("config", "how"),
    [(CONDITIONAL, {}), (TINY, {"parts": 2}), (TINY, {"each_draw": True})],
    ids=["with classes", "in halves", "draw by draw"],
)
def test_gradients_do_not_depend_on_the_bound(monkeypatch, config, how):
    def rows():
        found = image_gradients(*case(config), ("noise", "training"), **how)
        return [torch.cat(of, 1) for of in zip(*(rows for _, rows in found), strict=True)]

    whole = rows()
    for examples in (3, 5):
        within(monkeypatch, examples, config)
        for found, expected in zip(rows(), whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_curvature_does_not_depend_on_the_bound(monkeypatch):
    asked = *case(), fake_gradients(0, "test")
    bases = eigenbases(covariances(*asked), torch.zeros(0).double())

    def found():
        groups = torch.from_numpy(GROUPS).double()
        return [covariances(*asked), *eigenvalues(*asked, bases, groups=groups)]

    whole = found()
    within(monkeypatch, 3)
    for one, two in zip(found(), whole, strict=True):
        for layer, parts in two.items():
            for name, value in parts.items():
                torch.testing.assert_close(one[layer][name], value, rtol=1e-9, atol=1e-12)


def test_scores_do_not_depend_on_the_bound(monkeypatch):
    denoiser, _, images, draws = case()
    curvature = factors(denoiser, images, GROUPS, seed=0, draws=4)
    queries = Sample(random_images(2, TINY, seed=1), None, range(IMAGES, IMAGES + 2))

    def found():
        asked = images, queries, draws
        wanted = variants("mean_eigenvalue", [0.1])
        influence = score(denoiser, curvature, *asked, wanted, member_of=GROUPS)
        family = {m: trak(denoiser, *asked, m, [0.1], seed=0) for m in ("trak", "dtrak", "das")}
        losses = image_losses(denoiser, images, draws).numpy()
        return influence | family | {"tracin": tracin([denoiser], [0.1], *asked), "loss": losses}

    whole = found()
    within(monkeypatch, 3)
    for name, value in found().items():
        if name != "chosen" and not name.startswith("reliability"):
            scale = np.abs(whole[name]).max()
            np.testing.assert_allclose(value, whole[name], rtol=1e-9, atol=1e-9 * scale)


def test_a_gradient_that_is_not_finite_is_named_in_a_run_of_draws_too(monkeypatch):
    denoiser, layers, sample, draws = case()
    within(monkeypatch, 1)

    def sick(names):
        dealt = draws(names)
        dealt.noise[:, 5] = np.nan
        return dealt

    with pytest.raises(BegatError, match="gradient of image 0 is not finite in draw 5 "):
        list(image_gradients(denoiser, layers, sample, sick))
