"""Proofs that an image is in a training set, or is not, that disclose no other training image.

The training set is committed to by one hash, the *root*, of two trees: of the sha256 of the images'
files, and of the sha256 of their pixels. ``check_membership`` defines the trees and their hashes,
since whoever checks a proof has that file alone. A tree in which a hash decides its own place was
chosen over a sorted list whose neighbours show that nothing is between them: a list in another
order, which its root does not show, would allow proofs of presence and of absence of one image. It
also discloses one neighbour at most, instead of two.

Every leaf contains a *blind*, a hash that only somebody with all training images can compute. So a
path, which has hashes of other leaves, cannot be compared with images that somebody else has.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt64

from begat.auditing.check_membership import (
    DIGEST_BITS,
    EMPTY,
    FORMAT,
    hashed,
    key_of,
    leaf_hash,
    node_hash,
    root_of,
    seal_of,
)
from begat.auditing.perceptual_hash import BITS, bit_distances

SAMPLE = 500  # training images whose nearest other image is searched
BYTES = DIGEST_BITS // 8


class Tree:
    """A tree of images by a digest of each; equal images have one leaf.

    Attributes:
        keys: of the leaves, sorted, as whole numbers.
        seals: of the leaves, in the same order.
    """

    def __init__(self, seals: Mapping[bytes, bytes]) -> None:
        """Sort leaves, given as the seal of each key."""
        self.keys = sorted(int.from_bytes(key, "big") for key in seals)
        self.seals = [seals[key.to_bytes(BYTES, "big")] for key in self.keys]

    @cached_property
    def top(self) -> bytes:
        """The hash of the whole tree."""
        return self._hash(0, len(self.keys), 0)

    def path(self, key: bytes) -> tuple[list[bytes], int | None]:
        """Returns the siblings on the way to a key's place, from the top, and the leaf there.

        The leaf is an index into ``keys``, None for an empty subtree.
        """
        way, siblings = int.from_bytes(key, "big"), list[bytes]()
        first, last = 0, len(self.keys)
        while last - first > 1:
            depth = len(siblings)
            middle = self._middle(first, last, depth)
            if way >> (DIGEST_BITS - 1 - depth) & 1:
                siblings.append(self._hash(first, middle, depth + 1))
                first = middle
            else:
                siblings.append(self._hash(middle, last, depth + 1))
                last = middle
        return siblings, first if last > first else None

    def branch(self, key: bytes) -> dict[str, Any]:
        """Returns the proof that a key is present or absent, as JSON values."""
        siblings, leaf = self.path(key)
        branch: dict[str, Any] = {"path": [sibling.hex() for sibling in siblings], "leaf": None}
        if leaf is not None:
            other = self.keys[leaf].to_bytes(BYTES, "big")
            branch["leaf"] = {"key": other.hex(), "seal": self.seals[leaf].hex()}
        return branch

    def _hash(self, first: int, last: int, depth: int) -> bytes:
        """Returns the hash of the subtree of some neighbouring leaves."""
        if first == last:
            return EMPTY
        if last - first == 1:
            return leaf_hash(self.keys[first].to_bytes(BYTES, "big"), self.seals[first])
        middle = self._middle(first, last, depth)
        return node_hash(self._hash(first, middle, depth + 1), self._hash(middle, last, depth + 1))

    def _middle(self, first: int, last: int, depth: int) -> int:
        """Returns the first leaf of a subtree's right half."""
        below = DIGEST_BITS - 1 - depth
        return bisect_left(self.keys, (self.keys[first] >> below | 1) << below, first, last)


@dataclass(frozen=True)
class QueryImage:
    """The image that a proof is about.

    Attributes:
        file: sha256 of its file.
        pixels: sha256 of its pixels, decoded as the training images were.
        perceptual_hash: of these pixels.
    """

    file: bytes
    pixels: bytes
    perceptual_hash: int


@dataclass(frozen=True)
class Nearest:
    """The training images that resemble an image, by their perceptual hashes.

    Attributes:
        image: the nearest training image.
        distance: in how many of 64 bits the image and the nearest training image differ.
        within: the largest distance of a near copy.
        images_within: the number of training images that are at most that far away.
        share_with_another: the share of training images that have another training image that near,
            of the sample of them that was compared.
        sample: their number.
    """

    image: int
    distance: int
    within: int
    images_within: int
    share_with_another: float
    sample: int

    @property
    def is_near(self) -> bool:
        """Whether the nearest training image is a near copy."""
        return self.distance <= self.within


