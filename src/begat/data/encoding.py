"""Arrays of the training images: pixels, group membership, digests and duplicate clusters."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THUMBNAIL = 32  # px; larger images are compared for near-duplicates as averages of this size
BLOCK = 1024  # images decoded, and rows of distances held, at a time


def encode(
    images: Iterable[UInt8[np.ndarray, "channel y x"]],
    membership: Sequence[Sequence[int]],
    groups: int,
    near_duplicate: float,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields blocks of ``pixels`` and ``sha256``, then the arrays that depend on all images.

    Args:
        images: the pixels of each image, in order; held one block at a time.
        membership: for each image, the groups it belongs to.
        groups: how many groups there are.
        near_duplicate: images whose RMS difference (pixels as 0..1) is at most this are one
            cluster, and chains of them too.

    Yields:
        The arrays of the ``images`` schema, but for ``name``, ``file_sha256`` and ``label``.
    """
    thumbnails: list[Float[np.ndarray, "image feature"]] = []
    digests: list[bytes] = []
    for pixels in _blocks(images):
        digests += [hashlib.sha256(repr(p.shape).encode() + p.tobytes()).digest() for p in pixels]
        thumbnails.append(_thumbnails(pixels))
        yield {
            "pixels": pixels,
            "sha256": np.frombuffer(b"".join(digests[-len(pixels) :]), np.uint8).reshape(-1, 32),
        }
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    member_of = np.zeros((groups, len(digests)), bool)
    for image, indices in enumerate(membership):
        member_of[list(indices), image] = True
    copy_of = np.array([first[digest] for digest in digests], np.int32)
    yield {
        "member_of": member_of,
        "copy_of": copy_of,
        "cluster": clusters(np.concatenate(thumbnails), copy_of, near_duplicate),
    }


def clusters(
    features: Float[np.ndarray, "image feature"],
    copy_of: Int[np.ndarray, " image"],
    near_duplicate: float,
) -> Int[np.ndarray, " image"]:
    """Returns the first image of each image's cluster of exact and near duplicates."""
    pairs = [(np.arange(len(copy_of)), copy_of)]
    if near_duplicate > 0:
        square = (features**2).sum(1)
        limit = near_duplicate**2 * features.shape[1]
        for start in range(0, len(features), BLOCK):
            rows = features[start : start + BLOCK]
            distance = square[start : start + BLOCK, None] + square - 2 * rows @ features.T
            near, other = np.nonzero(distance <= limit)
            pairs.append((near + start, other))
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(features),) * 2)
    _, label = connected_components(graph, directed=False)
    _, first = np.unique(label, return_index=True)
    return first[label].astype(np.int32)


def _blocks(
    images: Iterable[UInt8[np.ndarray, "channel y x"]],
) -> Iterator[UInt8[np.ndarray, "image channel y x"]]:
    remaining = iter(images)
    while block := list(itertools.islice(remaining, BLOCK)):
        yield np.stack(block)


def _thumbnails(
    pixels: UInt8[np.ndarray, "image channel y x"],
) -> Float[np.ndarray, "image feature"]:
    """Returns pixels as 0..1, averaged over squares if the image is larger than ``THUMBNAIL``."""
    images, channels, size, _ = pixels.shape
    factor = -(-size // THUMBNAIL)
    whole = pixels[:, :, : size // factor * factor, : size // factor * factor]
    squares = whole.reshape(images, channels, size // factor, factor, size // factor, factor)
    return (squares.mean((3, 5), dtype=np.float32) / 255).reshape(images, -1)
