"""Checks a proof of ``begat prove`` with the Python standard library alone; run it as a script.

The images are in two *trees*, by their files and by their pixels. An image's *key* is a sha256 of a
digest of it; bit ``d`` of the key, 1 for right, is the way down from depth ``d``. A subtree with no
image is ``EMPTY``, one with a single image is its leaf, any other is a node of two subtrees. So a
key has one place. There is its leaf, or else an empty subtree or another leaf, which shows that it
is absent. No tree allows a proof of both, however it was made. Leaves and nodes are hashed as in
RFC 6962, section 2.1.
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


def hashed(content: bytes) -> bytes:
    """Returns the sha256 of a byte that names the use of the hash, and of parts of fixed length."""
    return hashlib.sha256(content).digest()


def leaf_hash(key: bytes, seal: bytes) -> bytes:
    """Returns the hash of a subtree with one image."""
    return hashed(b"\0" + key + seal)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns the hash of a subtree with several images."""
    return hashed(b"\1" + left + right)


def root_of(commitment: dict[str, Any]) -> bytes:
    """Returns the published root: of both trees, their sizes, and the run that they belong to."""
    text = json.dumps(commitment, sort_keys=True, separators=(",", ":"))
    return hashed(b"\2" + text.encode())


def seal_of(blind: bytes, perceptual_hash: bytes) -> bytes:
    """Returns the hash that hides the perceptual hash of pixels in their leaf."""
    return hashed(b"\3" + blind + perceptual_hash)


def key_of(digest: bytes) -> bytes:
    """Returns the key of an image in a tree, from the sha256 of its file or pixels."""
    return hashed(b"\4" + digest)


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


def require_place(tree: dict[str, Any], key: bytes, path: Sequence[object], tip: bytes) -> None:
    """Raise ProofError unless ``tip`` is in a key's place, below siblings from the top down."""
    require(len(path) <= DIGEST_BITS, "a path is too long")
    way = int.from_bytes(key, "big")
    for depth, sibling in reversed(list(enumerate(map(hexadecimal, path)))):
        goes_right = way >> (DIGEST_BITS - 1 - depth) & 1
        tip = node_hash(sibling, tip) if goes_right else node_hash(tip, sibling)
    require(tip == hexadecimal(tree["top"]), "a path does not lead to the top of its tree")


def contains(tree: dict[str, Any], branch: dict[str, Any], digest: bytes) -> bool:
    """Returns whether a tree contains an image, as its branch proves."""
    key, leaf, tip, other = key_of(digest), branch["leaf"], EMPTY, None
    if leaf is not None:
        other = hexadecimal(leaf["key"])
        tip = leaf_hash(other, hexadecimal(leaf["seal"]))
    require_place(tree, key, branch["path"], tip)
    return key == other


def near_copy(tree: dict[str, Any], near: dict[str, Any], perceptual_hash: bytes) -> int:
    """Returns the distance in bits of a training image that resembles the image."""
    key, theirs = hexadecimal(near["key"]), hexadecimal(near["perceptual_hash"], PERCEPTUAL_BITS)
    tip = leaf_hash(key, seal_of(hexadecimal(near["blind"]), theirs))
    require_place(tree, key, near["path"], tip)
    return (int.from_bytes(theirs, "big") ^ int.from_bytes(perceptual_hash, "big")).bit_count()


def conclusions(proof: dict[str, Any], expected: dict[str, str | None]) -> list[str]:
    """Returns what a proof proves, in sentences; raises ProofError if it does not hold."""
    commitment, image = proof["commitment"], proof["image"]
    stated = {**image, "root": root_of(commitment).hex()}
    require(commitment["format"] == FORMAT, f"expected the format {FORMAT}")
    require(proof["root"] == stated["root"], "the root is not that of the trees")
    for name, value in expected.items():
        require(value in (None, stated[name]), f"{name}: expected {value}, found {stated[name]!r}")
    trees, branches = commitment["trees"], proof["branches"]
    require({"pixels"} <= set(trees) == set(branches) <= {"file", "pixels"}, "expected two trees")
    lines = [f"root {stated['root']} of {int(commitment['images'])} training images"]
    for kind, tree in trees.items():
        digest = hexadecimal(image[f"{kind}_sha256"])
        is_in = contains(tree, branches[kind], digest)
        lines.append(f"{'' if is_in else 'not '}in the training set: {kind} {digest.hex()}")
    if proof["near"] is not None:
        theirs = hexadecimal(image["perceptual_hash"], PERCEPTUAL_BITS)
        distance = near_copy(trees["pixels"], proof["near"], theirs)
        lines.append(f"in the training set: a perceptual hash that differs in {distance} bits")
    unchecked = [name for name, value in expected.items() if value is None]
    return [*lines, f"as the proof states, not compared: {', '.join(unchecked) or 'nothing'}"]


def main() -> None:
    """Check the proof that the command line names; exit status 1 if it does not hold."""
    parser = argparse.ArgumentParser(description="Check a proof that `begat prove` wrote.")
    parser.add_argument("proof", type=Path)
    parser.add_argument("--root", help="the root that was published for the run")
    parser.add_argument("--image", type=Path, help="the file that the proof is to be about")
    parser.add_argument("--pixels-sha256", help="of the image, decoded independently")
    parser.add_argument("--perceptual-hash", help="of the image, computed independently")
    options = vars(parser.parse_args())
    try:
        image, proof = options.pop("image"), json.loads(options.pop("proof").read_bytes())
        file = None if image is None else hashlib.sha256(image.read_bytes()).hexdigest()
        print(*conclusions(proof, {**options, "file_sha256": file}), sep="\n")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        sys.exit(f"not proven: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