@dataclass(frozen=True)
class TrainingSet:
    """The training images of a run, by their hashes.

    Attributes:
        file: sha256 of each image's file, None for images without files.
        pixels: sha256 of each image's pixels.
        perceptual_hashes: of each image's pixels.
        run: what the root states beside the trees: JSON values with whole numbers and text.
    """

    file: UInt8[np.ndarray, "image byte"] | None
    pixels: UInt8[np.ndarray, "image byte"]
    perceptual_hashes: UInt64[np.ndarray, " image"]
    run: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def trees(self) -> dict[str, Tree]:
        """The trees of files, if there are any, and of pixels."""
        trees = {} if self.file is None else {"file": Tree(self._seals_of_files(self.file))}
        keys = [key_of(row.tobytes()) for row in self.pixels]
        hashes = self.perceptual_hashes.astype(">u8")
        seals = {
            key: seal_of(self._blind(key), perceptual_hash.tobytes())
            for key, perceptual_hash in zip(keys, hashes, strict=True)
        }
        return {**trees, "pixels": Tree(seals)}

    @cached_property
    def commitment(self) -> dict[str, Any]:
        """What the root is the hash of."""
        trees = {
            kind: {"leaves": len(tree.keys), "top": tree.top.hex()}
            for kind, tree in self.trees.items()
        }
        return {**self.run, "format": FORMAT, "images": len(self.pixels), "trees": trees}

    @property
    def root(self) -> str:
        """The root, hexadecimal."""
        return root_of(self.commitment).hex()

    def nearest(self, image: QueryImage, within: int) -> Nearest:
        """Returns which training images resemble an image; ``within`` is in bits."""
        distances = bit_distances(self.perceptual_hashes, image.perceptual_hash)
        number = len(distances)
        sample = np.unique(np.arange(SAMPLE) * number // SAMPLE)
        with_another = [self._has_another(int(i), within) for i in sample]
        return Nearest(
            image=int(distances.argmin()),
            distance=int(distances.min()),
            within=within,
            images_within=int((distances <= within).sum()),
            share_with_another=float(np.mean(with_another)),
            sample=len(sample),
        )

    def proof(self, image: QueryImage, nearest: Nearest) -> dict[str, Any]:
        """Returns the proof as JSON values."""
        values = {"file": image.file, "pixels": image.pixels}
        branches = {kind: t.branch(key_of(values[kind])) for kind, t in self.trees.items()}
        near = self._near(nearest.image) if nearest.is_near else None
        return {
            "root": self.root,
            "commitment": self.commitment,
            "image": {
                "file_sha256": image.file.hex(),
                "pixels_sha256": image.pixels.hex(),
                "perceptual_hash": f"{image.perceptual_hash:0{BITS // 4}x}",
            },
            "branches": branches,
            "near": None if is_in(branches, image) else near,
        }

    def _near(self, image: int) -> dict[str, Any]:
        """Returns the proof that a training image has its perceptual hash, which it discloses."""
        key = key_of(self.pixels[image].tobytes())
        return {
            "key": key.hex(),
            "blind": self._blind(key).hex(),
            "perceptual_hash": f"{int(self.perceptual_hashes[image]):0{BITS // 4}x}",
            "path": [sibling.hex() for sibling in self.trees["pixels"].path(key)[0]],
        }

    def _has_another(self, image: int, within: int) -> bool:
        """Returns whether a training image with other pixels is near this one."""
        distances = bit_distances(self.perceptual_hashes, int(self.perceptual_hashes[image]))
        near = self.pixels[distances <= within]
        return bool((near != self.pixels[image]).any())

    def _seals_of_files(self, file: UInt8[np.ndarray, "image byte"]) -> dict[bytes, bytes]:
        keys = [key_of(row.tobytes()) for row in file]
        return {key: seal_of(self._blind(key)) for key in keys}

    def _blind(self, key: bytes) -> bytes:
        return hashed(6, self._secret, key)

    @cached_property
    def _secret(self) -> bytes:
        """A hash of all images, in their order."""
        file = b"" if self.file is None else self.file.tobytes()
        return hashed(5, file, self.pixels.tobytes())


def is_in(branches: Mapping[str, Mapping[str, Any]], image: QueryImage) -> list[str]:
    """Returns the trees that contain an image, by the branches of a proof."""
    keys = {"file": key_of(image.file).hex(), "pixels": key_of(image.pixels).hex()}
    leaves = {kind: branch["leaf"] for kind, branch in branches.items()}
    return [kind for kind, leaf in leaves.items() if leaf and leaf["key"] == keys[kind]]
