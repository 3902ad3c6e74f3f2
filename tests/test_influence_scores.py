"""Influence scores against retraining in closed form, and what they do not depend on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import (
    Buckets,
    Features,
    denoiser,
    draws,
    every_pixel,
    for_every_pixel,
    image_set,
    noisy,
    seeded,
)
from small import random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.draws import common_draws, per_image_draws
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.unet_shapes import UNetConfig
from begat.errors import BegatError
from begat.influence.corrected_eigenvalues import corrected_eigenvalues
from begat.influence.curvature import covariances, eigenbases
from begat.influence.factors import FactorsConfig, coverage_report, factors
from begat.influence.gradient_source import GradientSource, ImageSet, gradient_source
from begat.influence.gradients import image_gradients, mean_gradient
from begat.influence.kronecker import curvature_blocks, downdated
from begat.influence.layers import tracked_layers
from begat.influence.pairwise import (
    group_scores,
    pairwise_products,
    select_damping,
    split_half_reliability,
)
from begat.influence.quantised_gradients import quantise
from begat.influence.scores import ScoreOptions, score
from begat.influence.tracin import score as tracin
from begat.influence.trak import METHODS as TRAK_METHODS
from begat.influence.trak import score as trak
from begat.influence.variants import METHODS, Variant, best
from begat.stages.scores_influence import METHODS as DECLARED_METHODS

pytestmark = pytest.mark.numerics

D = 4
LIKE = torch.zeros((), dtype=torch.float64)


class Ridge:
    """A linear denoiser trained to the minimum of mean loss + ridge/2 |W|^2, image by image."""

    def __init__(self, kind, images, features, ridge, number=2):
        self.images, self.ridge, self.number = image_set(images), ridge, number
        self.module = seeded(lambda: kind(features, D))
        self.inputs, self.targets = self._data(self.images)
        with torch.no_grad():
            self.module.layer.weight.copy_(self.minimum(torch.ones(images)))
        self.denoiser = denoiser(self.module)
        self.layers = tracked_layers(self.module)
        self.source = GradientSource(self.denoiser, self.layers, draws(number), 1000)

    def _data(self, images):
        """Features [image, draw, feature] and noises [image, draw, pixel]."""
        x, noise = noisy(draws(self.number), images)
        n = len(images)
        features = self.module.features(x).detach().unflatten(0, (n, -1))
        return features, noise.flatten(1).unflatten(0, (n, -1))

    def minimum(self, weights):
        """The minimising W with each image counted so often; the normaliser stays 1/N."""
        w = weights.double()[:, None, None] / len(weights) / self.number
        square = torch.einsum("irf,irg->fg", self.inputs * w, self.inputs)
        cross = torch.einsum("irf,irp->pf", self.inputs * w, self.targets)
        return cross @ torch.linalg.inv(square + self.ridge * D / 2 * torch.eye(len(square)))

    def loss(self, weight, images):
        """Each image's loss under W."""
        inputs, targets = self._data(images)
        return (inputs @ weight.T - targets).square().mean((1, 2))

    def curvature(self, groups=None):
        source = replace(self.source, draws=for_every_pixel(self.source.draws))
        passes = source, self.images, every_pixel
        bases = eigenbases(covariances(*passes), LIKE)
        values = corrected_eigenvalues(*passes, bases, groups=groups)
        return [{n: bases[n] | v[n] for n in bases} for v in values]

    def rows(self, images):
        ((_, (rows,)),) = image_gradients(self.source, images)
        return rows[0]

    def scores(self, queries, damping):
        curvature = {
            layer: {name: v.numpy() for name, v in parts.items()}
            for layer, parts in self.curvature()[0].items()
        }
        variants = [Variant("ekfac", "absolute", damping)]
        options = ScoreOptions(centred=False, halves=False)
        inputs = self.source, curvature, self.images, queries, variants
        return score(*inputs, options=options)["score"][0]


