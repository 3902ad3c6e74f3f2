"""Proofs that an image is in a training set, or is not, that disclose no other training image.

The training set is committed to by one hash, the *root*, of two trees: of the sha256 of the images'
files, and of the sha256 of their pixels.

Every leaf contains a *blind*, a hash that only somebody with all training images can compute. So a
path, which has hashes of other leaves, cannot be compared with images that somebody else has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt64

from begat.auditing.check_membership import FORMAT, hashed, key_of, root_of, seal_of
from begat.auditing.perceptual_hash import BITS, bit_distances
from begat.auditing.trees import BYTES, Tree

SAMPLE = 500  # training images whose nearest other image is searched


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
        keys = _keys(self.pixels)
        seals = (
            seal_of(self._blind(key), perceptual_hash.to_bytes(BITS // 8, "big"))
            for key, perceptual_hash in zip(keys, self.perceptual_hashes.tolist(), strict=True)
        )
        pixels = Tree(dict(zip(keys, seals, strict=True)))
        if self.file is None:
            return {"pixels": pixels}
        files = Tree({key: self._blind(key) for key in _keys(self.file)})
        return {"file": files, "pixels": pixels}

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
        proof = {
            "root": self.root,
            "commitment": self.commitment,
            "image": {
                "file_sha256": image.file.hex(),
                "pixels_sha256": image.pixels.hex(),
                "perceptual_hash": f"{image.perceptual_hash:0{BITS // 4}x}",
            },
            "branches": branches,
        }
        is_near = nearest.is_near and not trees_with(proof)
        return {**proof, "near": self._near(nearest.image) if is_near else None}

    def _near(self, image: int) -> dict[str, Any]:
        """Returns the proof that a training image has its perceptual hash, which it discloses."""
        key = key_of(self.pixels[image].tobytes())
        return {
            "key": key.hex(),
            "blind": self._blind(key).hex(),
            "perceptual_hash": f"{int(self.perceptual_hashes[image]):0{BITS // 4}x}",
            "path": self.trees["pixels"].branch(key)["path"],
        }

    def _has_another(self, image: int, within: int) -> bool:
        """Returns whether a training image with other pixels is near this one."""
        distances = bit_distances(self.perceptual_hashes, int(self.perceptual_hashes[image]))
        near = self.pixels[distances <= within]
        return bool((near != self.pixels[image]).any())

    def _blind(self, key: bytes) -> bytes:
        return hashed(b"\6" + self._secret + key)

    @cached_property
    def _secret(self) -> bytes:
        """A hash of all images, in their order."""
        file = b"" if self.file is None else self.file.tobytes()
        return hashed(b"\5" + file + self.pixels.tobytes())


def _keys(digests: UInt8[np.ndarray, "image byte"]) -> list[bytes]:
    """Returns the key of each image."""
    content = digests.tobytes()
    return [key_of(content[i : i + BYTES]) for i in range(0, len(content), BYTES)]


def trees_with(proof: Mapping[str, Any]) -> list[str]:
    """Returns the trees of a proof that contain its image."""
    keys = {
        kind: key_of(bytes.fromhex(proof["image"][f"{kind}_sha256"])).hex()
        for kind in proof["branches"]
    }
    leaves = {kind: branch["leaf"] for kind, branch in proof["branches"].items()}
    return [kind for kind, leaf in leaves.items() if leaf and leaf["key"] == keys[kind]]
