"""What the tests with random damage share: how much of it, and what must come of it."""

import contextlib
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from begat.errors import BegatError

EXAMPLES = os.environ.get("BEGAT_FUZZ")


def fuzzed(share=1):
    """``BEGAT_FUZZ`` examples (a few hundred without it) by ``share``, always the same without."""
    examples = int(EXAMPLES or 200) // share
    return settings(
        max_examples=examples,
        derandomize=EXAMPLES is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def refused_in_one_line():
    """Nothing but success or a BegatError of one printable line."""
    said = "one printable line"
    try:
        yield
    except BegatError as error:
        said = str(error)
    assert said.isprintable()
    assert 10 < len(said) < 3000


@st.composite
def damaged(draw, content):
    """Bytes with a few of them changed, inserted, removed, or cut off."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        kind = draw(st.sampled_from(["change", "insert", "remove", "cut", "repeat"]))
        if kind == "change" and found:
            found[at] = draw(st.integers(0, 255))
        elif kind == "insert":
            found[at:at] = draw(st.binary(max_size=8))
        elif kind == "remove":
            del found[at : at + draw(st.integers(1, 40))]
        elif kind == "cut":
            del found[at:]
        else:
            found[at:at] = found[at : at + draw(st.integers(1, 40))]
    return bytes(found)
