"""Training sets of all models: full, leave-one-group-out, encoded ensembles, random subsets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from begat.ensembles.codes import ensemble_codes
from begat.ensembles.exposure import check_exposure
from begat.ensembles.model_specs import Model, check_subsets, subset_size
from begat.errors import BegatError
from begat.rng.seeds import numpy_generator

MemberOf = Bool[np.ndarray, "group image"]
Row = Bool[np.ndarray, " image"]
STREAMS = {"subset": "half", "group_subset": "group_half"}  # names of their random numbers


@dataclass(frozen=True)
class Ensemble:
    """The size of an encoded ensemble, 0 for none, and its code (``ensembles.codes.CODES``)."""

    members: int
    code: str


def encode(
    models: Sequence[Model],
    member_of: MemberOf,
    group_names: Sequence[str],
    cluster: Int[np.ndarray, " image"],
    *,
    seed: int,
    images: Ensemble,
    groups: Ensemble,
    subset_fraction: float,
) -> dict[str, np.ndarray]:
    """Returns ``trains_on[model, image]`` and the codes of both ensembles.

    Near-duplicate images (one ``cluster``) always share a code and a subset; else ablating one
    would leave the other in. An image of several groups is trained on where *all* its groups are.

    Args:
        models: the models, in the order of the rows.
        member_of: true where an image belongs to a group.
        group_names: the groups' names.
        cluster: the first image of each image's cluster.
        seed: the root seed.
        images: the ensemble coded by image.
        groups: the ensemble coded by group.
        subset_fraction: of the units in a random subset.

    Raises:
        BegatError: an impossible number of codes or subsets, a model with nothing to train on, a
            group that fewer members of the group-coded ensemble would train on than its code says.
    """
    _, unit = np.unique(cluster, return_inverse=True)
    codes = _image_codes(seed, images, unit) | _group_codes(seed, groups, member_of, group_names)
    subsets = {
        kind: _subsets(seed, kind, _subset_count(models, kind), units, subset_fraction)
        for kind, units in (("subset", int(unit.max()) + 1), ("group_subset", len(member_of)))
    }
    train_rows = _train_rows(member_of, unit, codes, subsets)
    train_mask = np.stack([train_rows[model.kind](model.index) for model in models])
    _check_rows(train_mask, models)
    return {"trains_on": train_mask, **codes}


def _image_codes(
    seed: int, ensemble: Ensemble, unit: Int[np.ndarray, " image"]
) -> dict[str, Bool[np.ndarray, "image member"]]:
    if not ensemble.members:
        return {}
    units = int(unit.max()) + 1
    codes = ensemble_codes(ensemble.code, seed, "member", units, ensemble.members)
    return {"member_code": codes[unit]}


def _group_codes(
    seed: int, ensemble: Ensemble, member_of: MemberOf, group_names: Sequence[str]
) -> dict[str, Bool[np.ndarray, "group member"]]:
    if not ensemble.members:
        return {}
    groups = len(member_of)
    codes = ensemble_codes(ensemble.code, seed, "group_member", groups, ensemble.members)
    membership = [np.flatnonzero(column).tolist() for column in member_of.T]
    check_exposure(codes, membership, group_names)
    return {"group_member_code": codes}


def _train_rows(
    member_of: MemberOf,
    unit: Int[np.ndarray, " image"],
    codes: Mapping[str, np.ndarray],
    subsets: Mapping[str, Bool[np.ndarray, "subset unit"]],
) -> dict[str, Callable[[int], Row]]:
    """Returns, for each kind of model, a function from its index to its row of training images."""

    def with_groups(included: Bool[np.ndarray, " group"]) -> Row:
        return ~member_of[~included].any(0)

    return {
        "full": lambda index: np.ones(len(unit), bool),
        "logo": lambda index: ~member_of[index],
        "member": lambda index: codes["member_code"][:, index],
        "group_member": lambda index: with_groups(codes["group_member_code"][:, index]),
        "subset": lambda index: subsets["subset"][index][unit],
        "group_subset": lambda index: with_groups(subsets["group_subset"][index]),
    }


def _subset_count(models: Sequence[Model], kind: str) -> int:
    """Returns the number of different subsets of a kind, the seeds of each counted once."""
    return sum(model.kind == kind and not model.seed for model in models)


def _subsets(
    seed: int, kind: str, count: int, units: int, fraction: float
) -> Bool[np.ndarray, "subset unit"]:
    """Returns distinct random subsets of one size.

    Each is the first of its own draws that differs from all earlier ones, so that the earlier ones
    do not depend on how many there are.

    Raises:
        BegatError: there are fewer such subsets (near-duplicates leave fewer units than images).
    """
    check_subsets(kind, count, units, fraction)
    size = subset_size(units, fraction)
    subsets = np.zeros((count, units), bool)
    used: set[bytes] = set()
    for index, subset in enumerate(subsets):
        generator = numpy_generator(seed, "splits", STREAMS[kind], index)
        while len(used) == index:
            subset[:] = False
            subset[generator.permutation(units)[:size]] = True
            used.add(subset.tobytes())
    return subsets


def _check_rows(train_mask: Bool[np.ndarray, "model image"], models: Sequence[Model]) -> None:
    for model, row in zip(models, train_mask, strict=True):
        if not row.any():
            raise BegatError(
                f"splits: {model.name} has no image left to train on; groups overlap too much, use "
                "fewer groups or code by image"
            )
        if row.all() and model.kind != "full":
            raise BegatError(
                f"splits: {model.name} expected a part of the images to train on, found all"
            )
