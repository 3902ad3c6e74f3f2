"""Trees of hashes that show which images they contain, and which they do not.

``check_membership`` defines them, since whoever checks a proof has that file alone. A sorted list,
of which two neighbours show that nothing is between them, would be as short. But a root does not
show that its list is sorted, and one that is not allows proofs of presence and of absence of the
same image. Here a key decides its own place. A proof of absence also discloses the key of one other
image at most, instead of two.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from begat.auditing.check_membership import DIGEST_BITS, EMPTY, leaf_hash, node_hash

LARGE = 64  # leaves; hashes of larger subtrees are stored
BYTES = DIGEST_BITS // 8


class Tree:
    """A tree of images by a digest of each; equal images have one leaf.

    Attributes:
        keys: of the leaves, sorted, as whole numbers.
    """

    def __init__(self, seals: Mapping[bytes, bytes]) -> None:
        """Sort leaves by their keys; the seal of each leaf is given by its key."""
        ordered = sorted(seals)
        self.keys = [int.from_bytes(key, "big") for key in ordered]
        self._leaves = [leaf_hash(key, seals[key]) for key in ordered]
        self._seals = seals
        self._large = dict[tuple[int, int, int], bytes]()  # hashes of subtrees with many leaves

    @property
    def top(self) -> bytes:
        """The hash of the whole tree."""
        return self._hash(0, len(self.keys), DIGEST_BITS - 1)

    def branch(self, key: bytes) -> dict[str, Any]:
        """Returns what shows that a key is present or absent: siblings from the top, and a leaf."""
        way, siblings = int.from_bytes(key, "big"), list[str]()
        first, last, bit = 0, len(self.keys), DIGEST_BITS - 1
        while last - first > 1:
            middle = self._middle(first, last, bit)
            halves = (first, middle), (middle, last)
            (first, last), sibling = halves if not way >> bit & 1 else halves[::-1]
            bit -= 1
            siblings.append(self._hash(*sibling, bit).hex())
        return {"path": siblings, "leaf": self._leaf(first) if last > first else None}

    def _leaf(self, number: int) -> dict[str, str]:
        key = self.keys[number].to_bytes(BYTES, "big")
        return {"key": key.hex(), "seal": self._seals[key].hex()}

    def _hash(self, first: int, last: int, bit: int) -> bytes:
        """Returns the hash of the subtree of some neighbouring leaves, which ``bit`` divides."""
        if last - first < 2:
            return EMPTY if first == last else self._leaves[first]
        place = first, last, bit
        if place not in self._large:
            middle = self._middle(first, last, bit)
            left, right = self._hash(first, middle, bit - 1), self._hash(middle, last, bit - 1)
            if last - first <= LARGE:
                return node_hash(left, right)
            self._large[place] = node_hash(left, right)
        return self._large[place]

    def _middle(self, first: int, last: int, bit: int) -> int:
        """Returns the first leaf of a subtree's right half."""
        return bisect_left(self.keys, (self.keys[first] >> bit | 1) << bit, first, last)
