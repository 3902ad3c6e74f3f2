"""Which of the shared draws tell models apart that forgot different groups."""

from begat.errors import BegatError

BAND = 0.2, 0.7  # shares of the process, see ``telling_draws``


def telling_draws(draws: int, count: int) -> list[int]:
    """Numbers of ``count`` shared draws at middling noise, spread evenly, in antithetic pairs.

    All draws where ``count`` is 0.

    The band was found without retraining, by how far antithetic draws agree on the differences
    between models that forgot (digits): below a fifth of the process they contradict each other,
    above .7 there are hardly any differences.

    Raises:
        BegatError: there are not so many, or their number is odd.
    """
    if not count:
        return list(range(draws))
    strata, (low, high) = draws // 2, BAND
    inside = [i for i in range(strata) if low <= (i + 0.5) / strata < high]
    pairs = count // 2
    if count % 2 or not 0 < pairs <= len(inside):
        raise BegatError(
            f"scores_guda.draws: expected an even number up to {2 * len(inside)} with "
            f"measurements.draws {draws}, or 0 for all, found {count}"
        )
    chosen = [inside[(2 * i + 1) * len(inside) // (2 * pairs)] for i in range(pairs)]
    return [draw for i in chosen for draw in (2 * i, 2 * i + 1)]
