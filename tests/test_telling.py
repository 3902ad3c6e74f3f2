"""Draws that tell forgetful models apart: pairs, in their band, spread over it."""

import pytest

from begat.core.telling import BAND, telling_draws
from begat.errors import BegatError


@pytest.mark.parametrize("count", [2, 6, 16, 32])
def test_telling_draws_are_antithetic_pairs_spread_over_the_band(count):
    found = telling_draws(64, count)
    assert found == sorted(set(found))
    assert len(found) == count
    assert found[1::2] == [draw + 1 for draw in found[::2]]
    time = [(draw // 2 + 0.5) / 32 for draw in found[::2]]
    assert BAND[0] <= min(time) <= max(time) < BAND[1]
    steps = {later - earlier for earlier, later in zip(found[::2], found[2::2], strict=False)}
    assert not steps or max(steps) - min(steps) <= 2


@pytest.mark.parametrize("count", [34, 5, -2])
def test_draws_that_there_are_not_are_refused(count):
    with pytest.raises(BegatError, match=f"scores_guda.draws: .* up to 32 .* found {count}"):
        telling_draws(64, count)


def test_none_in_particular_are_all_of_them():
    assert telling_draws(6, 0) == list(range(6))