def test_the_error_of_removing_part_of_an_image_falls_as_the_square_of_the_part():
    ridge = Ridge(Features, 12, 5, 0.05)
    queries = image_set(3, first=100)
    predicted = ridge.scores(queries, 0.05)[:, [2, 7]].sum(1)
    ratios = []
    for rho in (1e-3, 1e-4):
        weights = torch.ones(12).double()
        weights[[2, 7]] -= rho
        before, after = (
            ridge.loss(w, queries)
            for w in (ridge.module.layer.weight.detach(), ridge.minimum(weights))
        )
        exact = (after - before).numpy()
        ratios.append((exact - rho * predicted) / rho**2)
    assert ratios[0] == pytest.approx(ratios[1], rel=0.03)


def test_a_group_without_its_own_curvature_is_exact_for_a_quadratic_loss():
    ridge, members, n = Ridge(Buckets, 30, 3, 0.1), [1, 4, 5, 20], 30
    queries = image_set(4, first=100)
    member_of = torch.zeros(1, n)
    member_of[0, members] = 1
    (whole,), (group,) = ridge.curvature(), ridge.curvature(member_of)
    remaining = downdated(
        curvature_blocks(ridge.layers, whole, "ekfac"),
        curvature_blocks(ridge.layers, group, "ekfac"),
        4 / n,
    )
    mean = ridge.rows(ridge.images)[members].mean(0)
    damping = dict(damping_mode="absolute", damping=0.1)
    first_order = group_scores(remaining, ridge.rows(queries), mean, 4 / n, **damping)
    step = group_scores(remaining, torch.eye(len(mean)).double(), mean, 4 / n, **damping)
    kept = torch.ones(n).double()
    kept[members] = 0
    weight, retrained = ridge.module.layer.weight.detach(), ridge.minimum(kept)
    torch.testing.assert_close(step, (retrained - weight).flatten(), rtol=1e-7, atol=1e-11)
    inputs, _ = ridge._data(queries)
    second_order = (inputs @ step.view_as(weight).T).square().mean((1, 2))
    exact = ridge.loss(retrained, queries) - ridge.loss(weight, queries)
    torch.testing.assert_close(first_order + second_order, exact, rtol=1e-7, atol=1e-11)


def test_self_influence_is_twice_the_squared_residual_times_the_leverage():
    n, features = 9, 4
    ridge = Ridge(Features, n, features, 0.0, number=1)
    own = ridge.scores(ridge.images, 0.0).diagonal()
    x = ridge.inputs[:, 0]
    leverage = (x @ torch.linalg.inv(x.T @ x) * x).sum(1).numpy()
    residual = ridge.loss(ridge.module.layer.weight.detach(), ridge.images).numpy()
    np.testing.assert_allclose(own, 2 * residual * leverage, rtol=1e-6)
    for i in range(n):
        kept = torch.ones(n).double()
        kept[i] = 0
        exact = ridge.loss(ridge.minimum(kept), ridge.images)[i].item() - residual[i]
        h = leverage[i]
        assert exact == pytest.approx(residual[i] * (1 / (1 - h) ** 2 - 1), rel=1e-6)


def test_a_sum_over_pixels_with_d_times_the_damping_scores_d_times_a_mean():
    ridge = Ridge(Features, 8, 3, 0.05)
    curvature, rows = ridge.curvature()[0], ridge.rows(ridge.images)
    summed = {n: dict(p, eigenvalues=p["eigenvalues"] * D) for n, p in curvature.items()}
    one, other = (
        group_scores(
            curvature_blocks(ridge.layers, factors, "ekfac"), g, g.mean(0), 1.0, "absolute", d
        )
        for factors, g, d in ((curvature, rows, 0.05), (summed, rows * D, 0.05 * D))
    )
    torch.testing.assert_close(other, one * D, rtol=1e-10, atol=1e-12)


def test_under_endless_damping_a_score_is_the_product_of_gradients():
    ridge, queries = Ridge(Features, 8, 3, 0.05), image_set(3, first=100)
    damping = 1e9
    plain = (ridge.rows(queries) @ ridge.rows(ridge.images).T).numpy()
    np.testing.assert_allclose(8 * damping * ridge.scores(queries, damping), plain, rtol=1e-6)


