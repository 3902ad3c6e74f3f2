"""Scores of every method, and their way from images to groups."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import t as student
from tqdm import tqdm

from begat.diffusion.elbo import elbo_weights
from begat.diffusion.schedules import cosine_schedule
from begat.ensembles import scores as scores_ensemble
from begat.ensembles.ablation import CONTRASTS
from begat.ensembles.codes import hadamard_codes, nested_codes
from begat.ensembles.exposure import even_shares, mean_over_trained
from begat.errors import BegatError
from begat.evaluation import group_scores as aggregated
from begat.evaluation import pixel_similarity as scores_pixel
from begat.evaluation.statistics import lds, removed_sum
from begat.execution.context import JobContext
from begat.execution.gradient_inputs import ProgressImageSet, training_image_set
from begat.execution.results import additive_scores
from begat.influence import features as scores_features
from begat.influence import tracin as scores_tracin
from begat.influence import trak as scores_trak
from begat.influence import variants as scores_influence
from begat.influence.blocks import image_slices
from begat.stages import STAGES
from begat.unlearning import leave_one_out as scores_logo
from begat.unlearning import scores as scores_guda

pytestmark = pytest.mark.numerics

UNITS, MEMBERS, QUERIES = 30, 10, 4


def gram_with_effect(seen, unit, size, seed=0):
    """Gram matrices of members that err less on query 0 if they saw ``unit``."""
    errors = np.random.default_rng(seed).normal(size=(QUERIES, seen.shape[1], 200))
    errors[0, seen[unit]] *= 1 - size
    return errors @ errors.transpose(0, 2, 1) / 200


def scored(gram, seen, **changes):
    how = {"code": "nested", "seed": 0, "level": "image", "null_samples": 199, **changes}
    return scores_ensemble.score(gram, seen, **how)


@pytest.mark.parametrize("variant", range(len(CONTRASTS)))
def test_a_unit_with_a_real_effect_comes_first_and_is_unlikely_by_chance(variant):
    seen = nested_codes(0, "x", UNITS, MEMBERS)
    found = scored(gram_with_effect(seen, 17, 0.6), seen)
    assert found["score"][variant, 0].argmax() == 17
    assert found["p_value"][variant, 0, 17] <= 0.02
    assert found["score"][variant, 0, 17] > 2 * found["uncertainty"][variant, 0, 17]


def test_p_values_of_units_without_effect_are_spread_evenly():
    values = []
    for seed in range(40):
        seen = nested_codes(seed, "x", UNITS, MEMBERS)
        gram = gram_with_effect(seen, 0, 0.0, seed)
        values.append(scored(gram, seen, seed=seed)["p_value"][0, 0])
    values = np.concatenate(values)
    for level in (0.1, 0.5, 0.9):
        assert (values <= level).mean() == pytest.approx(level, abs=0.06)


def test_units_of_unequal_numbers_of_members_are_refused():
    seen = nested_codes(0, "x", UNITS, MEMBERS)
    seen[3, seen[3].argmin()] = True
    with pytest.raises(BegatError, match="5 to 6 members were .*; p-values need equal"):
        scored(gram_with_effect(seen, 0, 0.1), seen)


def test_p_values_without_an_unused_code_are_refused():
    seen = np.array([[1, 0], [0, 1]], bool)
    with pytest.raises(BegatError, match="every group code is in use, none is left"):
        gram = np.tile(np.eye(2), (1, 1, 1))
        scores_ensemble.score(gram, seen, "nested", seed=0, level="group", null_samples=9)


GROUPS, GROUP_MEMBERS = 10, 12  # one direction is left


def scored_groups(effects, queries, seed=0):
    """Scores of groups that lower the loss by ``effects``; members differ by .002 besides."""
    seen = hadamard_codes(seed, "x", len(effects), GROUP_MEMBERS)
    generator = np.random.default_rng(seed)
    noise = 0.002 * generator.normal(size=(queries, GROUP_MEMBERS))
    size = 1 + (noise - effects @ seen) / 2  # of errors that all point the same way
    rest = 0.002 * generator.normal(size=(queries, GROUP_MEMBERS, 50))
    errors = np.concatenate([size[..., None], rest], 2)
    gram = errors @ errors.transpose(0, 2, 1)
    return scored(gram, seen, code="hadamard", level="group", seed=seed)


@pytest.mark.parametrize("variant", range(len(CONTRASTS)))
def test_one_of_many_groups_with_effects_is_unlikely_by_chance(variant):
    found = scored_groups(np.append(np.full(GROUPS - 1, 0.01), 0), 200)
    assert np.median(found["p_value"][variant, :, :-1]) < 0.05


@pytest.mark.parametrize("variant", range(len(CONTRASTS)))
def test_p_values_of_a_group_without_effect_among_others_are_spread_evenly(variant):
    values = [
        scored_groups(np.append(np.full(GROUPS - 1, 0.01), 0), 200, seed)["p_value"][variant, :, -1]
        for seed in range(10)
    ]
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.mean(np.array(values) <= level) == pytest.approx(level, abs=0.04)


def test_the_null_of_orthogonal_codes_is_the_residual_of_their_regression():
    seen = hadamard_codes(0, "x", 5, 16)
    loss = np.random.default_rng(0).normal(size=16)
    found = scored(np.diag(loss)[None], seen, code="hadamard", level="group")
    design = np.concatenate([np.ones((1, 16)), 1.0 - 2 * seen]).T  # half the effect each
    effect, (residual,), *_ = np.linalg.lstsq(design, loss, rcond=None)
    error = 2 * np.sqrt(residual / (16 - 6) / 16)
    row = list(CONTRASTS).index("means")
    np.testing.assert_allclose(found["score"][row, 0], 2 * effect[1:])
    np.testing.assert_allclose(found["uncertainty"][row, 0], error)
    np.testing.assert_allclose(found["p_value"][row, 0], student.sf(2 * effect[1:] / error, 10))


def test_members_without_any_error_have_even_p_values():
    seen = hadamard_codes(0, "x", 5, 8)
    found = scored(np.zeros((1, 8, 8)), seen, code="hadamard", level="group")
    np.testing.assert_array_equal(found["p_value"], 0.5)


def test_perfect_scores_of_clusters_foretell_every_half_once_their_copies_share_them():
    generator = np.random.default_rng(0)
    cluster = np.repeat(np.arange(32), np.repeat([1, 2, 6], [20, 8, 4]))
    _, unit, size = np.unique(cluster, return_inverse=True, return_counts=True)
    effect = generator.normal(size=(3, len(size)))
    removed = generator.random((40, len(size))) < 0.5
    loss = (removed @ effect.T)[:, None]
    score, copies = effect[:, unit], removed[:, unit].astype(float)
    np.testing.assert_allclose(lds(removed_sum(score * even_shares(cluster), copies), loss), 1)
    assert lds(removed_sum(score, copies), loss).max() < 0.95


class Stored(dict):
    """Arrays with attributes, as a stored artifact has them."""

    def __init__(self, arrays, **attributes):
        super().__init__(arrays)
        self.attributes = attributes


def test_copies_share_a_score_of_their_cluster_and_no_score_of_their_own():
    score = np.ones((1, 2, 5), np.float32)
    context = JobContext.__new__(JobContext)
    context.input = lambda stage: {"cluster": np.array([0, 1, 1, 1, 0])}
    context.scores = lambda: [
        Stored({"score": score}, methods=["ensemble"], of_clusters=True),
        Stored({"score": score}, methods=["ekfac"], of_clusters=False),
        Stored({"group_score": score}, methods=["guda"], of_clusters=False),
    ]
    found = additive_scores(context)
    assert list(found) == ["ensemble", "ekfac"]
    np.testing.assert_allclose(found["ensemble"][0], [1 / 2, 1 / 3, 1 / 3, 1 / 3, 1 / 2])
    np.testing.assert_array_equal(found["ekfac"], 1)
    whole, _ = aggregated.summed(found["ensemble"][None], np.array([[0, 1, 1, 1, 0]], bool))
    np.testing.assert_allclose(whole, 1)


def test_the_same_image_is_most_similar_to_itself():
    images = np.random.default_rng(0).uniform(-1, 1, (20, 3, 4, 4))
    found = scores_pixel.similarity(images[:5], images, np.arange(20))[0]
    np.testing.assert_array_equal(found.argmax(1), range(5))
    np.testing.assert_allclose(found[range(5), range(5)], 1, atol=1e-6)
    assert ((found > 0) & (found <= 1)).all()


def test_the_kernel_is_as_wide_as_neighbours_are_apart(monkeypatch):
    monkeypatch.setattr("begat.evaluation.distances.BLOCK", 7)
    images = np.random.default_rng(0).uniform(-1, 1, (20, 1, 4, 4))
    distance = np.sqrt(((images[:, None] - images) ** 2).mean((2, 3, 4)))
    width = np.median((distance + np.eye(20) * 99).min(1))
    expected = np.exp(-0.5 * (distance[:3] / width) ** 2)
    found = scores_pixel.similarity(images[:3], images, np.arange(20))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_copies_do_not_narrow_the_kernel():
    images = np.random.default_rng(0).uniform(-1, 1, (20, 1, 4, 4))
    alone = scores_pixel.similarity(images[:3], images, np.arange(20))
    twice = np.concatenate([images, images])
    found = scores_pixel.similarity(images[:3], twice, np.tile(np.arange(20), 2))
    np.testing.assert_allclose(found, np.tile(alone, 2), rtol=1e-6)
    with pytest.raises(BegatError, match="expected at least two different images"):
        scores_pixel.similarity(images[:3], images[[0, 0]], np.zeros(2, int))


WEIGHTS = elbo_weights(cosine_schedule(50)).numpy()


def logo(full, without):
    timestep = np.tile(np.arange(full.shape[-1]), (full.shape[1], 1))
    return scores_logo.score(full, without, timestep, WEIGHTS, 16)


def test_leaving_a_group_out_scores_what_the_loss_rises_by():
    generator = np.random.default_rng(0)
    full = generator.random((2, 3, 8))  # seed, query, draw
    rise = np.array([0.5, 0.0, -0.2])
    without = full + rise[:, None, None, None]
    found = logo(full, without)
    np.testing.assert_allclose(found["group_score"][0], np.tile(rise, (3, 1)), atol=1e-12)
    np.testing.assert_allclose(found["group_uncertainty"][:3], 0, atol=1e-12)
    same = logo(full, np.repeat(full[None], 4, 0))
    assert (same["group_score"] == 0).all()


def test_the_uncertainty_of_a_loss_is_its_standard_error_over_pairs_of_draws():
    generator = np.random.default_rng(0)
    pairs = generator.normal(size=(1, 1, 500, 16))
    without = np.stack([pairs + 1, pairs - 1], -1).reshape(1, 1, 500, 32)
    found = logo(np.zeros((1, 500, 32)), without)
    assert found["group_uncertainty"][0].mean() == pytest.approx(1 / 4, rel=0.05)
    assert found["group_score"][0].std() == pytest.approx(1 / 4, rel=0.1)


@pytest.mark.parametrize("parts", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (0.5, 1.0, 2.0)])
def test_the_error_of_several_trainings_counts_draws_once_and_trainings_too(parts):
    of_seed, of_draw, of_cell = parts
    generator, queries = np.random.default_rng(0), 4000

    def noise(size, *shape):
        return size * np.repeat(generator.normal(size=(1, *shape)), 2, -1)  # antithetic pairs

    without = noise(of_draw, 1, queries, 8) + noise(of_cell, 3, queries, 8)
    without = without + of_seed * generator.normal(size=(1, 3, queries, 1))
    found = scores_logo.error_over_draws_and_seeds(without)
    truth = of_seed**2 / 3 + of_draw**2 / 8 + of_cell**2 / 24
    assert without.mean((1, 3)).var() == pytest.approx(truth, rel=0.1)
    assert truth * 0.9 < (found**2).mean() < truth * 1.5


def test_the_truth_in_nats_weighs_the_same_losses_by_the_elbo():
    generator = np.random.default_rng(0)
    full, without = generator.random((2, 3, 50)), generator.random((4, 2, 3, 50))
    found = logo(full, without)["group_score"]
    assert len(found) == len(scores_logo.methods(2)) == 6
    nats = 16 * ((without - full) * WEIGHTS).sum(-1)  # one draw at every timestep: the whole sum
    for name, expected in (
        ("logo_elbo_retrained", nats.mean(1)),
        ("logo_elbo_paired", nats[:, 0]),
        ("logo_elbo_independent", nats[:, 1]),
    ):
        np.testing.assert_allclose(found[list(scores_logo.methods(2)).index(name)], expected.T)
    assert list(scores_logo.methods(1)) == ["logo_retrained", "logo_elbo_retrained"]
    assert len(logo(full[:1], without[:, :1])["group_score"]) == 2


def test_group_scores_are_sums_over_images_also_where_groups_overlap():
    generator = np.random.default_rng(0)
    score = generator.normal(size=(2, 3, 10))
    member_of = generator.random((4, 10)) < 0.5
    total, _ = aggregated.summed(score, member_of)
    for group in range(4):
        np.testing.assert_allclose(total[:, :, group], score[:, :, member_of[group]].sum(-1))


def test_the_uncertainty_of_a_sum_is_that_of_random_images():
    generator = np.random.default_rng(0)
    score = generator.normal(size=(1, 1, 40))
    sums = [score[0, 0, generator.permutation(40)[:15]].sum() for _ in range(20_000)]
    member_of = (np.arange(40) < 15)[None]
    _, spread = aggregated.summed(score, member_of)
    assert spread[0, 0, 0] == pytest.approx(np.std(sums), rel=0.02)


def test_a_group_of_all_images_has_no_uncertainty():
    _, spread = aggregated.summed(
        np.random.default_rng(0).normal(size=(1, 2, 9)), np.ones((1, 9)) > 0
    )
    np.testing.assert_allclose(spread, 0, atol=1e-7)


def test_rows_are_named_by_method_and_way():
    seen = hadamard_codes(0, "x", 5, 8)
    scores = {
        "score": np.zeros((2, 3, 10)),
        "group_score": np.ones((2, 3, 5)),
        "group_uncertainty": np.ones((2, 3, 5)),
    }
    member_of = np.arange(10) % 5 == np.arange(5)[:, None]
    assert seen.shape == (5, 8)
    names = ["a", "b"]
    both = aggregated.group_rows(names, names, scores, member_of)
    assert list(both) == ["a", "b", "a_summed", "b_summed"]
    other = aggregated.group_rows(names, ["a", "c"], scores, member_of)
    assert list(other) == ["a", "c", "a_summed", "b"]
    images_only = aggregated.group_rows(names, names, {"score": scores["score"]}, member_of)
    assert list(images_only) == names


def test_a_units_mean_is_over_the_models_that_were_trained_on_it():
    trained_on = np.array([[1, 1, 1, 0], [0, 1, 0, 0]], bool)
    values = [np.array([[1.0, 2.0, 3.0]]), np.array([[4.0]])]
    assert mean_over_trained(values, trained_on).tolist() == [[1, 3, 3, 0]]


@pytest.mark.parametrize("conditional", [False, True])
def test_a_model_is_looked_into_with_the_images_it_was_trained_on(conditional):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 2, 2), dtype=np.uint8)
    context = JobContext.__new__(JobContext)
    context.params = SimpleNamespace(unet=SimpleNamespace(class_conditional=conditional))
    context.input = lambda stage: {"pixels": pixels, "label": np.arange(6) % 3}
    own = np.array([0, 1, 0, 0, 1, 1], bool)
    bar = tqdm(total=6, disable=True)
    found = training_image_set(context, own, bar)
    assert list(found.ids) == [1, 4, 5]  # their draws stay their own
    np.testing.assert_array_equal(found.pixels, pixels[own])
    assert (found.label is None) != conditional
    assert not conditional or found.label.tolist() == [1, 1, 2]
    for everything in (None, np.ones(6, bool)):
        assert list(training_image_set(context, everything, bar).ids) == list(range(6))


def test_a_bar_counts_the_images_that_are_taken_in_every_pass():
    pixels = np.zeros((6, 1, 2, 2), np.uint8)
    with tqdm(total=14, file=io.StringIO()) as bar:
        images = ProgressImageSet(pixels, None, range(6), bar)
        for _ in range(2):
            taken = [len(images.images(span)) for span in image_slices(images, 2, 8)]
            assert taken == [4, 2]
        assert bar.n == 12
        images.subset([0, 1]).images(slice(0, 2))
        assert bar.n == 14


COMPUTED = {  # the rows of what the mathematics returns, in their order
    "scores_influence": (*scores_influence.METHODS, *scores_influence.GROUP_METHODS),
    "scores_trak": scores_trak.METHODS,
    "scores_tracin": scores_tracin.METHODS,
    "scores_guda": scores_guda.METHODS,
    "scores_features": scores_features.METHODS,
    "scores_pixel": scores_pixel.METHODS,
    "scores_logo": scores_logo.methods(2),
}


@pytest.mark.parametrize("stage", COMPUTED)
def test_methods_are_declared_in_the_order_of_the_computed_rows(stage):
    assert list(STAGES[stage].methods) == list(COMPUTED[stage])


def test_the_variants_of_ensembles_are_declared_in_the_order_of_their_contrasts():
    assert list(STAGES["scores_ensemble"].methods) == [f"ensemble_{name}" for name in CONTRASTS]
