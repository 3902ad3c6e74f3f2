"""Membership of an image file in the training set of a run, and the result in words."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt64

from begat.auditing.membership import Nearest, QueryImage, TrainingSet, trees_with
from begat.auditing.perceptual_hash import BITS, perceptual_hashes
from begat.config.schema import Images
from begat.data.image_files import decode
from begat.errors import BegatError, brief
from begat.execution.contents import Contents
from begat.planning.freshness import why
from begat.planning.plan import Plan
from begat.storage.artifacts import Artifact
from begat.storage.manifests import content_digest

BLOCK = 1 << 22  # levels of pixels in memory at a time
COLOURS = {1: "grey", 3: "colour"}


def training_set(plan: Plan) -> TrainingSet:
    """Returns the training images of a run, by their hashes, and what its root states of the run.

    Raises:
        BegatError: their artifact is missing, damaged or out of date.
    """
    job, params = plan.job("images", "all"), plan.params.images
    if reason := why(plan, job, Contents(plan.root)):
        raise BegatError(
            f"{job.path}: expected an up-to-date artifact, found: {brief(reason)}; run "
            "`begat run images`"
        )
    images = Artifact(plan.root / job.path, "images")
    return TrainingSet(
        images["file_sha256"] if plan.spec.dataset.files else None,
        pixels := images["sha256"],
        _perceptual_hashes(images, len(pixels), params),
        {
            "run": {"content": content_digest(plan.root / job.path), "key": job.key},
            "decoding": {n: getattr(params, n) for n in ("size", "channels", "resize")},
        },
    )


def _perceptual_hashes(
    images: Artifact, number: int, params: Images
) -> UInt64[np.ndarray, " image"]:
    rows = max(1, BLOCK // (params.channels * params.size**2))
    blocks = (slice(start, start + rows) for start in range(0, number, rows))
    return np.concatenate([perceptual_hashes(images.rows("pixels", block)) for block in blocks])


def query_image(path: Path, params: Images) -> QueryImage:
    """Returns the hashes of an image file, decoded as the training images were.

    Raises:
        BegatError: no file, or none that could be a training image (see ``image_files.decode``).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BegatError(f"{path}: could not be read ({brief(error.strerror)})") from None
    pixels = decode(path, content, params.size, params.channels, params.resize)
    return QueryImage(
        file=hashlib.sha256(content).digest(),
        pixels=hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest(),
        perceptual_hash=int(perceptual_hashes(pixels[None])[0]),
    )


@dataclass(frozen=True)
class Result:
    """Whether an image is in the training set.

    Attributes:
        proof: as JSON values.
        nearest: the training images that resemble it, which is only partly proven.
    """

    proof: dict[str, Any]
    nearest: Nearest

    def as_json(self) -> dict[str, Any]:
        """Returns the proof, and beside it what is stated without a proof."""
        stated = {name: value for name, value in asdict(self.nearest).items() if name != "image"}
        return {**self.proof, "stated_without_proof": stated}

    def sentences(self) -> Iterator[str]:
        """Yields the result in words."""
        commitment, trees = self.proof["commitment"], trees_with(self.proof)
        near = ", but a training image resembles it" if self.proof["near"] else ""
        place = f"in the training set of {commitment['images']} images"
        yield place if trees else f"not {place}{near}"
        size, channels = (commitment["decoding"][name] for name in ("size", "channels"))
        shared = {
            "file": "the same bytes in its file",
            "pixels": f"the same pixels at {size}x{size} in {COLOURS[channels]}",
        }
        for tree in commitment["trees"]:
            yield f"proven: {'a' if tree in trees else 'no'} training image has {shared[tree]}"
        if "file" not in commitment["trees"]:
            yield "not compared: files, since these training images do not come from files"
        if not trees:
            yield from self._near_sentences()

    def _near_sentences(self) -> Iterator[str]:
        nearest, hashes = self.nearest, f"{BITS} bits of its perceptual hash"
        if not nearest.is_near:
            yield (
                f"stated: the nearest training image differs in {nearest.distance} of {hashes}, "
                f"more than {nearest.within}; that no other is a near copy cannot be proven "
                "without disclosing all perceptual hashes"
            )
            return
        yield f"proven: a training image differs in {nearest.distance} of {hashes}"
        yield (
            f"stated: training images within {nearest.within} bits of it: {nearest.images_within}; "
            f"share of {nearest.sample} training images with another one that near: "
            f"{nearest.share_with_another:.1%}"
        )


def prove_membership(plan: Plan, path: Path, within: int) -> Result:
    """Returns whether an image file is in a run's training set, with the proof.

    Args:
        plan: of the run.
        path: of the image file.
        within: largest distance of a near copy, in bits.

    Raises:
        BegatError: no such image, or no up-to-date training images.
    """
    image, training = query_image(path, plan.params.images), training_set(plan)
    nearest = training.nearest(image, within)
    return Result(training.proof(image, nearest), nearest)