SCHEDULE = cosine_schedule(50)
ATTENTIVE = UNetConfig(8, 3, (4, 8), 1, (False, True), False, 4, 2)
VARIANTS = [
    Variant("gradient_dot"),
    Variant("ekfac", "mean_eigenvalue", 0.1),
    Variant("ekfac", "absolute", 1e-3),
    Variant("kfac", "mean_eigenvalue", 0.1),
    Variant("ekfac", "mean_eigenvalue", 1.0),
]


GROUPS = np.arange(6) % 3 == np.arange(3)[:, None]
FACTORS_CONFIG = FactorsConfig(draws=2)


class Scored:
    """An attentive U-Net, its factors, images and queries."""

    def __init__(self, prediction="epsilon", images=6):
        row = random_rows(ATTENTIVE, 1)[0].double()
        self.denoiser = unet_denoiser(row, ATTENTIVE, SCHEDULE, prediction, torch.device("cpu"))
        pixels = random_images(images, ATTENTIVE)
        self.images = ImageSet(pixels, None, range(images))
        groups = GROUPS[:, :images]
        self.factors = factors(self.denoiser, self.images, groups, FACTORS_CONFIG, seed=1)
        self.source = gradient_source(self.denoiser, self.draws(), norms=True)

    def draws(self, number=4, draw_sampler=common_draws):
        return draw_sampler(0, "scores_influence", number, 50, (3, 8, 8))

    def scores(
        self,
        images=None,
        queries=None,
        variants=VARIANTS,
        *,
        source=None,
        member_of=None,
        **options,
    ):
        images, queries = images or self.images, queries or self.images
        inputs = source or self.source, self.factors, images, queries, variants
        return score(*inputs, member_of=member_of, options=ScoreOptions(**options))


@pytest.fixture(scope="module")
def scored():
    return Scored()


def test_with_the_same_draws_scores_between_training_images_are_symmetric(scored):
    scores = scored.scores(centred=False)["score"]
    np.testing.assert_allclose(scores, scores.transpose(0, 2, 1), rtol=1e-6, atol=1e-12)


def test_the_scores_are_those_of_the_formula(scored):
    stream = image_gradients(scored.source, scored.images)
    rows = torch.cat([r[0] for _, (r,) in stream])
    tensors = {n: {k: torch.from_numpy(v) for k, v in p.items()} for n, p in scored.factors.items()}
    expected = []
    for variant in VARIANTS:
        if variant.structure == "gradient_dot":
            expected.append(torch.stack([rows @ rows.T, (rows - rows.mean(0)) @ rows.T]))
            continue
        total = torch.zeros(2, 6, 6).double()
        for b in curvature_blocks(scored.source.layers, tensors, variant.structure):
            if b.is_zero:
                continue
            part = rows[:, b.span].unflatten(1, (len(b.basis_out), -1))
            projected = torch.einsum("noi,op->npi", part, b.basis_out)
            if b.basis_in is not None:
                projected = torch.einsum("npi,ij->npj", projected, b.basis_in)
            scale = b.eigenvalues.mean() if variant.damping_mode == "mean_eigenvalue" else 1
            g = projected / (b.eigenvalues + variant.damping * scale).sqrt()
            total += torch.einsum("wqoi,joi->wqj", torch.stack([g, g - g.mean(0)]), g)
        expected.append(total)
    scores = scored.scores()
    for form, values in zip(("score", "score_centred"), torch.stack(expected, 1), strict=True):
        np.testing.assert_allclose(scores[form], values.numpy() / 6, rtol=1e-6, atol=1e-12)


def test_exactly_the_methods_that_are_not_centred_claim_a_sign(scored):
    _, arrays = best(VARIANTS, scored.scores())
    for method, scores in zip(METHODS, arrays["score"], strict=True):
        # over the training images as queries a centred score sums to 0, whoever helped
        mean, largest = np.abs(scores.mean(0)).max(), np.abs(scores).max()
        assert (mean < 1e-6 * largest) == (not DECLARED_METHODS[method].measure.signed)


def test_a_score_and_its_centred_form_have_the_same_damping(scored):
    scores = scored.scores()
    chosen, arrays = best(VARIANTS, scores)
    for i, variant in enumerate(chosen):
        index = VARIANTS.index(variant)
        assert scores["chosen"][index]
        np.testing.assert_array_equal(arrays["score"][i], scores["score"][index])
        np.testing.assert_array_equal(arrays["score"][i + 3], scores["score_centred"][index])
        np.testing.assert_array_equal(arrays["reliability"][i], scores["reliability"][index])


