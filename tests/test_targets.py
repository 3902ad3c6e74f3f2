"""Targets of unlearning against ideal denoisers written out, in float64."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from begat.diffusion.schedules import cosine_schedule, diffuse
from begat.diffusion.training_config import OptimiserConfig
from begat.unlearning.config import UnlearningConfig
from begat.unlearning.operators import Ascent, PosteriorMean, RetainOnly
from begat.unlearning.targets import (
    TargetContext,
    TargetInputs,
    anchor,
    candidate_log_likelihoods,
    esd,
    noise,
    posterior_mean,
    retrack,
    select_candidate,
    swap,
)
from begat.unlearning.terms import (
    ERROR_WEIGHTS,
    DenoisingBatch,
    mixture_losses,
    saliency_mask,
)
from begat.unlearning.training import objective

pytestmark = pytest.mark.numerics

SCHEDULE = cosine_schedule(1000)
TIMES = [0, 1, 30, 300, 700, 950, 998]
IMAGES, SHAPE = 24, (1, 3, 3)


def context_of(times=TIMES, images=IMAGES, shape=SHAPE, forgotten=6, dtype=torch.float64, seed=0):
    """Images of which the first are noised and forgotten, all others candidates."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(images, *shape, generator=generator, dtype=torch.float64) * 2 - 1
    t = torch.tensor(times)[None]
    own = pixels[torch.arange(len(times)) % forgotten][None].to(dtype)
    added = torch.randn(own.shape, generator=generator, dtype=dtype)
    fresh = torch.randn(own.shape, generator=generator, dtype=dtype)
    noisy = diffuse(SCHEDULE, own, t, added)
    signal, sigma = SCHEDULE.scales(t, noisy)
    retained = (torch.arange(images) >= forgotten).expand(1, len(times), images)
    uniform = torch.rand(1, len(times), generator=generator)
    return TargetContext(
        noisy=noisy,
        signal=signal,
        sigma=sigma,
        teacher_noise=lambda: added * 0.9,
        anchor_noise=lambda: added * 0.5,
        error_weight=ERROR_WEIGHTS["clean"](signal, sigma),
        inputs=TargetInputs(fresh, uniform, pixels.flatten(1), retained, None),
    )


def log_weights(context):
    return candidate_log_likelihoods(context).log_softmax(-1)


def with_candidates(context, candidates):
    return replace(context, inputs=replace(context.inputs, candidates=candidates))


def ideal_by_hand(context, which):
    """The ideal denoiser of some images: a mean of implied noises, weighted by likelihood."""
    found = []
    for x, signal, sigma in zip(context.noisy[0], context.signal[0], context.sigma[0], strict=True):
        implied = [(x - signal * context.inputs.images[i].view(SHAPE)) / sigma for i in which]
        exponent = torch.stack([-(v**2).sum() / 2 for v in implied])
        weight = (exponent - exponent.max()).exp()
        found.append(sum(w * v for w, v in zip(weight, implied, strict=True)) / weight.sum())
    return torch.stack(found)[None]


def everything(context):
    return with_candidates(context, torch.ones_like(context.inputs.candidates))


def test_the_posterior_mean_is_the_ideal_denoiser_of_what_is_retained():
    context = context_of()
    expected = ideal_by_hand(context, range(6, IMAGES))
    torch.testing.assert_close(posterior_mean(context), expected, rtol=1e-9, atol=1e-9)


def test_retrack_with_all_neighbours_is_the_posterior_mean():
    context = context_of()
    truncated = retrack(context, num_neighbours=10_000)
    torch.testing.assert_close(truncated, posterior_mean(context), rtol=1e-10, atol=1e-10)


def test_retrack_with_one_neighbour_implies_the_noise_of_the_likeliest_image():
    context = context_of()
    likeliest = log_weights(context).argmax(-1)[0]
    for i, best in enumerate(likeliest):
        assert best >= 6
        image = context.inputs.images[best].view(SHAPE)
        expected = (context.noisy[0, i] - context.signal[0, i] * image) / context.sigma[0, i]
        torch.testing.assert_close(retrack(context, num_neighbours=1)[0, i], expected)


