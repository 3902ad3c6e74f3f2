"""Gradients by image: what they are, and what they do not depend on."""

import numpy as np
import pytest
import torch
from small import ATTENTIVE, CONDITIONAL, TINY, random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.draws import common_draws, per_image_draws, unmirrored
from begat.diffusion.schedules import cosine_schedule, diffuse, predicted_noise, training_target
from begat.errors import BegatError
from begat.influence.blocks import MAX_EXAMPLES
from begat.influence.gradient_source import ImageSet, gradient_source
from begat.influence.gradients import image_gradients, mean_gradient

pytestmark = pytest.mark.numerics

SCHEDULE = cosine_schedule(50)
CPU = torch.device("cpu")


def source(config=TINY, prediction="epsilon", double=True, max_examples=MAX_EXAMPLES, **draws):
    row = random_rows(config, 1)[0]
    row = row.double() if double else row
    denoiser = unet_denoiser(row, config, SCHEDULE, prediction, CPU)
    sampler = sampled_draws(config, **draws)
    return gradient_source(denoiser, sampler, norms=True, max_examples=max_examples)


def image_set(config=TINY, images=5):
    label = np.arange(images) % config.classes if config.classes else None
    return ImageSet(random_images(images, config), label, range(images))


def sampled_draws(config=TINY, draws=4, sampler=common_draws, flip=False):
    shape = (config.image_channels, config.sample_size, config.sample_size)
    return sampler(3, "test", draws, 50, shape, flip=flip)


def gradient_rows(source, images, *args, **kwargs):
    blocks = list(image_gradients(source, images, *args, **kwargs))
    return [torch.cat([rows[i] for _, rows in blocks], 1) for i in range(len(blocks[0][1]))]


MEASURED = {
    "training": lambda out, target, noise, predicted: (out - target).square().mean(),
    "noise": lambda out, target, noise, predicted: (predicted - noise).square().mean(),
    "square": lambda out, target, noise, predicted: predicted.square().mean(),
    "mean": lambda out, target, noise, predicted: predicted.mean(),
}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("config", [ATTENTIVE, CONDITIONAL], ids=["attentive", "conditional"])
def test_every_measurements_gradient_is_that_of_autograd(config, prediction):
    differentiated = source(config, prediction, sampler=per_image_draws, flip=True, draws=8)
    images = image_set(config, images=2)
    found = gradient_rows(differentiated, images, list(MEASURED))
    module, d = differentiated.denoiser.module, differentiated.draws(images.ids)
    parameters = dict(module.named_parameters())
    for i, image in enumerate(images.images(slice(0, 2)).double()):
        clean = torch.stack([image.flip(-1) if f else image for f in d.flip[i]])
        noise = d.noise[i].double()
        noisy = diffuse(SCHEDULE, clean, d.timestep[i], noise)
        label = torch.full((8,), i) if config.classes else None
        out = module(noisy, d.timestep[i], class_labels=label).sample
        target = training_target(SCHEDULE, prediction, clean, d.timestep[i], noise)
        predicted = predicted_noise(SCHEDULE, prediction, out, noisy, d.timestep[i])
        for measurement, rows in zip(MEASURED.values(), found, strict=True):
            loss = measurement(out, target, noise, predicted)
            layers = differentiated.layers
            named = {k: v for x in layers for k, v in x.named_parameters(rows[0, i]).items()}
            truth = torch.autograd.grad(loss, [parameters[n] for n in named], retain_graph=True)
            for value, expected in zip(named.values(), truth, strict=True):
                torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("sampler", [common_draws, per_image_draws])
def test_neither_blocks_nor_order_change_a_gradient(sampler):
    images = image_set()
    (whole,) = gradient_rows(source(sampler=sampler), images)
    for examples in (1, 8, 12):
        (blocked,) = gradient_rows(source(sampler=sampler, max_examples=examples), images)
        torch.testing.assert_close(blocked, whole, rtol=1e-9, atol=1e-12)
    order = [3, 0, 4, 1, 2]
    (shuffled,) = gradient_rows(source(sampler=sampler), images.subset(order))
    torch.testing.assert_close(shuffled, whole[:, order], rtol=1e-9, atol=1e-12)


