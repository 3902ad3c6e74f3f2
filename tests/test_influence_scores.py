"""Influence scores against retraining in closed form, and what they do not depend on."""

import numpy as np
import pytest
import torch
from begat.diffusion.image_draws import common_draws, own_draws
from networks import (
    Buckets,
    Features,
    denoiser,
    draws,
    every_pixel,
    for_every_pixel,
    noisy,
    sample,
    seeded,
)
from small import random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.unet import UNetConfig
from begat.errors import BegatError
from begat.influence.curvature import covariances, eigenbases, eigenvalues
from begat.influence.factors import factors, left_out
from begat.influence.gradients import Sample, image_gradients, mean_gradient
from begat.influence.kronecker import blocks, without
from begat.influence.layers import covered_layers
from begat.influence.pairwise import (
    best_by_agreement,
    group_scores,
    products_with_all,
    split_half_reliability,
)
from begat.influence.quantised_gradients import stored
from begat.influence.scores import METHODS, Variant, best, score
from begat.influence.tracin import score as tracin
from begat.influence.trak import FUNCTIONS
from begat.influence.trak import score as trak

pytestmark = pytest.mark.numerics

D = 4
LIKE = torch.zeros((), dtype=torch.float64)


class Ridge:
    """A linear denoiser trained to the minimum of mean loss + ridge/2 |W|^2, image by image."""

    def __init__(self, kind, images, features, ridge, number=2):
        self.images, self.ridge, self.number = sample(images), ridge, number
        self.module = seeded(lambda: kind(features, D))
        self.inputs, self.targets = self._data(self.images)
        with torch.no_grad():
            self.module.layer.weight.copy_(self.minimum(torch.ones(images)))
        self.denoiser = denoiser(self.module)
        self.layers = covered_layers(self.module)

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
        asked = self.denoiser, self.layers, self.images, for_every_pixel(draws(self.number))
        bases = eigenbases(covariances(*asked, every_pixel), LIKE)
        values = eigenvalues(*asked, every_pixel, bases, groups=groups)
        return [{n: bases[n] | v[n] for n in bases} for v in values]

    def rows(self, images):
        ((_, (rows,)),) = image_gradients(
            self.denoiser, self.layers, images, draws(self.number), examples=1000
        )
        return rows[0]

    def scores(self, queries, damping, **how):
        curvature = {
            layer: {name: v.numpy() for name, v in parts.items()}
            for layer, parts in self.curvature()[0].items()
        }
        how = dict(centred=False, halves=False, norms=False) | how
        variant = [Variant("ekfac", "absolute", damping)]
        dealt = draws(self.number)
        asked = self.denoiser, curvature, self.images, queries, dealt, variant
        return score(*asked, **how)["score"][0]


def test_the_error_of_removing_part_of_an_image_falls_as_the_square_of_the_part():
    ridge = Ridge(Features, 12, 5, 0.05)
    queries = sample(3, first=100)
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
    queries = sample(4, first=100)
    member_of = torch.zeros(1, n)
    member_of[0, members] = 1
    (whole,), (group,) = ridge.curvature(), ridge.curvature(member_of)
    left = without(
        blocks(ridge.layers, whole, "ekfac"), blocks(ridge.layers, group, "ekfac"), 4 / n
    )
    mean = ridge.rows(ridge.images)[members].mean(0)
    how = dict(kind="absolute", damping=0.1)
    first_order = group_scores(left, ridge.rows(queries), mean, 4 / n, **how)
    step = group_scores(left, torch.eye(len(mean)).double(), mean, 4 / n, **how)
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
            blocks(ridge.layers, found, "ekfac"), g, g.mean(0), 1.0, kind="absolute", damping=d
        )
        for found, g, d in ((curvature, rows, 0.05), (summed, rows * D, 0.05 * D))
    )
    torch.testing.assert_close(other, one * D, rtol=1e-10, atol=1e-12)


def test_under_endless_damping_a_score_is_the_product_of_gradients():
    ridge, queries = Ridge(Features, 8, 3, 0.05), sample(3, first=100)
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