def test_only_training_images_are_mirrored(scored):
    pixels = random_images(6, ATTENTIVE)
    symmetric = np.concatenate([pixels[..., :4], pixels[..., 3::-1]], -1)
    images = ImageSet(symmetric, None, range(6))
    queries = ImageSet(random_images(2, ATTENTIVE, seed=1), None, range(6, 8))
    results = []
    for flip in (False, True):
        draws = common_draws(0, "test", 8, 50, (3, 8, 8), flip=flip)
        source = replace(scored.source, draws=draws)
        inputs = images, queries
        influence = score(source, scored.factors, *inputs, VARIANTS, member_of=GROUPS)
        steps = tracin([source], [0.1], *inputs)
        without_norms = gradient_source(scored.denoiser, draws, norms=False)
        family = [trak(without_norms, *inputs, name, [0.1], seed=0) for name in TRAK_METHODS]
        asymmetric = score(source, scored.factors, scored.images, queries, VARIANTS)
        results.append([*influence.values(), steps, *family, asymmetric["score"]])
    *same, other = zip(*results, strict=True)
    for plain, mirrored in same:
        np.testing.assert_allclose(mirrored, plain, rtol=1e-7, atol=1e-13)
    assert not np.allclose(*other, rtol=1e-3)


def test_models_trained_on_parts_score_on_the_scale_of_the_whole(scored):
    own = [0, 2, 5]
    part, whole = (
        scored.scores(images, scored.images, VARIANTS[:1], centred=False, share=share)["score"]
        for images, share in ((scored.images.subset(own), 0.5), (scored.images, 1.0))
    )
    np.testing.assert_allclose(part, whole[:, :, own], rtol=1e-7, atol=1e-13)
    source = gradient_source(scored.denoiser, scored.draws(), norms=False)
    for method, power in (("trak", 1), ("das", 2)):
        inputs = source, scored.images, scored.images, method, [0.1]
        whole, part = trak(*inputs, seed=0), trak(*inputs, seed=0, share=0.5)
        np.testing.assert_allclose(part, whole * 0.5**power, rtol=1e-7)


def test_a_group_without_any_of_the_images_has_neither_curvature_nor_score(scored):
    groups = np.concatenate([GROUPS, np.zeros((1, 6), bool)])
    with_empty = factors(scored.denoiser, scored.images, groups, FACTORS_CONFIG, seed=1)
    for arrays in with_empty.values():
        for name in (n for n in arrays if n.startswith("group_")):
            assert (arrays[name][3] == 0).all()
            assert np.isfinite(arrays[name]).all()
    inputs = scored.source, with_empty, scored.images, scored.images, VARIANTS
    effect = score(*inputs, member_of=groups)
    assert (effect["group_score"][0, :, 3] == 0).all()
    assert (effect["group_score"][0, :, :3] != 0).all()


@pytest.mark.parametrize("draw_sampler", [common_draws, per_image_draws])
def test_neither_blocks_nor_the_order_of_images_and_queries_change_a_score(scored, draw_sampler):
    order = [4, 2, 0, 1, 5, 3]
    source = replace(scored.source, draws=scored.draws(draw_sampler=draw_sampler))
    whole = scored.scores(source=source)["score"]
    shuffled = scored.scores(
        scored.images.subset(order),
        scored.images.subset([3, 1]),
        source=replace(source, max_examples=8),
    )
    np.testing.assert_allclose(
        shuffled["score"], whole[:, [3, 1]][:, :, order], rtol=1e-7, atol=1e-13
    )


def test_halves_only_add_what_they_say_of_reliability(scored):
    with_, plain = scored.scores(), scored.scores(halves=False)
    assert set(plain) == {"score", "score_centred"}
    assert set(with_) == {*plain, "reliability", "reliability_centred", "chosen"}
    for form in ("", "_centred"):
        score, reliability = with_[f"score{form}"], with_[f"reliability{form}"]
        np.testing.assert_allclose(score, plain[f"score{form}"], rtol=1e-7, atol=1e-13)
        assert reliability.shape == (5, 6)
        assert ((reliability >= 0) & (reliability <= 1)).all()
    structures = [VARIANTS[i].structure for i in np.flatnonzero(with_["chosen"])]
    assert sorted(structures) == ["ekfac", "gradient_dot", "kfac"]


