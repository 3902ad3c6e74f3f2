"""Targets of forgetting against ideal denoisers written out, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from begat.diffusion.schedules import cosine_schedule, diffuse
from begat.errors import BegatError
from begat.unlearning.operators import Forgetting, Half, mixture_losses, most_touched, objective
from begat.unlearning.targets import (
    TARGETS,
    Scene,
    anchor,
    esd,
    likelihoods,
    picked,
    posterior_mean,
    retrack,
    swap,
)

pytestmark = pytest.mark.numerics

SCHEDULE = cosine_schedule(1000)
TIMES = [0, 1, 30, 300, 700, 950, 998]
IMAGES, SHAPE = 24, (1, 3, 3)


def scene_of(times=TIMES, images=IMAGES, shape=SHAPE, forgotten=6, dtype=torch.float64, seed=0):
    """Images of which the first are noised and forgotten, all others candidates."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(images, *shape, generator=generator, dtype=torch.float64) * 2 - 1
    t = torch.tensor(times)[None]
    own = pixels[torch.arange(len(times)) % forgotten][None].to(dtype)
    noise = torch.randn(own.shape, generator=generator, dtype=dtype)
    fresh = torch.randn(own.shape, generator=generator, dtype=dtype)
    noisy = diffuse(SCHEDULE, own, t, noise)
    signal, sigma = SCHEDULE.scales(t, noisy)
    kept = (torch.arange(images) >= forgotten).expand(1, len(times), images)
    return Scene(
        noisy=noisy,
        signal=signal,
        sigma=sigma,
        taught=lambda: noise * 0.9,
        elsewhere=lambda: noise * 0.5,
        fresh=fresh,
        pick=torch.rand(1, len(times), generator=generator),
        images=pixels.flatten(1),
        candidates=kept,
        neighbours=4,
        strength=2.0,
    )


def log_weights(scene):
    found = likelihoods(scene.noisy, scene.signal, scene.sigma, scene.images, scene.candidates)
    return found.log_softmax(-1)


def ideal_by_hand(scene, which):
    """The ideal denoiser of some images: a mean of implied noises, weighted by likelihood."""
    found = []
    for x, signal, sigma in zip(scene.noisy[0], scene.signal[0], scene.sigma[0], strict=True):
        implied = [(x - signal * scene.images[i].view(SHAPE)) / sigma for i in which]
        exponent = torch.stack([-(v**2).sum() / 2 for v in implied])
        weight = (exponent - exponent.max()).exp()
        found.append(sum(w * v for w, v in zip(weight, implied, strict=True)) / weight.sum())
    return torch.stack(found)[None]


def everything(scene):
    return replace(scene, candidates=torch.ones_like(scene.candidates))


def test_the_posterior_mean_is_the_ideal_denoiser_of_what_is_retained():
    scene = scene_of()
    expected = ideal_by_hand(scene, range(6, IMAGES))
    torch.testing.assert_close(posterior_mean(scene), expected, rtol=1e-9, atol=1e-9)


def test_retrack_with_all_neighbours_is_the_posterior_mean():
    scene = replace(scene_of(), neighbours=10_000)
    torch.testing.assert_close(retrack(scene), posterior_mean(scene), rtol=1e-10, atol=1e-10)


def test_retrack_with_one_neighbour_implies_the_noise_of_the_likeliest_image():
    scene = replace(scene_of(), neighbours=1)
    likeliest = log_weights(scene).argmax(-1)[0]
    for i, best in enumerate(likeliest):
        assert best >= 6
        image = scene.images[best].view(SHAPE)
        expected = (scene.noisy[0, i] - scene.signal[0, i] * image) / scene.sigma[0, i]
        torch.testing.assert_close(retrack(scene)[0, i], expected)


