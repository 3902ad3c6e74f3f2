"""Random projections: always the same one, and faithful to inner products."""

import pytest
import torch

from begat.errors import BegatError
from begat.influence.projections import Projection

pytestmark = pytest.mark.numerics


def rows(n=3, parameters=1000):
    return torch.randn(n, parameters, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("held", [1, 256, 300, 512, 10_000])
def test_a_projection_does_not_depend_on_how_much_of_it_is_held(held):
    whole = Projection(0, "test", 1000, 77)(rows())
    torch.testing.assert_close(Projection(0, "test", 1000, 77, held)(rows()), whole)


def test_a_projection_is_a_matrix_of_signs_that_belongs_to_its_seed_and_stage():
    matrix = Projection(0, "test", 1000, 77)(torch.eye(1000))
    assert (matrix.abs() * 77**0.5).sub(1).abs().max() < 1e-6
    assert abs(matrix.sign().mean().item()) < 0.02
    assert torch.linalg.matrix_rank(matrix) == 77
    for other in (Projection(1, "test", 1000, 77), Projection(0, "other", 1000, 77)):
        assert not torch.equal(other(torch.eye(1000)), matrix)


def test_inner_products_are_kept_within_their_standard_error():
    some = rows(20)
    kept = Projection(0, "test", 1000, 800)(some)
    error = (kept @ kept.T - some @ some.T).abs().fill_diagonal_(0)
    assert error.max() < 5 * 1000 / 800**0.5
    assert (kept @ kept.T - some @ some.T).mean().abs() < 20


def test_a_projection_wider_than_the_gradient_is_refused():
    Projection(0, "test", 50, 50)
    with pytest.raises(BegatError, match="at most the 50 parameters of the gradient, found 51"):
        Projection(0, "test", 50, 51)
