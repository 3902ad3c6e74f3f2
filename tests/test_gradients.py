"""Gradients by image: what they are, and what they do not depend on."""

import numpy as np
import pytest
import torch
from begat.diffusion.image_draws import common_draws, own_draws, unmirrored
from small import ATTENTIVE, CONDITIONAL, TINY, random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.schedules import cosine_schedule, diffuse, predicted_noise, training_target
from begat.errors import BegatError
from begat.influence.gradients import Sample, image_gradients, mean_gradient
from begat.influence.layers import covered_layers

pytestmark = pytest.mark.numerics

SCHEDULE = cosine_schedule(50)
CPU = torch.device("cpu")


def case(config=TINY, prediction="epsilon", images=5, double=True):
    row = random_rows(config, 1)[0]
    row = row.double() if double else row
    denoiser = unet_denoiser(row, config, SCHEDULE, prediction, CPU)
    label = np.arange(images) % config.classes if config.classes else None
    sample = Sample(random_images(images, config), label, range(images))
    return denoiser, covered_layers(denoiser.module, norms=True), sample


def dealt(config=TINY, draws=4, of=common_draws, flip=False):
    shape = (config.image_channels, config.sample_size, config.sample_size)
    return of(3, "test", draws, 50, shape, flip=flip)


def rows_of(*args, **kwargs):
    blocks = list(image_gradients(*args, **kwargs))
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
    denoiser, layers, sample = case(config, prediction, images=2)
    draws = dealt(config, of=own_draws, flip=True, draws=8)
    found = rows_of(denoiser, layers, sample, draws, list(MEASURED))
    module, d = denoiser.module, draws(sample.number)
    parameters = dict(module.named_parameters())
    for i, image in enumerate(sample.images(slice(0, 2)).double()):
        clean = torch.stack([image.flip(-1) if f else image for f in d.flip[i]])
        noise = d.noise[i].double()
        noisy = diffuse(SCHEDULE, clean, d.timestep[i], noise)
        label = torch.full((8,), i) if config.classes else None
        out = module(noisy, d.timestep[i], class_labels=label).sample
        target = training_target(SCHEDULE, prediction, clean, d.timestep[i], noise)
        predicted = predicted_noise(SCHEDULE, prediction, out, noisy, d.timestep[i])
        for measurement, rows in zip(MEASURED.values(), found, strict=True):
            loss = measurement(out, target, noise, predicted)
            named = {k: v for x in layers for k, v in x.parameters(rows[0, i]).items()}
            truth = torch.autograd.grad(loss, [parameters[n] for n in named], retain_graph=True)
            for value, expected in zip(named.values(), truth, strict=True):
                torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("of", [common_draws, own_draws])
def test_neither_blocks_nor_order_change_a_gradient(of):
    denoiser, layers, sample = case()
    draws = dealt(of=of)
    (whole,) = rows_of(denoiser, layers, sample, draws)
    for examples in (1, 8, 12):
        (blocked,) = rows_of(denoiser, layers, sample, draws, examples=examples)
        torch.testing.assert_close(blocked, whole, rtol=1e-9, atol=1e-12)
    order = [3, 0, 4, 1, 2]
    (shuffled,) = rows_of(denoiser, layers, sample.only(order), draws)
    torch.testing.assert_close(shuffled, whole[:, order], rtol=1e-9, atol=1e-12)