def test_weights_sum_to_one_at_every_noise_level():
    total = log_weights(scene_of()).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_where_only_noise_is_left_the_mean_image_is_implied():
    scene = scene_of([998])
    mean = scene.images[6:].mean(0).view(SHAPE)
    expected = (scene.noisy - scene.signal * mean) / scene.sigma
    torch.testing.assert_close(posterior_mean(scene), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("target", [posterior_mean, retrack])
def test_targets_hold_at_three_thousand_pixels_in_single_precision(target):
    how = dict(times=[5, 100, 500, 900], shape=(3, 32, 32))
    single, double = scene_of(dtype=torch.float32, **how), scene_of(dtype=torch.float32, **how)
    double = replace(
        double, **{n: getattr(double, n).double() for n in ("noisy", "signal", "sigma")}
    )
    found = target(single)
    assert (found.flatten(2).norm(dim=2) > 1).all()  # no underflow to zero
    torch.testing.assert_close(found.double(), target(double), rtol=1e-4, atol=1e-4)
    total = log_weights(single).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_the_ideal_denoiser_of_everything_is_the_mixture_of_a_groups_and_the_rests():
    scene = scene_of([30, 300, 500, 700, 950])
    full = posterior_mean(everything(scene))
    group = posterior_mean(replace(scene, candidates=~scene.candidates))
    log_p = log_weights(everything(scene))[..., :6].logsumexp(-1)
    p = log_p.exp()[..., None, None, None]
    mixed = p * group + (1 - p) * posterior_mean(scene)
    torch.testing.assert_close(full, mixed, rtol=1e-9, atol=1e-9)


def test_with_ideal_denoisers_a_group_helps_its_own_images_and_not_the_others():
    generator = torch.Generator().manual_seed(1)
    base, t = scene_of([700] * 2000), torch.full((1, 2000), 700)
    score = []
    for image in range(IMAGES):
        own = base.images[image].view(1, 1, *SHAPE).expand(1, 2000, *SHAPE)
        noise = torch.randn(own.shape, generator=generator, dtype=torch.float64)
        scene = replace(base, noisy=diffuse(SCHEDULE, own, t, noise))
        losses = [(posterior_mean(s) - noise).square().mean() for s in (scene, everything(scene))]
        score.append(float(losses[0] - losses[1]))
    assert np.mean(score) > 0  # all training images: the full set's own optimum
    assert np.mean(score[6:]) < 0  # retained ones: the optimum without the group


def test_weighted_errors_have_the_gradient_of_the_error_from_the_weighted_target():
    scene = scene_of()
    guess = torch.zeros_like(scene.noisy).requires_grad_()
    weight = log_weights(scene).exp()
    implied = (
        scene.noisy[:, :, None] - scene.signal[:, :, None] * scene.images.view(-1, *SHAPE)
    ) / scene.sigma[:, :, None]
    apart = (weight[..., None, None, None] * (guess[:, :, None] - implied) ** 2).sum()
    (one,) = torch.autograd.grad(apart, [guess])
    (other,) = torch.autograd.grad((guess - posterior_mean(scene)).square().sum(), [guess])
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_swap_picks_every_candidate_alike_and_nothing_else():
    candidates = torch.tensor([[[False, True, False, True, True]]]).expand(1, 300, 5)
    found = picked(candidates, torch.linspace(0, 0.999, 300)[None])
    assert found[0].bincount(minlength=5).tolist() == [0, 100, 0, 100, 100]
    scene = scene_of()
    clean = (scene.noisy - scene.sigma * swap(scene)) / scene.signal
    for image in clean[0].flatten(1):
        assert torch.isclose(scene.images[6:], image, atol=1e-5).all(1).any()


def test_anchor_and_esd_ask_for_another_label():
    scene = scene_of()
    other, own = scene.elsewhere(), scene.taught()
    torch.testing.assert_close(anchor(scene), other)
    torch.testing.assert_close(esd(scene), 3 * other - 2 * own)
    assert TARGETS["noise"](scene) is scene.fresh


def halves_of(scene, predicted=None):
    """Both halves of a step: retained images are those that follow the forgotten ones."""
    t, count = torch.tensor(TIMES)[None], len(TIMES)
    halves = []
    for first in (6, 0):
        image = scene.images[first : first + count].view(1, count, *SHAPE)
        noise = scene.fresh + first
        noisy = diffuse(SCHEDULE, image, t, noise)
        guess = torch.zeros_like(noise) if predicted is None else predicted(noisy)
        halves.append(
            Half(image, noisy, noise, guess, lambda noise=noise: noise * 0.9, guess - noise)
        )
    return halves


PULLED = dict(operator="posterior_mean", retain="distil")


def test_both_published_balances_add_up_as_published():
    scene = scene_of()
    retain, forget = halves_of(scene)
    kept = (0.9 * retain.noise).square().mean()
    gone = posterior_mean(scene).square().mean()
    for how, expected in (
        (Forgetting(**PULLED, balance=0.03, weighting="noise"), kept + 0.03 * gone),
        (
            Forgetting(**PULLED, balance=0.03, mixing="shared", weighting="noise"),
            0.97 * kept + 0.03 * gone,
        ),
    ):
        assert objective(how, retain, forget, scene)[0] == pytest.approx(float(expected))


def test_below_the_noise_level_the_full_model_is_kept():
    scene = scene_of()
    retain, forget = halves_of(scene)
    forget = replace(forget, predicted=scene.taught())
    retain = replace(retain, predicted=retain.taught())
    assert objective(Forgetting(**PULLED, above=1.1), retain, forget, scene) == 0
    assert objective(Forgetting(**PULLED, above=0.5), retain, forget, scene) > 0


def test_ascent_climbs_to_its_cap_and_no_further():
    scene = scene_of()
    retain, forget = halves_of(scene)
    retain = replace(retain, predicted=retain.taught())
    high = replace(forget, predicted=forget.noise + 3)
    low = replace(forget, predicted=forget.noise + 0.5)
    how = Forgetting(operator="ascent", retain="distil", cap=2.0)
    assert objective(how, retain, high, scene) == pytest.approx(-2)
    assert objective(how, retain, low, scene) == pytest.approx(-0.25)


def test_the_mixture_losses_are_the_plain_losses_in_the_mean():
    generator = torch.Generator().manual_seed(0)
    t = torch.full((1, 40_000), 900)
    scene = scene_of([900] * 40_000)
    halves = []
    for i in (0, 7):
        image = scene.images[i].view(1, 1, *SHAPE).expand(1, 40_000, *SHAPE)
        noise = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        noisy = diffuse(SCHEDULE, image, t, noise)
        halves.append(Half(image, noisy, noise, 0.7 * noisy, noise.clone, 0.7 * noisy - noise))
    found = mixture_losses(*halves, scene)
    for half, loss in zip(halves, found, strict=True):
        plain = float((half.predicted - half.noise).square().mean())
        assert float(loss) == pytest.approx(plain, rel=0.01)


def test_fine_tuning_a_linear_model_on_what_is_retained_is_retraining_without_the_group():
    generator = torch.Generator().manual_seed(0)
    scene = scene_of()
    retain, forget = halves_of(scene)
    x = retain.noisy.flatten(2)[0]
    x = torch.cat([x, torch.randn(20, 9, generator=generator, dtype=torch.float64)])
    y = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    everyone = torch.cat([x, forget.noisy.flatten(2)[0]])
    full = torch.linalg.lstsq(everyone, torch.cat([y, forget.noise.flatten(2)[0]])).solution
    weights = full.contiguous().clone().requires_grad_()
    limits = dict(max_iter=400, tolerance_grad=1e-14, tolerance_change=1e-18, history_size=100)
    optimiser = torch.optim.LBFGS([weights], **limits)

    def half(matrix):
        view = lambda v: v.view(1, -1, *SHAPE)  # noqa: E731
        found = view(x @ matrix)
        return Half(view(x), view(x), view(y), found, lambda: view(x @ full), found - view(y))

    def loss():
        optimiser.zero_grad()
        value = objective(Forgetting(operator="retain_only"), half(weights)).sum()
        value.backward()
        return value

    for _ in range(5):
        optimiser.step(loss)
    retrained = torch.linalg.lstsq(x, y).solution
    assert (full - retrained).abs().max() > 0.05
    torch.testing.assert_close(weights.detach(), retrained, rtol=1e-6, atol=1e-6)


def test_the_most_touched_weights_are_chosen_for_each_group_apart():
    gradient = torch.tensor([[1.0, -4.0, 2.0, 0.0], [0.0, 0.1, -0.2, 0.3]])
    chosen = most_touched(gradient, 0.5)
    assert chosen.tolist() == [[False, True, True, False], [False, False, True, True]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(operator="forget"), "unlearned.operator: expected one of posterior_mean, "),
        (dict(weighting="loud"), "unlearned.error_space: expected one of noise, "),
        (dict(balance=2.0, mixing="shared"), r"unlearned.forget_weight: expected 0..1"),
        (dict(stop="rise"), "unlearned.stopping_threshold: expected a positive rise, found 0"),
        (dict(neighbours=0), "unlearned.neighbours: expected at least 1"),
    ],
)
def test_impossible_settings_are_refused(wrong, said):
    with pytest.raises(BegatError, match=said):
        Forgetting(**wrong)