@pytest.mark.parametrize(("dtype", "close"), [("float16", 2e-3), ("int8", 3e-2)])
def test_quantised_query_gradients_move_scores_by_little(scored, dtype, close):
    whole = scored.scores(halves=False)["score"]
    coarse = scored.scores(halves=False, query_gradient_dtype=dtype)["score"]
    error = np.abs(coarse - whole).max((1, 2)) / np.abs(whole).max((1, 2))
    assert (error < close).all()
    assert (error > 0).all()


def test_quantised_rows_take_a_quarter_and_survive_tiny_numbers_and_empty_rows():
    layers = tracked_layers(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(3, 4)))
    size = layers[-1].stop
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(0)) * 1e-12
    rows[1] = 0
    quantised = quantise((rows[:, layer.span] for layer in layers), layers, "int8")
    assert quantised.bytes * 4 == rows.numel() * 4
    back = torch.zeros_like(rows)
    for layer, values, scale in zip(layers, quantised.values, quantised.scales, strict=True):
        for view, value in zip(layer.views(back[:, layer.span]), values, strict=True):
            view.copy_((value * scale).T.view_as(view))
    torch.testing.assert_close(back, rows, rtol=0, atol=4e-12 / 127)


def test_queries_of_a_v_model_are_measured_in_noise_and_images_by_the_loss_of_its_training():
    scored = Scored("v_prediction", images=3)
    measurements = ("noise", "training")
    stream = [rows for _, rows in image_gradients(scored.source, scored.images, measurements)]
    noise, training = (torch.cat([r[0] for r in rows]) for rows in zip(*stream, strict=True))
    scores = scored.scores(variants=VARIANTS[:1], centred=False, halves=False)["score"][0]
    np.testing.assert_allclose(scores, (noise @ training.T).numpy() / 3, rtol=1e-7)


def test_factors_of_another_network_are_refused(scored):
    wrong = {k: v for k, v in scored.factors.items() if k != "conv_in"}
    with pytest.raises(BegatError, match=r"expected factors of \d+ layers, found \d+ \(conv_in\)"):
        score(scored.source, wrong, scored.images, scored.images, VARIANTS)


def test_factors_depend_neither_on_blocks_nor_on_what_else_is_there(scored):
    smaller_blocks = replace(FACTORS_CONFIG, max_examples=3)
    again = factors(scored.denoiser, scored.images, GROUPS, smaller_blocks, seed=1)
    for layer, arrays in scored.factors.items():
        assert set(arrays) == set(again[layer])
        for name in arrays:
            if name in ("activation_eigenvalues", "gradient_eigenvalues"):
                np.testing.assert_allclose(again[layer][name], arrays[name], rtol=1e-6, atol=1e-12)


def test_the_bias_of_attentions_keys_is_dead_though_rounding_moves_it(scored):
    for dtype in (torch.float64, torch.float32):
        denoiser = replace(scored.denoiser, module=scored.denoiser.module.to(dtype))
        arrays = factors(denoiser, scored.images, GROUPS, FACTORS_CONFIG, seed=1)
        report = coverage_report(denoiser, arrays, norms=True)
        names = report["dead"]
        assert not report["uncovered"]
        assert names
        assert all(name.endswith("to_k.bias") for name in names)
        assert arrays[names[0].removesuffix(".bias")]["bias_eigenvalues"].max() > 0
        scored.denoiser.module.double()


def test_untracked_parameters_are_named_with_their_share(scored):
    without_norms = replace(FACTORS_CONFIG, norms=False)
    arrays = factors(scored.denoiser, scored.images, GROUPS, without_norms, seed=1)
    uncovered = coverage_report(scored.denoiser, arrays, norms=False)["uncovered"]
    sizes = {n: p.numel() for n, p in scored.denoiser.module.named_parameters()}
    assert set(uncovered) == {n for n in sizes if "norm" in n}
    assert uncovered["conv_norm_out.bias"] == sizes["conv_norm_out.bias"] / sum(sizes.values())