def test_the_mean_over_parts_is_the_gradient_by_all_draws():
    denoiser, layers, sample = case()
    (whole,) = rows_of(denoiser, layers, sample, dealt(draws=8))
    (halves,) = rows_of(denoiser, layers, sample, dealt(draws=8), parts=2)
    (single,) = rows_of(denoiser, layers, sample, dealt(draws=8), each_draw=True)
    assert halves.shape[0] == 2
    assert single.shape[0] == 8
    torch.testing.assert_close(halves.mean(0), whole[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(single.mean(0), whole[0], rtol=1e-9, atol=1e-12)
    mean = mean_gradient(denoiser, layers, sample, dealt(draws=8), "noise")
    torch.testing.assert_close(mean, whole.mean(1, keepdim=True), rtol=1e-9, atol=1e-12)


def test_halves_hold_whole_antithetic_pairs_from_every_part_of_time():
    draws = dealt(draws=16)([0, 1]).in_parts(2)
    for half in (slice(0, 8), slice(8, 16)):
        noise, t = draws.noise[0, half], draws.timestep[0, half]
        torch.testing.assert_close(noise[::2], -noise[1::2])
        assert t.min() < 50 / 4 < 3 * 50 / 4 < t.max()
    with pytest.raises(BegatError, match="6 draws cannot be split into 2 parts .* multiple of 4"):
        dealt(draws=6)([0]).in_parts(2)


def test_shared_draws_are_all_images_own_and_other_draws_are_not():
    shared, own = dealt(flip=True)([4, 9]), dealt(of=own_draws)([4, 9])
    assert torch.equal(shared.noise[0], shared.noise[1])
    assert not torch.equal(own.noise[0], own.noise[1])
    assert torch.equal(own.noise[1], dealt(of=own_draws)([9]).noise[0])


@pytest.mark.parametrize("of", [common_draws, own_draws])
@pytest.mark.parametrize("draws", [4, 8, 12, 16, 32])
def test_half_of_every_stretch_of_time_is_mirrored_whatever_the_number_of_draws(draws, of):
    found = dealt(draws=draws, of=of, flip=True)([4, 9])
    for part in range(parts := 1 if draws % 8 else 2):
        of_part = slice(part * draws // parts, (part + 1) * draws // parts)
        split = found.in_parts(parts)
        for flip, noise in zip(split.flip[:, of_part], split.noise[:, of_part], strict=True):
            assert torch.equal(flip[::2], flip[1::2])
            torch.testing.assert_close(noise[::2], -noise[1::2])
            assert (flip.view(-1, 4).sum(1) == 2).all()
    plain = unmirrored(dealt(draws=draws, of=of, flip=True))([4, 9])
    assert not plain.flip.any()
    unflipped = dealt(draws=draws, of=of)([4, 9])
    for one in (plain, found):
        assert torch.equal(one.noise, unflipped.noise)
        assert torch.equal(one.timestep, unflipped.timestep)


@pytest.mark.parametrize("draws", [4, 8, 16])
def test_mirroring_does_not_go_with_time(draws):
    found = dealt(draws=draws, of=own_draws, flip=True)(range(4000))
    means = [found.timestep[found.flip == mirrored].float().mean() for mirrored in (True, False)]
    # 50 timesteps; of independent means of 4,000 halves of the draws five standard errors
    assert abs(means[0] - means[1]) < 5 * 50 / 12**0.5 / (4000 * draws / 4) ** 0.5


def test_draws_that_cannot_be_mirrored_by_halves_are_refused():
    with pytest.raises(BegatError, match="half .* mirrored: expected a multiple of 4, found 10"):
        dealt(draws=10, flip=True)
    with pytest.raises(BegatError, match="12 draws .* half of them mirrored: .* multiple of 8"):
        dealt(draws=12, flip=True)([0]).in_parts(2)


def test_a_gradient_that_is_not_finite_is_named_with_its_draw():
    denoiser, layers, sample = case()
    pixels = sample.images(slice(0, 5)).numpy().copy()
    pixels[2] = np.nan
    t = int(dealt()([0]).timestep[0, 0])
    with pytest.raises(BegatError, match=rf"gradient of image 12 is not finite in draw 0 .*{t}\)"):
        rows_of(denoiser, layers, Sample(pixels, None, range(10, 15)), dealt())


def test_for_a_v_model_the_measured_loss_is_the_training_loss_times_alpha_bar():
    denoiser, layers, sample = case(prediction="v_prediction")
    training, noise = rows_of(
        denoiser, layers, sample, dealt(), ("training", "noise"), each_draw=True
    )
    alpha_bar = SCHEDULE.alpha_bar[dealt()([0]).timestep[0]][:, None, None]
    torch.testing.assert_close(noise, training * alpha_bar, rtol=1e-9, atol=1e-14)
