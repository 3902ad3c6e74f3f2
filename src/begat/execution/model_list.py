"""The list of models that a run trains, known before any image is read."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from begat.config.schema import Splits
from begat.ensembles.codes import code_blocks, fitting_code, fitting_members
from begat.ensembles.model_specs import Model, distinct_subsets
from begat.errors import BegatError

MAX_MODELS = 10_000  # so that a plan takes seconds
FAMILIES = {  # kinds that are trained side by side in the same packs
    "full": "full",
    "logo": "full",
    "member": "member",
    "group_member": "group_member",
    "subset": "subset",
    "group_subset": "group_subset",
}
CODED = (("member", "code"), ("group_member", "group_code"))


def _recipes(splits: Splits, groups: int) -> Iterator[tuple[str, int, int, str, dict[str, Any]]]:
    """Yields (kind, index, seed, stream, what else decides the training set) of every model."""
    for seed in range(splits.full):
        yield "full", 0, seed, f"full-{seed}", {}
    for group in range(groups):
        for seed in range(splits.logo):
            yield "logo", group, seed, f"full-{seed}", {}
    for kind, code in CODED:
        count, name = getattr(splits, f"{kind}s"), getattr(splits, code)
        extra = {"members": count} if name == "random" else {}
        for index in range(count):
            yield kind, index, 0, f"{kind}-{index}", {"code": name, **extra}
    for kind, stream in (("subset", "half"), ("group_subset", "group_half")):
        for index in range(getattr(splits, f"{kind}s")):
            for seed in range(splits.seeds_per_subset):
                extra = {"fraction": splits.subset_fraction}
                yield kind, index, seed, f"{stream}-{index}-{seed}", extra


def roster(splits: Splits, groups: int, models_per_job: int) -> list[Model]:
    """Returns all models of a run, in the order of ``trains_on``; each family in packs."""
    models: list[Model] = []
    filled = dict.fromkeys(FAMILIES.values(), 0)
    for kind, index, seed, stream, extra in _recipes(splits, groups):
        family = FAMILIES[kind]
        name = f"{kind}-{index}-{seed}"
        recipe = {"kind": kind, "index": index, "seed": seed, "stream": stream, **extra}
        pack = f"{family}-{filled[family] // models_per_job}"
        models.append(Model(name, kind, index, seed, stream, pack, recipe))
        filled[family] += 1
    return models


def fitted(splits: Splits, images: int, groups: int) -> Splits:
    """Returns the splits with numbers and codes that fit so many images and groups.

    ``auto`` becomes a code that exists, nested codes get as many members as they need, subsets
    are no more than can differ, and with fewer than two units nothing is split.
    """
    fit: dict[str, Any] = {"logo": splits.logo if groups > 1 else 0}
    for (kind, code), units in zip(CODED, (images, groups), strict=True):
        members, name = getattr(splits, f"{kind}s") if units > 1 else 0, getattr(splits, code)
        name = fitting_code(units, members) if name == "auto" else name
        nested = name == "nested" and members
        fit |= {f"{kind}s": fitting_members(units, members) if nested else members, code: name}
    for kind, units in (("subsets", images), ("group_subsets", groups)):
        count = getattr(splits, kind)
        fit[kind] = min(count, distinct_subsets(units, splits.subset_fraction, count))
    return replace(splits, **fit)


def check_request(splits: Splits, images: int, groups: int) -> None:
    """Raise BegatError where these splits (``fitted``) cannot be made of so many units."""
    if splits.full < splits.logo:
        raise BegatError(
            f"splits.full: expected at least splits.logo={splits.logo} seeds, as leaving a "
            f"group out is compared with the full model of its seed; found {splits.full}"
        )
    for (kind, code), units in zip(CODED, (images, groups), strict=True):
        if not (members := getattr(splits, f"{kind}s")):
            continue
        try:
            code_blocks(name := getattr(splits, code), units, members)
        except BegatError as error:
            raise BegatError(f"splits.{kind}s ({code}: {name}): {error}") from None
    if not 0 < (models := size(splits, groups)) <= MAX_MODELS:
        raise BegatError(f"splits: expected 1 to {MAX_MODELS} models in all, found {models}")


def size(splits: Splits, groups: int) -> int:
    """Returns the number of models."""
    coded = splits.members + splits.group_members
    subsets = (splits.subsets + splits.group_subsets) * splits.seeds_per_subset
    return splits.full + groups * splits.logo + coded + subsets