def test_reliability_is_agreement_extrapolated_to_all_draws_and_selects_the_damping():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(1, 4, 500))
    noise = generator.normal(size=(2, 3, 4, 500)) * np.array([3.0, 0.5, 1.0])[:, None, None]
    first, second = truth + noise
    reliability = split_half_reliability(first, second).mean(1)
    expected = 1 / (1 + np.array([9.0, 0.25, 1.0]) / 2)
    np.testing.assert_allclose(reliability, expected, atol=0.08)
    assert select_damping(first, second) == 1
    assert split_half_reliability(first, -first).max() == 0


def test_tracin_sums_steps_times_products_over_states(scored):
    stream = image_gradients(scored.source, scored.images)
    rows = torch.cat([r[0] for _, (r,) in stream]).numpy()
    states = [scored.source, scored.source]
    scores = tracin(states, [0.1, 0.3], scored.images, scored.images)
    product = 0.4 * rows @ rows.T / 6
    np.testing.assert_allclose(scores[0], product, rtol=1e-7, atol=1e-13)
    np.testing.assert_allclose(scores[1], product / np.linalg.norm(rows, axis=1), rtol=1e-7)
    for rates, said in (([0.1], "1 for more"), ([0.1] * 3, "3 for 2")):
        message = f"learning rate for each state of the model, found {said}"
        with pytest.raises(BegatError, match=message):
            tracin(states, rates, scored.images, scored.images)


def test_groups_curvatures_make_up_the_whole(scored):
    for parts in scored.factors.values():
        for name in [n.removeprefix("group_") for n in parts if n.startswith("group_")]:
            mean = parts[f"group_{name}"].mean(0)
            np.testing.assert_allclose(mean, parts[name], rtol=1e-5, atol=1e-12)


def test_a_group_scores_as_the_sum_of_its_images_where_curvature_does_not_matter(scored):
    far = [Variant("ekfac", "absolute", 1e6)]
    scores = scored.scores(variants=far, centred=False, member_of=GROUPS)
    summed = scores["score"][0] @ GROUPS.T
    np.testing.assert_allclose(scores["group_score"][0], summed, rtol=1e-4, atol=1e-18)
    assert scores["group_uncertainty"].shape == (1, 6, 3)


class Counted(ImageSet):
    """An image set that notes which images are taken."""

    def images(self, span):
        self.taken.extend(self.ids[span])
        return super().images(span)

    def subset(self, indices):
        few = Counted(**vars(super().subset(indices)))
        object.__setattr__(few, "taken", self.taken)
        return few


def test_one_pass_over_the_images_serves_images_and_groups_and_one_over_the_queries(scored):
    images, queries = (Counted(scored.images.pixels, None, range(n, n + 6)) for n in (0, 6))
    for counted in (images, queries):
        object.__setattr__(counted, "taken", [])
    source = replace(scored.source, max_examples=8)
    scored.scores(images, queries, centred=False, member_of=GROUPS, source=source)
    assert images.taken == list(images.ids)
    assert queries.taken == list(queries.ids)
    scored.scores(images, queries, member_of=GROUPS)  # the mean of a few is one more
    assert images.taken == list(images.ids) * 3


def test_means_collected_in_passing_are_those_of_each_groups_images_by_halves(scored):
    source = replace(scored.source, draws=scored.draws(8))
    row = torch.zeros(1, source.layers[-1].stop).double()
    columns = (row[:, layer.span] for layer in source.layers)
    queries = [quantise(columns, source.layers, "float32")] * 2
    groups = np.concatenate([GROUPS, np.zeros((1, 6), bool)])
    groups[0, 1] = True  # groups may overlap
    smaller_blocks = replace(source, max_examples=24)
    _, means = pairwise_products(smaller_blocks, scored.images, "training", queries, groups)
    for group, members in enumerate(groups[:3]):
        few = scored.images.subset(np.flatnonzero(members).tolist())
        expected = mean_gradient(source, few, "training", parts=2)
        torch.testing.assert_close(means[:, group], expected[:, 0], rtol=1e-9, atol=1e-14)
    assert (means[:, 3] == 0).all()
