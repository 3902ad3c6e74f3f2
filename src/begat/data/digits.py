"""Handwritten digits, 8x8 pixels in ten classes: the dataset embedded in begat."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from begat.config.schema import Images
from begat.data.image_files import Pixels
from begat.errors import BegatError

PREFIX = "digit-"  # of a name; then its number among all


def digit_rows() -> list[bytes]:
    """Returns the rows of the file, as in scikit-learn: 64 levels 0..16 and a class, as CSV."""
    with gzip.open(Path(__file__).with_name("digits.csv.gz")) as file:
        return file.read().split()


def digit_class(row: bytes) -> int:
    """Returns the digit that a row shows."""
    return int(float(row.rsplit(b",", 1)[1]))


def digit_pixels(names: tuple[str, ...], params: Images) -> Iterator[Pixels]:
    """Yields the digits of these names.

    Raises:
        BegatError: another size than 8x8 while ``resize`` is ``refuse``.
    """
    size, rows = params.size, digit_rows()
    for name in names:
        levels = np.array(rows[int(name.removeprefix(PREFIX))].split(b",")[:64], float)
        image = np.round(levels.reshape(8, 8) * (255 / 16)).astype(np.uint8)
        if size != 8:
            if params.resize == "refuse":
                raise BegatError(
                    f"images.size: digits have 8x8 pixels, found {size}; set images.resize to "
                    "stretch"
                )
            picture = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)
            image = np.asarray(picture)
        yield image[None]