def test_the_mean_over_parts_is_the_gradient_by_all_draws():
    images = image_set()
    (whole,) = gradient_rows(source(draws=8), images)
    (halves,) = gradient_rows(source(draws=8), images, parts=2)
    (single,) = gradient_rows(source(draws=8), images, parts=8)
    assert halves.shape[0] == 2
    assert single.shape[0] == 8
    torch.testing.assert_close(halves.mean(0), whole[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(single.mean(0), whole[0], rtol=1e-9, atol=1e-12)
    mean = mean_gradient(source(draws=8), images, "noise")
    torch.testing.assert_close(mean, whole.mean(1, keepdim=True), rtol=1e-9, atol=1e-12)


def test_halves_hold_whole_antithetic_pairs_from_every_part_of_time():
    draws = sampled_draws(draws=16)([0, 1]).split(2)
    for half in (slice(0, 8), slice(8, 16)):
        noise, t = draws.noise[0, half], draws.timestep[0, half]
        torch.testing.assert_close(noise[::2], -noise[1::2])
        assert t.min() < 50 / 4 < 3 * 50 / 4 < t.max()
    with pytest.raises(BegatError, match="6 draws cannot be split into 2 parts .* multiple of 4"):
        sampled_draws(draws=6)([0]).split(2)


def test_shared_draws_are_all_images_own_and_other_draws_are_not():
    shared, own = sampled_draws(flip=True)([4, 9]), sampled_draws(sampler=per_image_draws)([4, 9])
    assert torch.equal(shared.noise[0], shared.noise[1])
    assert not torch.equal(own.noise[0], own.noise[1])
    assert torch.equal(own.noise[1], sampled_draws(sampler=per_image_draws)([9]).noise[0])


@pytest.mark.parametrize("sampler", [common_draws, per_image_draws])
@pytest.mark.parametrize("draws", [4, 8, 12, 16, 32])
def test_half_of_every_stretch_of_time_is_mirrored_whatever_the_number_of_draws(draws, sampler):
    found = sampled_draws(draws=draws, sampler=sampler, flip=True)([4, 9])
    for part in range(parts := 1 if draws % 8 else 2):
        of_part = slice(part * draws // parts, (part + 1) * draws // parts)
        split = found.split(parts)
        for flip, noise in zip(split.flip[:, of_part], split.noise[:, of_part], strict=True):
            assert torch.equal(flip[::2], flip[1::2])
            torch.testing.assert_close(noise[::2], -noise[1::2])
            assert (flip.view(-1, 4).sum(1) == 2).all()
    plain = unmirrored(sampled_draws(draws=draws, sampler=sampler, flip=True))([4, 9])
    assert not plain.flip.any()
    unflipped = sampled_draws(draws=draws, sampler=sampler)([4, 9])
    for one in (plain, found):
        assert torch.equal(one.noise, unflipped.noise)
        assert torch.equal(one.timestep, unflipped.timestep)


@pytest.mark.parametrize("draws", [4, 8, 16])
def test_mirroring_does_not_go_with_time(draws):
    found = sampled_draws(draws=draws, sampler=per_image_draws, flip=True)(range(4000))
    means = [found.timestep[found.flip == mirrored].float().mean() for mirrored in (True, False)]
    # 50 timesteps; of independent means of 4,000 halves of the draws five standard errors
    assert abs(means[0] - means[1]) < 5 * 50 / 12**0.5 / (4000 * draws / 4) ** 0.5


def test_draws_that_cannot_be_mirrored_by_halves_are_refused():
    with pytest.raises(BegatError, match="half .* mirrored: expected a multiple of 4, found 10"):
        sampled_draws(draws=10, flip=True)
    with pytest.raises(BegatError, match="12 draws .* half of them mirrored: .* multiple of 8"):
        sampled_draws(draws=12, flip=True)([0]).split(2)


def test_a_gradient_that_is_not_finite_is_named_with_its_draw():
    pixels = image_set().images(slice(0, 5)).numpy().copy()
    pixels[2] = np.nan
    t = int(sampled_draws()([0]).timestep[0, 0])
    with pytest.raises(BegatError, match=rf"gradient of image 12 is not finite in draw 0 .*{t}\)"):
        gradient_rows(source(), ImageSet(pixels, None, range(10, 15)))


def test_for_a_v_model_the_measured_loss_is_the_training_loss_times_alpha_bar():
    differentiated = source(prediction="v_prediction")
    training, noise = gradient_rows(differentiated, image_set(), ("training", "noise"), parts=4)
    alpha_bar = SCHEDULE.alpha_bar[sampled_draws()([0]).timestep[0]][:, None, None]
    torch.testing.assert_close(noise, training * alpha_bar, rtol=1e-9, atol=1e-14)
