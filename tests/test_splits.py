"""Who trains on what: every kind's promise, and requests that cannot be met."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as drawn
from small import ROOT

from begat.config.load import load
from begat.config.schema import Splits
from begat.ensembles.codes import code_blocks, fitting_members
from begat.ensembles.codewords import codeword_count
from begat.ensembles.exposure import check_exposure, group_exposure
from begat.ensembles.null_codes import null_codes, residual_directions
from begat.ensembles.training_sets import Ensemble, encode
from begat.errors import BegatError
from begat.execution.model_list import check_request, fitted, roster
from begat.stages import PARAMS

IMAGES, GROUPS = 40, 5
SPLITS = Splits(
    full=1,
    members=10,
    code="nested",
    group_members=8,
    group_code="hadamard",
    logo=1,
    subsets=6,
    group_subsets=4,
    seeds_per_subset=2,
    subset_fraction=0.5,
)
SHIPPED = load(ROOT, "params.yaml", PARAMS).splits
DISJOINT = np.arange(IMAGES) % GROUPS == np.arange(GROUPS)[:, None]


def encoded(member_of=DISJOINT, cluster=None, pack=4, seed=0, **changes):
    splits = dataclasses.replace(SPLITS, **changes)
    models = roster(splits, len(member_of), pack)
    names = [f"g{i}" for i in range(len(member_of))]
    cluster = np.arange(IMAGES, dtype=np.int32) if cluster is None else cluster
    arrays = encode(
        models,
        member_of,
        names,
        cluster,
        seed=seed,
        images=Ensemble(splits.members, splits.code),
        groups=Ensemble(splits.group_members, splits.group_code),
        subset_fraction=splits.subset_fraction,
    )
    return models, arrays


def rows(models, arrays, kind):
    return arrays["trains_on"][[m.kind == kind for m in models]]


def test_every_kind_trains_on_what_its_name_says():
    models, arrays = encoded()
    assert rows(models, arrays, "full").all()
    np.testing.assert_array_equal(rows(models, arrays, "logo"), ~DISJOINT)
    np.testing.assert_array_equal(rows(models, arrays, "member").T, arrays["member_code"])
    seen = group_exposure(DISJOINT, rows(models, arrays, "group_member"))
    np.testing.assert_array_equal(seen, arrays["group_member_code"])
    assert (rows(models, arrays, "subset").sum(1) == IMAGES // 2).all()
    assert (group_exposure(DISJOINT, rows(models, arrays, "group_subset")).sum(0) == 2).all()


def test_the_seeds_of_a_subset_share_its_images_and_subsets_differ():
    models, arrays = encoded()
    subsets = rows(models, arrays, "subset").reshape(6, 2, IMAGES)
    np.testing.assert_array_equal(subsets[:, 0], subsets[:, 1])
    assert len(np.unique(subsets[:, 0], axis=0)) == 6


def test_near_duplicates_always_go_together():
    cluster = np.arange(IMAGES, dtype=np.int32)
    cluster[[7, 21]] = 3
    models, arrays = encoded(cluster=cluster)
    for kind in ("member", "subset"):
        found = rows(models, arrays, kind)
        np.testing.assert_array_equal(found[:, 7], found[:, 3])
        np.testing.assert_array_equal(found[:, 21], found[:, 3])


def test_an_image_of_several_groups_needs_all_of_them():
    member_of = DISJOINT.copy()
    member_of[0, :10] = True
    models, arrays = encoded(member_of)
    for row in rows(models, arrays, "group_member"):
        seen = group_exposure(member_of, row[None])[:, 0]
        assert not row[member_of[~seen].any(0)].any()
    for group, row in enumerate(rows(models, arrays, "logo")):
        np.testing.assert_array_equal(row, ~member_of[group])


def test_asking_for_more_models_leaves_the_others_as_they_were():
    few, arrays = encoded()
    many, more = encoded(members=12, subsets=9, group_subsets=6, seeds_per_subset=2)
    position = {model.name: i for i, model in enumerate(many)}
    for i, model in enumerate(few):
        j = position[model.name]
        assert many[j].recipe == model.recipe
        np.testing.assert_array_equal(more["trains_on"][j], arrays["trains_on"][i])


def test_no_two_subsets_are_alike_even_if_all_there_are_are_drawn():
    for seed in range(5):
        models, arrays = encoded(group_subsets=10, seeds_per_subset=1, seed=seed)
        subsets = rows(models, arrays, "group_subset")
        assert len(np.unique(subsets, axis=0)) == 10
        fewer, first = encoded(group_subsets=6, seeds_per_subset=1, seed=seed)
        np.testing.assert_array_equal(rows(fewer, first, "group_subset"), subsets[:6])


def test_near_duplicates_may_leave_too_few_subsets_that_differ():
    with pytest.raises(BegatError, match="splits.subsets: expected at most 6, .* 2 of 4 units"):
        encoded(cluster=(np.arange(IMAGES) // 10).astype(np.int32), members=0, subsets=7)


def test_codes_as_published_depend_on_how_many_members_there_are():
    recipes = [
        [m.recipe for m in roster(dataclasses.replace(SPLITS, code="random", members=n), GROUPS, 4)]
        for n in (10, 12)
    ]
    assert recipes[0][6] != recipes[1][6]
    assert recipes[0][6]["members"] == 10


def test_packs_hold_models_of_one_family_and_no_more_than_asked():
    models, _ = encoded(pack=4)
    packs = {}
    for model in models:
        packs.setdefault(model.pack, []).append(model.kind)
    assert max(map(len, packs.values())) == 4
    assert packs["full-0"] == ["full", "logo", "logo", "logo"]
    assert all(len(set(kinds) - {"full", "logo"}) <= 1 for kinds in packs.values())


def test_leave_one_group_out_models_share_the_full_models_randomness():
    models, _ = encoded()
    streams = {m.kind: m.stream for m in models if m.kind in ("full", "logo")}
    assert streams["full"] == streams["logo"] == "full-0"


def test_other_seeds_make_other_splits():
    _, first = encoded(seed=0)
    _, other = encoded(seed=1)
    assert not np.array_equal(first["trains_on"], other["trains_on"])


@pytest.mark.parametrize(
    ("changes", "groups", "message"),
    [
        (dict(members=4), 5, r"splits.members \(code: nested\): .* even number of at least 8"),
        (
            dict(members=4, code="random"),
            5,
            r"splits.members \(code: random\): 40 units need 8 to 66 members, found 4",
        ),
        (
            dict(group_members=12),
            5,
            r"splits.group_members \(group_code: hadamard\): 5 units need a multiple of 8 members "
            r"\(8 or 16\), found 12",
        ),
        (dict(logo=100, full=100, group_members=0), 100, "1 to 10000 models in all, found 10130"),
        (
            dict(full=0, members=0, group_members=0, logo=0, subsets=0, group_subsets=0),
            5,
            "splits: expected 1 to 10000 models in all, found 0",
        ),
        (dict(logo=2), 5, "splits.full: expected at least splits.logo=2 seeds"),
    ],
)
def test_impossible_requests_are_refused_before_anything_runs(changes, groups, message):
    with pytest.raises(BegatError, match=message):
        check_request(dataclasses.replace(SPLITS, **changes), IMAGES, groups)


@pytest.mark.parametrize("groups", [0, 1, 2, 3, 4, 5, 7, 10, 11, 30, 1000])
@pytest.mark.parametrize("images", [40, 924, 50_000])
def test_any_number_of_images_and_groups_is_fitted_to_a_request_that_can_be_met(images, groups):
    found = fitted(SHIPPED, images, groups)
    check_request(found, images, groups)
    assert found.members == {40: 16, 924: 16, 50_000: 20}[images]
    assert found.group_members == (0 if groups < 2 else 14 if groups == 1000 else 12)
    assert found.group_code == ("hadamard" if 7 <= groups <= 10 else "nested")
    assert found.group_subsets == {0: 0, 1: 0, 2: 2, 3: 3, 4: 6}.get(groups, 10)
    assert found.logo == (2 if groups > 1 else 0)


@pytest.mark.parametrize("groups", range(2, 12))
def test_what_was_fitted_can_be_encoded_and_leaves_codes_or_directions_unused(groups):
    found = fitted(SHIPPED, IMAGES, groups)
    member_of = np.arange(IMAGES) % groups == np.arange(groups)[:, None]
    codes = encoded(member_of, **dataclasses.asdict(found))[1]["group_member_code"]
    if found.group_code == "hadamard":
        assert len(residual_directions(codes)) > 0
    else:
        blocks = code_blocks("nested", *codes.shape)
        assert len(null_codes(np.random.default_rng(0), codes, blocks, 20)) > 0


@pytest.mark.parametrize(("units", "members"), [(2, 2), (6, 4), (70, 8), (924, 12), (924, 0)])
def test_a_fitted_code_has_a_word_that_no_unit_holds(units, members):
    found = fitting_members(units, members)
    assert math.prod(map(codeword_count, code_blocks("nested", units, found))) > units


def test_splits_that_fit_stay_as_they_are():
    assert fitted(SPLITS, IMAGES, GROUPS) == SPLITS


def test_a_model_left_with_nothing_is_refused():
    everywhere = np.ones((GROUPS, IMAGES), bool)
    with pytest.raises(BegatError, match="has no image left to train on"):
        encoded(everywhere, group_members=0)


def test_a_group_inside_another_is_refused_as_fewer_members_would_see_it():
    member_of = DISJOINT.copy()
    member_of[1] = member_of[0]
    member_of[1, :10] = False
    message = "expected 4 members to train on group 'g1', as its code says, found 2: its images"
    with pytest.raises(BegatError, match=f"splits.group_members: {message}"):
        encoded(member_of, logo=0, group_subsets=0)
    encoded(member_of, logo=0, group_subsets=0, group_members=0)


def test_overlapping_groups_with_images_of_their_own_are_seen_as_their_codes_say():
    member_of = DISJOINT.copy()
    member_of[0, :10] = True
    models, arrays = encoded(member_of)
    seen = group_exposure(member_of, rows(models, arrays, "group_member"))
    np.testing.assert_array_equal(seen, arrays["group_member_code"])


@given(
    codes=drawn.arrays(bool, (4, 6)),
    member_of=drawn.arrays(bool, (4, 9)),
)
def test_exposure_is_what_the_trained_models_show(codes, member_of):
    trains_on = np.stack([~member_of[~on].any(0) for on in codes.T])
    as_said = np.array_equal(group_exposure(member_of, trains_on), codes)
    membership = [np.flatnonzero(of).tolist() for of in member_of.T]
    try:
        check_exposure(codes, membership, "abcd")
    except BegatError:
        assert not as_said
    else:
        assert as_said