class Scored:
    """An attentive U-Net, its factors, images and queries."""

    def __init__(self, prediction="epsilon", images=6):
        row = random_rows(ATTENTIVE, 1)[0].double()
        self.denoiser = unet_denoiser(row, ATTENTIVE, SCHEDULE, prediction, torch.device("cpu"))
        pixels = random_images(images, ATTENTIVE)
        self.images = Sample(pixels, None, range(images))
        groups = GROUPS[:, :images]
        self.factors = factors(self.denoiser, self.images, groups, seed=1, draws=2)

    def draws(self, number=4, of=common_draws):
        return of(0, "scores_influence", number, 50, (3, 8, 8))

    def scores(self, images=None, queries=None, variants=VARIANTS, of=common_draws, **how):
        images, queries = images or self.images, queries or self.images
        return score(
            self.denoiser, self.factors, images, queries, self.draws(of=of), variants, **how
        )


@pytest.fixture(scope="module")
def scored():
    return Scored()


def test_with_the_same_draws_scores_between_training_images_are_symmetric(scored):
    found = scored.scores(centred=False)["score"]
    np.testing.assert_allclose(found, found.transpose(0, 2, 1), rtol=1e-6, atol=1e-12)


def test_the_scores_are_those_of_the_formula(scored):
    layers = covered_layers(scored.denoiser.module, norms=True)
    stream = image_gradients(scored.denoiser, layers, scored.images, scored.draws())
    rows = torch.cat([r[0] for _, (r,) in stream])
    tensors = {n: {k: torch.from_numpy(v) for k, v in p.items()} for n, p in scored.factors.items()}
    expected = []
    for variant in VARIANTS:
        if variant.structure == "gradient_dot":
            expected.append(torch.stack([rows @ rows.T, (rows - rows.mean(0)) @ rows.T]))
            continue
        total = torch.zeros(2, 6, 6).double()
        for b in blocks(layers, tensors, variant.structure):
            if b.dead:
                continue
            part = rows[:, b.place].unflatten(1, (len(b.basis_out), -1))
            rotated = torch.einsum("noi,op->npi", part, b.basis_out)
            if b.basis_in is not None:
                rotated = torch.einsum("npi,ij->npj", rotated, b.basis_in)
            scale = b.eigenvalues.mean() if variant.kind == "mean_eigenvalue" else 1
            g = rotated / (b.eigenvalues + variant.damping * scale).sqrt()
            total += torch.einsum("wqoi,joi->wqj", torch.stack([g, g - g.mean(0)]), g)
        expected.append(total)
    found = scored.scores()
    for way, values in zip(("score", "score_centred"), torch.stack(expected, 1), strict=True):
        np.testing.assert_allclose(found[way], values.numpy() / 6, rtol=1e-6, atol=1e-12)


def test_exactly_the_methods_that_are_not_centred_claim_a_sign(scored):
    _, arrays = best(VARIANTS, scored.scores())
    for measure, found in zip(METHODS.values(), arrays["score"], strict=True):
        # over the training images as queries a centred score sums to 0, whoever helped
        mean, largest = np.abs(found.mean(0)).max(), np.abs(found).max()
        assert (mean < 1e-6 * largest) == (not measure.signed)


def test_a_score_and_its_centred_form_have_the_same_damping(scored):
    found = scored.scores()
    of, arrays = best(VARIANTS, found)
    for i, variant in enumerate(of):
        at = VARIANTS.index(variant)
        assert found["chosen"][at]
        np.testing.assert_array_equal(arrays["score"][i], found["score"][at])
        np.testing.assert_array_equal(arrays["score"][i + 3], found["score_centred"][at])
        np.testing.assert_array_equal(arrays["reliability"][i], found["reliability"][at])


