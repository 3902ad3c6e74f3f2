"""Checks a proof of ``begat prove`` with the Python standard library alone; run it as a script.

The images are in two *trees*, by their files and by their pixels. An image's *key* is a sha256 of a
digest of it; bit ``d`` of the key, 1 for right, is the way down from depth ``d``. A subtree with no
image is ``EMPTY``, one with a single image is its leaf, any other is a node of two subtrees. So a
key has one place. There is its leaf, or else an empty subtree or another leaf, which shows that it
is absent. No tree allows a proof of both. Leaves and nodes are hashed as in RFC 6962, section 2.1.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMAT = "begat-membership-1"
EMPTY = hashlib.sha256(b"").digest()
DIGEST_BITS, PERCEPTUAL_BITS = 256, 64


def hashed(tag: int, *parts: bytes) -> bytes:
    """Returns the sha256 of parts of fixed lengths (but for the last), with a tag for their use."""
    return hashlib.sha256(bytes([tag]) + b"".join(parts)).digest()


def leaf_hash(key: bytes, seal: bytes) -> bytes:
    """Returns the hash of a subtree with one image."""
    return hashed(0, key, seal)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns the hash of a subtree with several images, or with a subtree of several."""
    return hashed(1, left, right)


def root_of(commitment: dict[str, Any]) -> bytes:
    """Returns the published root: of both trees, their sizes, and the run that they belong to."""
    return hashed(2, json.dumps(commitment, sort_keys=True, separators=(",", ":")).encode())


def seal_of(blind: bytes, perceptual_hash: bytes = b"") -> bytes:
    """Returns the hash that hides a perceptual hash (of pixels) or nothing (of a file)."""
    return hashed(3, blind, perceptual_hash)


def key_of(digest: bytes) -> bytes:
    """Returns the key of an image in a tree, from the sha256 of its file or pixels."""
    return hashed(4, digest)


def folded(key: bytes, hashes: Sequence[bytes], tip: bytes) -> bytes:
    """Returns the top of the tree in which ``tip`` lies below these siblings, from the top down."""
    way = int.from_bytes(key, "big")
    for depth, sibling in reversed(list(enumerate(hashes))):
        goes_right = way >> (DIGEST_BITS - 1 - depth) & 1
        tip = node_hash(sibling, tip) if goes_right else node_hash(tip, sibling)
    return tip


class ProofError(ValueError):
    """A proof that does not hold, and where."""


def require(condition: bool, message: str) -> None:
    """Raise ProofError unless the condition holds."""
    if not condition:
        raise ProofError(message)


def hexadecimal(text: object, bits: int = DIGEST_BITS) -> bytes:
    """Returns the bytes of a hash in the proof."""
    is_hash = isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{bits // 4}}}", text, re.ASCII)
    require(bool(is_hash), f"expected {bits // 4} hexadecimal digits, found {str(text)[:80]!r}")
    return bytes.fromhex(str(text))


def contains(tree: dict[str, Any], branch: dict[str, Any], digest: bytes) -> bool:
    """Returns whether a tree contains an image, as its branch proves."""
    key, hashes, leaf = key_of(digest), [*map(hexadecimal, branch["path"])], branch["leaf"]
    require(len(hashes) <= DIGEST_BITS, "a path is too long")
    tip, other = EMPTY, None
    if leaf is not None:
        other = hexadecimal(leaf["key"])
        tip = leaf_hash(other, hexadecimal(leaf["seal"]))
        differing = int.from_bytes(key, "big") ^ int.from_bytes(other, "big")
        require(differing >> DIGEST_BITS - len(hashes) == 0, "a leaf is not in the image's place")
    require(folded(key, hashes, tip) == hexadecimal(tree["top"]), "a path does not lead to the top")
    return key == other


def near_copy(tree: dict[str, Any], near: dict[str, Any], perceptual_hash: bytes) -> int:
    """Returns the distance in bits of a training image that resembles the image."""
    key, hashes = hexadecimal(near["key"]), [*map(hexadecimal, near["path"])]
    theirs = hexadecimal(near["perceptual_hash"], PERCEPTUAL_BITS)
    tip = leaf_hash(key, seal_of(hexadecimal(near["blind"]), theirs))
    require(len(hashes) <= DIGEST_BITS, "a path is too long")
    require(folded(key, hashes, tip) == hexadecimal(tree["top"]), "a path does not lead to the top")
    return (int.from_bytes(theirs, "big") ^ int.from_bytes(perceptual_hash, "big")).bit_count()


def conclusions(proof: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Returns what a proof proves, in sentences; raises ProofError if it does not hold."""
    commitment, image, root = proof["commitment"], proof["image"], root_of(proof["commitment"]).hex()
    require(commitment["format"] == FORMAT, f"expected the format {FORMAT}")
    require(proof["root"] == root, "the root is not that of the trees")
    for name, expected in (("root", options.root), *options.image_values.items()):
        stated = root if name == "root" else image[name]
        require(expected in (None, stated), f"expected the {name} {expected}, found {stated!r}")
    trees, lines = commitment["trees"], [f"root {root} of {int(commitment['images'])} images"]
    require("pixels" in trees, "expected a tree of pixels")
    require(set(proof["branches"]) == set(trees) <= {"file", "pixels"}, "expected other branches")
    for kind, tree in trees.items():
        stated = image[f"{kind}_sha256"]
        is_in = contains(tree, proof["branches"][kind], hexadecimal(stated))
        lines.append(f"{'in' if is_in else 'not in'} the training set: {kind} with sha256 {stated}")
    if proof["near"] is not None:
        stated = image["perceptual_hash"]
        distance = near_copy(trees["pixels"], proof["near"], hexadecimal(stated, PERCEPTUAL_BITS))
        lines.append(f"in the training set: an image within {distance} of 64 bits of {stated}")
    unchecked = [name for name, expected in options.image_values.items() if expected is None]
    lines += [f"as the proof states, not compared with an image: {', '.join(unchecked)}"] * bool(
        unchecked
    )
    return lines


def main() -> None:
    """Check the proof that the command line names; exit status 1 if it does not hold."""
    parser = argparse.ArgumentParser(description="Check a proof that `begat prove` wrote.")
    parser.add_argument("proof", type=Path)
    parser.add_argument("--image", type=Path, help="the file that the proof is to be about")
    parser.add_argument("--root", help="the root that was published for the run")
    parser.add_argument("--pixels-sha256", help="of the image, decoded independently")
    parser.add_argument("--perceptual-hash", help="of the image, computed independently")
    options = parser.parse_args()
    try:
        content = None if options.image is None else options.image.read_bytes()
        options.image_values = {
            "file_sha256": None if content is None else hashlib.sha256(content).hexdigest(),
            "pixels_sha256": options.pixels_sha256,
            "perceptual_hash": options.perceptual_hash,
        }
        print(*conclusions(json.loads(options.proof.read_bytes()), options), sep="\n")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        sys.exit(f"not proven: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
