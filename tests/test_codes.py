"""Codes satisfy the conditions of ablation."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import words_of_weight

from begat.ensembles.codes import (
    CODES,
    MAX_RANDOM_MEMBERS,
    check_codes,
    code_blocks,
    ensemble_codes,
    hadamard_codes,
    nested_codes,
    random_codes,
)
from begat.ensembles.codewords import codeword_count, codewords
from begat.ensembles.hadamard_matrices import hadamard_matrix
from begat.ensembles.null_codes import null_codes, residual_directions
from begat.errors import BegatError


def test_codewords_are_ranked_without_gaps_or_repetition():
    unranked = codewords(range(codeword_count(8)), 8, 4)
    assert {tuple(np.flatnonzero(codeword)) for codeword in unranked} == words_of_weight(8, 4)


@pytest.mark.parametrize("code", CODES)
@given(units=st.integers(2, 30), root=st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_ablating_a_unit_leaves_every_other_in_a_surviving_member(code, units, root):
    members = next((n for n in range(2, 200, 2) if _possible(code, units, n)), None)
    assume(members is not None)
    codes = ensemble_codes(code, root, "test", units, members)
    check_codes(codes)
    survivors = ~codes
    exposed = survivors.astype(int) @ codes.T.astype(int)  # members without row that have column
    assert (exposed[~np.eye(units, dtype=bool)] >= 1).all()


def _possible(code, units, members):
    try:
        code_blocks(code, units, members)
    except BegatError:
        return False
    return True


def test_random_codes_of_the_most_members_can_be_drawn():
    check_codes(random_codes(0, "x", 100, MAX_RANDOM_MEMBERS))


def test_random_codes_use_every_codeword_when_all_are_needed():
    codes = random_codes(0, "x", codeword_count(6), 6)
    assert {tuple(np.flatnonzero(c)) for c in codes} == words_of_weight(6, 3)


def test_members_can_be_added_to_a_nested_code_without_changing_the_others():
    short, long = (nested_codes(0, "x", 500, n) for n in (12, 18))
    np.testing.assert_array_equal(long[:, :12], short)
    assert (long.sum(1) == 9).all()


def test_hadamard_matrices_are_orthogonal_wherever_a_construction_exists():
    missing = []
    for order in range(4, 130, 4):
        matrix = hadamard_matrix(order)
        if matrix is None:
            missing.append(order)
            continue
        np.testing.assert_array_equal(matrix @ matrix.T, order * np.eye(order))
        assert (matrix[:, 0] == 1).all()
    assert missing == [52, 92, 100, 116]  # all have a known matrix, by rarer constructions


@pytest.mark.parametrize(
    ("units", "members"), [(4, 8), (6, 8), (10, 12), (11, 16), (22, 24), (10, 24)]
)
def test_every_pair_of_hadamard_codes_shares_exactly_a_quarter_of_the_members(units, members):
    codes = hadamard_codes(0, "x", units, members).astype(int)
    overlap = codes @ codes.T
    assert (np.diag(overlap) == members // 2).all()
    assert (overlap[~np.eye(units, dtype=bool)] == members // 4).all()
    assert ((codes.sum(0) > 0) & (codes.sum(0) < units)).all()


@pytest.mark.numerics
def test_orthogonal_codes_recover_additive_effects_exactly():
    codes = hadamard_codes(1, "x", 6, 8)
    effect = np.random.default_rng(0).normal(size=6)
    loss = 5.0 - codes.T @ effect
    difference = [loss[~c].mean() - loss[c].mean() for c in codes]
    np.testing.assert_allclose(difference, effect)


@pytest.mark.parametrize(
    ("code", "units", "members", "message"),
    [
        ("random", 71, 8, "71 units need 9 to 66 members, found 8"),
        ("nested", 71, 8, "71 units need an even number of at least 10 members, found 8"),
        ("nested", 20, 9, "even number of at least 6 members, found 9"),
        ("random", 71, 68, "71 units need 9 to 66 members, found 68"),
        ("hadamard", 11, 12, r"11 units need a multiple of 16 members \(16\), found 12"),
        ("hadamard", 12, 40, r"12 units need a multiple of 16 members \(32 or 48\), found 40"),
        ("hadamard", 5000, 12, "5000 units are too many for hadamard codes; use nested"),
        ("hadamard", 3, 4, "hadamard codes need at least 4 units, found 3"),
    ],
)
def test_more_units_than_codes_are_refused(code, units, members, message):
    with pytest.raises(BegatError, match=message):
        ensemble_codes(code, 0, "x", units, members)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[1, 0], [1, 0]], "two units share one code"),
        ([[1, 1], [1, 0]], "every member trains on unit 0"),
        ([[1, 0], [0, 0]], "no member trains on unit 1"),
        ([[1, 0, 0], [0, 1, 0]], "member 2 has nothing to train on"),
        ([[1, 0, 0], [0, 1, 1]], "unequal weight"),
    ],
)
def test_broken_codes_are_refused(codes, message):
    with pytest.raises(BegatError, match=message):
        check_codes(np.array(codes, bool))


@pytest.mark.parametrize(("code", "units", "members"), [("nested", 100, 14), ("hadamard", 10, 24)])
def test_null_codes_are_like_the_units_own_and_belong_to_none(code, units, members):
    codes = ensemble_codes(code, 0, "x", units, members)
    blocks = code_blocks(code, units, members)
    nulls = null_codes(np.random.default_rng(0), codes, blocks, 300)
    assert len(nulls) == 300
    assert len(np.unique(np.concatenate([codes, nulls]), axis=0)) == units + 300
    edges = np.cumsum([0, *blocks])
    for start, stop in itertools.pairwise(edges):
        assert (nulls[:, start:stop].sum(1) == (stop - start) // 2).all()


def test_all_unused_codewords_are_null_codes_where_they_are_rare():
    codes = random_codes(0, "x", 60, 8)
    assert len(null_codes(np.random.default_rng(0), codes, [8], 999)) == 10


@pytest.mark.numerics
@pytest.mark.parametrize(("units", "members", "left"), [(10, 12, 1), (10, 24, 13), (5, 8, 2)])
def test_directions_left_for_residuals_are_orthogonal_to_every_code_and_to_the_mean(
    units, members, left
):
    codes = hadamard_codes(0, "x", units, members)
    directions = residual_directions(codes)
    assert len(directions) == left
    np.testing.assert_allclose(directions @ directions.T, np.eye(left), atol=1e-12)
    np.testing.assert_allclose(directions @ (2.0 * codes.T - 1), 0, atol=1e-12)
    np.testing.assert_allclose(directions.sum(1), 0, atol=1e-12)
