"""Training images from their pixels to their files: digests, and pixels decoded anew."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from begat.data.datasets import Dataset, pixels
from begat.errors import BegatError
from begat.execution.jobs import path_of
from begat.planning.plan import Plan
from begat.storage.artifacts import Artifact
from begat.storage.digests import file_digest

IMAGES = path_of("images", "all")
BLOCK = 4096  # images compared at a time


def image_faults(plan: Plan, images: Sequence[int] | None = None) -> Iterator[str]:
    """Yields how training images are not those of the artifact ``images``, by file.

    Files are read anew, whatever their sizes and times are.

    Args:
        plan: of the run.
        images: their numbers; None for all of them.
    """
    dataset = plan.spec.dataset
    try:
        artifact = Artifact(plan.root / IMAGES, "images")
        names = artifact["name"].tolist()
        if names != list(dataset.names):
            yield from _other_names(names, dataset)
            return
        chosen = range(len(names)) if images is None else images
        for start in range(0, len(chosen), BLOCK):
            yield from _other_bytes(plan, artifact, np.array(chosen[start : start + BLOCK]))
    except BegatError as error:
        yield str(error)


def _other_names(names: list[str], dataset: Dataset) -> Iterator[str]:
    before, now = set(names), set(dataset.names)
    yield from (
        f"{name}: a training image that is no longer there" for name in sorted(before - now)
    )
    yield from (f"{name}: no image of the run" for name in sorted(now - before))
    if before == now:
        yield f"{IMAGES}: the images in another order"


def _other_bytes(plan: Plan, artifact: Artifact, images: np.ndarray) -> Iterator[str]:
    """Yields the images whose file or pixels are not those of the artifact."""
    dataset, params = plan.spec.dataset.only(images.tolist()), plan.params.images
    stored = artifact.rows("pixels", images)
    digests = artifact.rows("sha256", images), artifact.rows("file_sha256", images)
    files = [file_digest(file) for file in dataset.files] or list(dataset.digests)
    for i, name in enumerate(dataset.names):
        place = dataset.files[i] if dataset.files else name
        if bytes(digests[1][i]).hex() != files[i]:
            yield f"{place}: not the bytes that the run was made from"
        elif bytes(digests[0][i]) != pixel_digest(stored[i]):
            yield f"{IMAGES}: pixels of {name}: not those of their digest"
    if len(images) == 1 and next(pixels(dataset, params)).tobytes() != stored[0].tobytes():
        yield f"{dataset.names[0]}: decoded anew, it has other pixels than in {IMAGES}"


def pixel_digest(image: np.ndarray) -> bytes:
    """Returns the sha256 of one image's shape and pixels, as ``images`` stores it."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


def identity(plan: Plan, image: int) -> dict[str, Any]:
    """Returns an image's name, groups and digests, as the artifact ``images`` states them."""
    artifact, row = Artifact(plan.root / IMAGES, "images"), np.array([image])
    dataset = plan.spec.dataset
    return {
        "number": image,
        "name": dataset.names[image],
        "file": str(dataset.files[image]) if dataset.files else None,
        "groups": list(dataset.group_names[image]),
        "file_sha256": bytes(artifact.rows("file_sha256", row)[0]).hex(),
        "pixels_sha256": bytes(artifact.rows("sha256", row)[0]).hex(),
    }