def test_only_training_images_are_mirrored(scored):
    pixels = random_images(6, ATTENTIVE)
    alike = Sample(np.concatenate([pixels[..., :4], pixels[..., 3::-1]], -1), None, range(6))
    queries = Sample(random_images(2, ATTENTIVE, seed=1), None, range(6, 8))
    found = []
    for flip in (False, True):
        dealt = common_draws(0, "test", 8, 50, (3, 8, 8), flip=flip)
        asked = scored.factors, alike, queries, dealt
        everything = score(scored.denoiser, *asked, VARIANTS, member_of=GROUPS)
        steps = tracin([scored.denoiser], [0.1], alike, queries, dealt)
        family = [trak(scored.denoiser, *asked[1:], name, [0.1], seed=0) for name in FUNCTIONS]
        found.append([*everything.values(), steps, *family])
        uneven = score(scored.denoiser, scored.factors, scored.images, queries, dealt, VARIANTS)
        found[-1].append(uneven["score"])
    *same, other = zip(*found, strict=True)
    for plain, mirrored in same:
        np.testing.assert_allclose(mirrored, plain, rtol=1e-7, atol=1e-13)
    assert not np.allclose(*other, rtol=1e-3)


def test_models_trained_on_parts_score_on_the_scale_of_the_whole(scored):
    own = [0, 2, 5]
    part, whole = (
        scored.scores(images, scored.images, VARIANTS[:1], centred=False, share=share)["score"]
        for images, share in ((scored.images.only(own), 0.5), (scored.images, 1.0))
    )
    np.testing.assert_allclose(part, whole[:, :, own], rtol=1e-7, atol=1e-13)
    how = dict(seed=0, share=0.5)
    dealt = scored.draws()
    for method, power in (("trak", 1), ("das", 2)):
        asked = scored.denoiser, scored.images, scored.images, dealt, method, [0.1]
        whole, part = trak(*asked, seed=0), trak(*asked, **how)
        np.testing.assert_allclose(part, whole * 0.5**power, rtol=1e-7)


def test_a_group_without_any_of_the_images_has_neither_curvature_nor_score(scored):
    groups = np.concatenate([GROUPS, np.zeros((1, 6), bool)])
    found = factors(scored.denoiser, scored.images, groups, seed=1, draws=2)
    for parts in found.values():
        for name in (n for n in parts if n.startswith("group_")):
            assert (parts[name][3] == 0).all()
            assert np.isfinite(parts[name]).all()
    asked = scored.denoiser, found, scored.images, scored.images, scored.draws()
    effect = score(*asked, VARIANTS, member_of=groups)
    assert (effect["group_score"][0, :, 3] == 0).all()
    assert (effect["group_score"][0, :, :3] != 0).all()


@pytest.mark.parametrize("of", [common_draws, own_draws])
def test_neither_blocks_nor_the_order_of_images_and_queries_change_a_score(scored, of):
    order = [4, 2, 0, 1, 5, 3]
    whole = scored.scores(of=of)["score"]
    shuffled = scored.scores(
        scored.images.only(order), scored.images.only([3, 1]), of=of, examples=8
    )
    np.testing.assert_allclose(
        shuffled["score"], whole[:, [3, 1]][:, :, order], rtol=1e-7, atol=1e-13
    )


def test_halves_only_add_what_they_say_of_reliability(scored):
    with_, plain = scored.scores(), scored.scores(halves=False)
    assert set(plain) == {"score", "score_centred"}
    assert set(with_) == {*plain, "reliability", "reliability_centred", "chosen"}
    for way in ("", "_centred"):
        score, reliability = with_[f"score{way}"], with_[f"reliability{way}"]
        np.testing.assert_allclose(score, plain[f"score{way}"], rtol=1e-7, atol=1e-13)
        assert reliability.shape == (5, 6)
        assert ((reliability >= 0) & (reliability <= 1)).all()
    structures = [VARIANTS[i].structure for i in np.flatnonzero(with_["chosen"])]
    assert sorted(structures) == ["ekfac", "gradient_dot", "kfac"]


