"""Which models a run trains: one line per model, known before any image is read.

A *recipe* holds everything that decides a model's training set and randomness besides the images
themselves. How many models of a kind there are is not part of it (unless a code as published
makes it so), so asking for more leaves the recipes of the others as they were.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from begat.ensembles.codes import code_blocks, fitting_code, fitting_members
from begat.errors import BegatError

MOST_MODELS = 10_000  # so that a plan takes seconds
FAMILIES = {  # kinds that are trained side by side in the same packs
    "full": "full",
    "logo": "full",
    "member": "member",
    "group_member": "group_member",
    "half": "half",
    "group_half": "group_half",
}


@dataclass(frozen=True)
class Model:
    """One model to train.

    ``kind``: ``full`` (all images), ``logo`` (all but one group), ``member`` and
    ``group_member`` (by an image's or a group's code), ``half`` and ``group_half`` (a random half
    of the images or groups, the truth that scores are held against).
    ``index``: which group, code bit or half; ``seed``: which repetition; ``stream``: the name of
    its randomness (a ``logo`` model shares the full model's); ``pack``: with whom it is trained.
    """

    name: str
    kind: str
    index: int
    seed: int
    stream: str
    pack: str
    recipe: Mapping[str, Any]

    def attributes(self) -> dict[str, str | int]:
        """The model as plain JSON values, its recipe left out."""
        names = ("name", "kind", "index", "seed", "stream", "pack")
        return {name: getattr(self, name) for name in names}


def _recipes(
    splits: Mapping[str, Any], groups: int
) -> Iterator[tuple[str, int, int, str, dict[str, Any]]]:
    """(kind, index, seed, stream, what else decides the training set) of every model."""
    for seed in range(splits["full"]):
        yield "full", 0, seed, f"full-{seed}", {}
    for group in range(groups):
        for seed in range(splits["logo"]):
            yield "logo", group, seed, f"full-{seed}", {}
    for kind, code in (("member", "code"), ("group_member", "group_code")):
        count = splits[f"{kind}s"]
        extra = {"members": count} if splits[code] == "random" else {}
        for index in range(count):
            yield kind, index, 0, f"{kind}-{index}", {"code": splits[code], **extra}
    for kind, count in (("half", splits["halves"]), ("group_half", splits["group_halves"])):
        for index in range(count):
            for seed in range(splits["half_seeds"]):
                yield kind, index, seed, f"{kind}-{index}-{seed}", {"kept": splits["kept"]}


def roster(splits: Mapping[str, Any], groups: int, pack: int) -> list[Model]:
    """All models of a run, in the order of ``trains_on``; ``pack`` of a family to a pack."""
    models: list[Model] = []
    filled = dict.fromkeys(FAMILIES.values(), 0)
    for kind, index, seed, stream, extra in _recipes(splits, groups):
        family = FAMILIES[kind]
        name = f"{kind}-{index}-{seed}"
        recipe = {"kind": kind, "index": index, "seed": seed, "stream": stream, **extra}
        pack_name = f"{family}-{filled[family] // pack}"
        models.append(Model(name, kind, index, seed, stream, pack_name, recipe))
        filled[family] += 1
    return models


def half_size(units: int, kept: float) -> int:
    """How many of the units a half keeps: at least one, and never all."""
    return min(max(round(kept * units), 1), units - 1)


def fitted(splits: Mapping[str, Any], images: int, groups: int) -> dict[str, Any]:
    """The splits with numbers and codes that fit so many images and groups.

    ``auto`` becomes a code that there is, nested codes get as many members as they need, halves
    are no more than can differ, and where there are fewer than two units nothing is split.
    """
    found = dict(splits)
    if groups < 2:
        found["logo"] = 0
    for kind, code, units in (("members", "code", images), ("group_members", "group_code", groups)):
        if units < 2:
            found[kind] = 0
        if found[code] == "auto":
            found[code] = fitting_code(units, found[kind])
        if found[code] == "nested" and found[kind]:
            found[kind] = fitting_members(units, found[kind])
    for kind, units in (("halves", images), ("group_halves", groups)):
        found[kind] = min(found[kind], ways(units, splits["kept"], found[kind]))
    return found


def ways(units: int, kept: float, enough: int) -> int:
    """How many halves differ; ``enough`` where that is at least as many."""
    if units < 2:
        return 0
    return enough if enough <= units else math.comb(units, half_size(units, kept))


def check_request(splits: Mapping[str, Any], images: int, groups: int) -> None:
    """Raise BegatError where these splits (``fitted``) cannot be made of so many units."""
    if splits["full"] < splits["logo"]:
        raise BegatError(
            f"splits.full: expected at least splits.logo={splits['logo']} seeds, as leaving a "
            f"group out is compared with the full model of its seed; found {splits['full']}"
        )
    for kind, code, units in (("members", "code", images), ("group_members", "group_code", groups)):
        if not splits[kind]:
            continue
        try:
            code_blocks(splits[code], units, splits[kind])
        except BegatError as error:
            raise BegatError(f"splits.{kind} ({code}: {splits[code]}): {error}") from None
    if not 0 < (models := size(splits, groups)) <= MOST_MODELS:
        raise BegatError(f"splits: expected 1 to {MOST_MODELS} models in all, found {models}")


def size(splits: Mapping[str, Any], groups: int) -> int:
    """How many models these splits ask for."""
    coded = splits["members"] + splits["group_members"]
    halves = (splits["halves"] + splits["group_halves"]) * splits["half_seeds"]
    return splits["full"] + groups * splits["logo"] + coded + halves


def check_halves(kind: str, count: int, units: int, kept: float) -> None:
    """Raise BegatError where so many halves cannot all differ."""
    if count > (most := ways(units, kept, count)):
        raise BegatError(
            f"splits.{kind}: expected at most {most}, the number of ways to keep "
            f"{half_size(units, kept)} of {units} units; found {count}"
        )