def test_weights_sum_to_one_at_every_noise_level():
    total = log_weights(context_of()).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_where_only_noise_is_left_the_mean_image_is_implied():
    context = context_of([998])
    mean = context.inputs.images[6:].mean(0).view(SHAPE)
    expected = (context.noisy - context.signal * mean) / context.sigma
    torch.testing.assert_close(posterior_mean(context), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("target", [posterior_mean, partial(retrack, num_neighbours=4)])
def test_targets_hold_at_three_thousand_pixels_in_single_precision(target):
    how = dict(times=[5, 100, 500, 900], shape=(3, 32, 32))
    single, double = context_of(dtype=torch.float32, **how), context_of(dtype=torch.float32, **how)
    double = replace(
        double, **{n: getattr(double, n).double() for n in ("noisy", "signal", "sigma")}
    )
    found = target(single)
    assert (found.flatten(2).norm(dim=2) > 1).all()  # no underflow to zero
    torch.testing.assert_close(found.double(), target(double), rtol=1e-4, atol=1e-4)
    total = log_weights(single).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_the_ideal_denoiser_of_everything_is_the_mixture_of_a_groups_and_the_rests():
    context = context_of([30, 300, 500, 700, 950])
    full = posterior_mean(everything(context))
    group = posterior_mean(with_candidates(context, ~context.inputs.candidates))
    log_p = log_weights(everything(context))[..., :6].logsumexp(-1)
    p = log_p.exp()[..., None, None, None]
    mixed = p * group + (1 - p) * posterior_mean(context)
    torch.testing.assert_close(full, mixed, rtol=1e-9, atol=1e-9)


def test_with_ideal_denoisers_a_group_helps_its_own_images_and_not_the_others():
    generator = torch.Generator().manual_seed(1)
    base, t = context_of([700] * 2000), torch.full((1, 2000), 700)
    score = []
    for image in range(IMAGES):
        own = base.inputs.images[image].view(1, 1, *SHAPE).expand(1, 2000, *SHAPE)
        noise = torch.randn(own.shape, generator=generator, dtype=torch.float64)
        context = replace(base, noisy=diffuse(SCHEDULE, own, t, noise))
        losses = [
            (posterior_mean(s) - noise).square().mean() for s in (context, everything(context))
        ]
        score.append(float(losses[0] - losses[1]))
    assert np.mean(score) > 0  # all training images: the full set's own optimum
    assert np.mean(score[6:]) < 0  # retained ones: the optimum without the group


def test_weighted_errors_have_the_gradient_of_the_error_from_the_weighted_target():
    context = context_of()
    guess = torch.zeros_like(context.noisy).requires_grad_()
    weight = log_weights(context).exp()
    implied = (
        context.noisy[:, :, None]
        - context.signal[:, :, None] * context.inputs.images.view(-1, *SHAPE)
    ) / context.sigma[:, :, None]
    apart = (weight[..., None, None, None] * (guess[:, :, None] - implied) ** 2).sum()
    (one,) = torch.autograd.grad(apart, [guess])
    (other,) = torch.autograd.grad((guess - posterior_mean(context)).square().sum(), [guess])
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_swap_selects_every_candidate_equally_often_and_nothing_else():
    candidates = torch.tensor([[[False, True, False, True, True]]]).expand(1, 300, 5)
    found = select_candidate(candidates, torch.linspace(0, 0.999, 300)[None])
    assert found[0].bincount(minlength=5).tolist() == [0, 100, 0, 100, 100]
    context = context_of()
    clean = (context.noisy - context.sigma * swap(context)) / context.signal
    for image in clean[0].flatten(1):
        assert torch.isclose(context.inputs.images[6:], image, atol=1e-5).all(1).any()


def test_anchor_and_esd_use_the_prediction_under_another_label():
    context = context_of()
    other, own = context.anchor_noise(), context.teacher_noise()
    torch.testing.assert_close(anchor(context), other)
    torch.testing.assert_close(esd(context, guidance_strength=2.0), 3 * other - 2 * own)
    assert noise(context) is context.inputs.fresh_noise


def batches_of(context, predicted=None):
    """Retain and forget images of a step: retained are those that follow the forgotten ones."""
    t, count = torch.tensor(TIMES)[None], len(TIMES)
    batches = []
    for first in (6, 0):
        image = context.inputs.images[first : first + count].view(1, count, *SHAPE)
        added = context.inputs.fresh_noise + first
        noisy = diffuse(SCHEDULE, image, t, added)
        guess = torch.zeros_like(added) if predicted is None else predicted(noisy)
        teacher = partial(torch.mul, added, 0.9)
        batches.append(DenoisingBatch(image, noisy, added, guess, teacher, guess - added))
    return batches


def config_of(**changes):
    return UnlearningConfig(OptimiserConfig(1, 1e-3, 0, 1.0), 1, **changes)


def test_both_published_combinations_add_up_as_published():
    context = replace(context_of(), error_weight=torch.ones_like(context_of().sigma))
    retain, forget = batches_of(context)
    retain_loss = (0.9 * retain.noise).square().mean()
    forget_loss = posterior_mean(context).square().mean()
    common = dict(operator=PosteriorMean(), retain_loss="distil", forget_weight=0.03)
    for combination, expected in (
        ("sum", retain_loss + 0.03 * forget_loss),
        ("convex", 0.97 * retain_loss + 0.03 * forget_loss),
    ):
        config = config_of(**common, loss_combination=combination)
        assert objective(config, retain, forget, context)[0] == pytest.approx(float(expected))


def test_below_the_noise_variance_the_target_is_the_full_models_prediction():
    context = context_of()
    retain, forget = batches_of(context)
    forget = replace(forget, predicted=context.teacher_noise())
    retain = replace(retain, predicted=retain.teacher_noise())

    def loss(min_noise_variance):
        operator = PosteriorMean(min_noise_variance=min_noise_variance)
        config = config_of(operator=operator, retain_loss="distil")
        return objective(config, retain, forget, context)

    assert loss(1.0) == 0  # every variance is below 1
    assert loss(0.5) > 0


def test_ascent_climbs_to_its_maximum_and_no_further():
    context = context_of()
    retain, forget = batches_of(context)
    retain = replace(retain, predicted=retain.teacher_noise())
    high = replace(forget, predicted=forget.noise + 3)
    low = replace(forget, predicted=forget.noise + 0.5)
    config = config_of(operator=Ascent(max_forget_loss=2.0), retain_loss="distil")
    assert objective(config, retain, high, context) == pytest.approx(-2)
    assert objective(config, retain, low, context) == pytest.approx(-0.25)


def test_the_mixture_losses_are_the_plain_losses_in_the_mean():
    generator = torch.Generator().manual_seed(0)
    t = torch.full((1, 40_000), 900)
    context = context_of([900] * 40_000)
    batches = []
    for i in (0, 7):
        image = context.inputs.images[i].view(1, 1, *SHAPE).expand(1, 40_000, *SHAPE)
        noise = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        noisy = diffuse(SCHEDULE, image, t, noise)
        batches.append(
            DenoisingBatch(image, noisy, noise, 0.7 * noisy, noise.clone, 0.7 * noisy - noise)
        )
    found = mixture_losses(*batches, context)
    for batch, loss in zip(batches, found, strict=True):
        plain = float((batch.predicted - batch.noise).square().mean())
        assert float(loss) == pytest.approx(plain, rel=0.01)


def test_fine_tuning_a_linear_model_on_what_is_retained_is_retraining_without_the_group():
    generator = torch.Generator().manual_seed(0)
    context = context_of()
    retain, forget = batches_of(context)
    x = retain.noisy.flatten(2)[0]
    x = torch.cat([x, torch.randn(20, 9, generator=generator, dtype=torch.float64)])
    y = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    everyone = torch.cat([x, forget.noisy.flatten(2)[0]])
    full = torch.linalg.lstsq(everyone, torch.cat([y, forget.noise.flatten(2)[0]])).solution
    weights = full.contiguous().clone().requires_grad_()
    limits = dict(max_iter=400, tolerance_grad=1e-14, tolerance_change=1e-18, history_size=100)
    optimiser = torch.optim.LBFGS([weights], **limits)

    def batch(matrix):
        view = lambda v: v.view(1, -1, *SHAPE)  # noqa: E731
        predicted, teacher = view(x @ matrix), lambda: view(x @ full)
        return DenoisingBatch(view(x), view(x), view(y), predicted, teacher, predicted - view(y))

    def loss():
        optimiser.zero_grad()
        value = objective(config_of(operator=RetainOnly()), batch(weights)).sum()
        value.backward()
        return value

    for _ in range(5):
        optimiser.step(loss)
    retrained = torch.linalg.lstsq(x, y).solution
    assert (full - retrained).abs().max() > 0.05
    torch.testing.assert_close(weights.detach(), retrained, rtol=1e-6, atol=1e-6)


def test_the_saliency_mask_is_computed_for_each_group_separately():
    gradient = torch.tensor([[1.0, -4.0, 2.0, 0.0], [0.0, 0.1, -0.2, 0.3]])
    chosen = saliency_mask(gradient, mask_fraction=0.5)
    assert chosen.tolist() == [[False, True, True, False], [False, False, True, True]]