@pytest.mark.parametrize(("storage", "close"), [("float16", 2e-3), ("int8", 3e-2)])
def test_coarse_storage_moves_scores_by_little(scored, storage, close):
    whole = scored.scores(halves=False)["score"]
    coarse = scored.scores(halves=False, storage=storage)["score"]
    error = np.abs(coarse - whole).max((1, 2)) / np.abs(whole).max((1, 2))
    assert (error < close).all()
    assert (error > 0).all()


def test_stored_rows_take_a_quarter_and_survive_tiny_numbers_and_empty_rows():
    layers = covered_layers(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(3, 4)))
    size = layers[-1].stop
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(0)) * 1e-12
    rows[1] = 0
    found = stored((rows[:, layer.place] for layer in layers), layers, "int8")
    assert found.bytes * 4 == rows.numel() * 4
    back = torch.zeros_like(rows)
    for layer, codes, scale in zip(layers, found.codes, found.scales, strict=True):
        for view, code in zip(layer.split(back[:, layer.place]), codes, strict=True):
            view.copy_((code * scale).T.view_as(view))
    torch.testing.assert_close(back, rows, rtol=0, atol=4e-12 / 127)


def test_a_v_model_is_asked_in_noise_space_and_answers_with_the_loss_it_was_trained_on():
    scored = Scored("v_prediction", images=3)
    layers = covered_layers(scored.denoiser.module, norms=True)
    rows = [[], []]
    for _, found in image_gradients(
        scored.denoiser, layers, scored.images, scored.draws(), ("noise", "training")
    ):
        for kept, row in zip(rows, found, strict=True):
            kept.append(row[0])
    noise, training = (torch.cat(r) for r in rows)
    found = scored.scores(variants=VARIANTS[:1], centred=False, halves=False)["score"][0]
    np.testing.assert_allclose(found, (noise @ training.T).numpy() / 3, rtol=1e-7)


def test_factors_of_another_network_are_refused(scored):
    wrong = {k: v for k, v in scored.factors.items() if k != "conv_in"}
    with pytest.raises(BegatError, match=r"expected factors of \d+ layers, found \d+ \(conv_in\)"):
        score(scored.denoiser, wrong, scored.images, scored.images, scored.draws(), VARIANTS)


def test_factors_depend_neither_on_blocks_nor_on_what_else_is_there(scored):
    again = factors(scored.denoiser, scored.images, GROUPS, seed=1, draws=2, examples=3)
    for layer, parts in scored.factors.items():
        assert set(parts) == set(again[layer])
        for name in parts:
            if name in ("activation_eigenvalues", "gradient_eigenvalues"):
                np.testing.assert_allclose(again[layer][name], parts[name], rtol=1e-6, atol=1e-12)


def test_the_bias_of_attentions_keys_is_dead_though_rounding_moves_it(scored):
    for dtype in (torch.float64, torch.float32):
        denoiser = scored.denoiser.with_module(scored.denoiser.module.to(dtype))
        found = factors(denoiser, scored.images, GROUPS, seed=1, draws=2)
        left = left_out(denoiser, found, norms=True)
        names = left["dead"]
        assert not left["uncovered"]
        assert names
        assert all(name.endswith("to_k.bias") for name in names)
        assert found[names[0].removesuffix(".bias")]["bias_eigenvalues"].max() > 0
        scored.denoiser.module.double()


def test_what_no_layer_covers_is_named_with_its_share(scored):
    without = factors(scored.denoiser, scored.images, GROUPS, seed=1, draws=2, norms=False)
    left = left_out(scored.denoiser, without, norms=False)["uncovered"]
    sizes = {n: p.numel() for n, p in scored.denoiser.module.named_parameters()}
    assert set(left) == {n for n in sizes if "norm" in n}
    assert left["conv_norm_out.bias"] == sizes["conv_norm_out.bias"] / sum(sizes.values())


