"""Training sets of all models: the encoding of the dataset's splits."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from begat.ensembles.codes import ensemble_codes
from begat.ensembles.exposure import check_exposure
from begat.ensembles.model_specs import Model, check_subsets, subset_size
from begat.errors import BegatError
from begat.rng.seeds import numpy_generator

MemberOf = Bool[np.ndarray, "group image"]
STREAMS = {"subset": "half", "group_subset": "group_half"}  # names of their random numbers


def encode(
    models: Sequence[Model],
    member_of: MemberOf,
    group_names: Sequence[str],
    cluster: Int[np.ndarray, " image"],
    *,
    seed: int,
    members: int,
    code: str,
    group_members: int,
    group_code: str,
    fraction: float,
) -> dict[str, np.ndarray]:
    """``trains_on[model, image]`` and the ensembles' codes.

    Near-duplicate images (one ``cluster``) always share a code and a subset, or ablating one of
    them would leave the other. An image of several groups is trained on where *all* its groups are.

    Raises:
        BegatError: an impossible number of codes or subsets, a model with nothing to train on, a
            group that fewer members of the group-coded ensemble would train on than its code says.
    """
    _, unit = np.unique(cluster, return_inverse=True)
    units, groups = int(unit.max()) + 1, len(member_of)
    codes: dict[str, np.ndarray] = {}
    if members:
        codes["member_code"] = ensemble_codes(code, seed, "member", units, members)[unit]
    if group_members:
        codes["group_member_code"] = ensemble_codes(
            group_code, seed, "group_member", groups, group_members
        )
        membership = [np.flatnonzero(of).tolist() for of in member_of.T]
        check_exposure(codes["group_member_code"], membership, group_names)

    subsets = {
        kind: _subsets(
            seed, kind, sum(m.kind == kind and not m.seed for m in models), size, fraction
        )
        for kind, size in (("subset", units), ("group_subset", groups))
    }

    def images_with(groups_on: Bool[np.ndarray, " group"]) -> Bool[np.ndarray, " image"]:
        return ~member_of[~groups_on].any(0)

    def row(model: Model) -> Bool[np.ndarray, " image"]:
        match model.kind:
            case "full":
                return np.ones(len(unit), bool)
            case "logo":
                return ~member_of[model.index]
            case "member":
                return codes["member_code"][:, model.index]
            case "group_member":
                return images_with(codes["group_member_code"][:, model.index])
            case "subset":
                return subsets["subset"][model.index][unit]
            case "group_subset":
                return images_with(subsets["group_subset"][model.index])
        raise AssertionError(model.kind)

    trains_on = np.stack([row(model) for model in models])
    _check(trains_on, models)
    return {"trains_on": trains_on, **codes}


def _subsets(
    seed: int, kind: str, count: int, units: int, fraction: float
) -> list[Bool[np.ndarray, " unit"]]:
    """Returns distinct random subsets of one size.

    Each is the first of its own draws that differs from all earlier ones, so that the earlier ones
    do not depend on how many there are.

    Raises:
        BegatError: there are fewer such subsets (near-duplicates leave fewer units than images).
    """
    check_subsets(kind, count, units, fraction)
    size = subset_size(units, fraction)
    subsets: list[np.ndarray] = []
    drawn: set[bytes] = set()
    for index in range(count):
        generator = numpy_generator(seed, "splits", STREAMS[kind], index)
        while len(drawn) == index:
            subset = np.zeros(units, bool)
            subset[generator.permutation(units)[:size]] = True
            drawn.add(subset.tobytes())
        subsets.append(subset)
    return subsets


def _check(trains_on: Bool[np.ndarray, "model image"], models: Sequence[Model]) -> None:
    for model, row in zip(models, trains_on, strict=True):
        if not row.any():
            raise BegatError(
                f"splits: {model.name} has no image left to train on; groups overlap too much, use "
                "fewer groups or code by image"
            )
        if row.all() and model.kind != "full":
            raise BegatError(
                f"splits: {model.name} expected a part of the images to train on, found all"
            )