def test_reliability_is_agreement_stepped_up_and_chooses_the_damping():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(1, 4, 500))
    noise = generator.normal(size=(2, 3, 4, 500)) * np.array([3.0, 0.5, 1.0])[:, None, None]
    first, second = truth + noise
    reliability = split_half_reliability(first, second).mean(1)
    expected = 1 / (1 + np.array([9.0, 0.25, 1.0]) / 2)
    np.testing.assert_allclose(reliability, expected, atol=0.08)
    assert best_by_agreement(first, second) == 1
    assert split_half_reliability(first, -first).max() == 0


def test_tracin_sums_steps_times_products_over_checkpoints(scored):
    layers = covered_layers(scored.denoiser.module, norms=True)
    stream = image_gradients(scored.denoiser, layers, scored.images, scored.draws())
    rows = torch.cat([r[0] for _, (r,) in stream]).numpy()
    checkpoints = [scored.denoiser, scored.denoiser]
    found = tracin(checkpoints, [0.1, 0.3], scored.images, scored.images, scored.draws())
    product = 0.4 * rows @ rows.T / 6
    np.testing.assert_allclose(found[0], product, rtol=1e-7, atol=1e-13)
    np.testing.assert_allclose(found[1], product / np.linalg.norm(rows, axis=1), rtol=1e-7)
    for rates, said in (([0.1], "1 for more"), ([0.1] * 3, "3 for 2")):
        with pytest.raises(BegatError, match=f"learning rate for each checkpoint, found {said}"):
            tracin(checkpoints, rates, scored.images, scored.images, scored.draws())


def test_groups_curvatures_make_up_the_whole(scored):
    for parts in scored.factors.values():
        for name in [n.removeprefix("group_") for n in parts if n.startswith("group_")]:
            mean = parts[f"group_{name}"].mean(0)
            np.testing.assert_allclose(mean, parts[name], rtol=1e-5, atol=1e-12)


def test_a_group_scores_as_the_sum_of_its_images_where_curvature_does_not_matter(scored):
    far = [Variant("ekfac", "absolute", 1e6)]
    found = scored.scores(variants=far, centred=False, member_of=GROUPS)
    summed = found["score"][0] @ GROUPS.T
    np.testing.assert_allclose(found["group_score"][0], summed, rtol=1e-4, atol=1e-18)
    assert found["group_uncertainty"].shape == (1, 6, 3)


class Counted(Sample):
    """A sample that notes which images are taken."""

    def images(self, some):
        self.taken.extend(self.number[some])
        return super().images(some)

    def only(self, chosen):
        few = Counted(**vars(super().only(chosen)))
        object.__setattr__(few, "taken", self.taken)
        return few


def test_one_pass_over_the_images_serves_images_and_groups_and_one_over_the_queries(scored):
    images, queries = (Counted(scored.images.pixels, None, range(n, n + 6)) for n in (0, 6))
    for asked in (images, queries):
        object.__setattr__(asked, "taken", [])
    scored.scores(images, queries, centred=False, member_of=GROUPS, examples=8)
    assert images.taken == list(images.number)
    assert queries.taken == list(queries.number)
    scored.scores(images, queries, member_of=GROUPS)  # the mean of a few is one more
    assert images.taken == list(images.number) * 3


def test_means_collected_in_passing_are_those_of_each_groups_images_by_halves(scored):
    layers = covered_layers(scored.denoiser.module, norms=True)
    asked = scored.denoiser, layers, scored.images, scored.draws(8), "training"
    row = torch.zeros(1, layers[-1].stop).double()
    kept = [stored((row[:, layer.place] for layer in layers), layers, "float32")] * 2
    groups = np.concatenate([GROUPS, np.zeros((1, 6), bool)])
    groups[0, 1] = True  # groups may overlap
    _, means = products_with_all(*asked, kept, groups, examples=24)
    for group, members in enumerate(groups[:3]):
        few = scored.images.only(np.flatnonzero(members).tolist())
        expected = mean_gradient(scored.denoiser, layers, few, *asked[3:], parts=2)
        torch.testing.assert_close(means[:, group], expected[:, 0], rtol=1e-9, atol=1e-14)
    assert (means[:, 3] == 0).all()
