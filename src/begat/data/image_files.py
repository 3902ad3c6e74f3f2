"""Image files as arrays of pixels."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from begat.errors import BegatError, brief

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")  # only their decoders are used; some others start other programs
SEVERAL_VIEWS = "MPO"  # a JPEG file with more views of the same picture, or parts of it, behind it
Pixels = UInt8[np.ndarray, "channel y x"]


def decode(path: Path, content: bytes, size: int, channels: int, resize: str) -> Pixels:
    """Returns the image in a file's ``content``, of the given size and number of channels.

    ``crop`` takes the central square, ``stretch`` the whole; both then resample by area
    (Pillow's box-supported Lanczos). Colour becomes grey by luma, grey becomes colour by copying,
    transparency is laid over white, and the image is turned to its EXIF orientation.

    Raises:
        BegatError: no whole PNG, JPEG or WebP image, more than 8 bits per channel, an animation,
            another size while ``resize`` is ``refuse``.
    """
    try:
        picture = _opened(path, content, channels)
    except BegatError:
        raise
    except UnidentifiedImageError:
        raise BegatError(
            f"{path}: expected a PNG, JPEG or WebP image, found something else"
        ) from None
    except Exception as error:  # Pillow raises errors of any kind on damaged files
        raise BegatError(f"{path}: damaged image ({brief(error)}); replace or remove it") from None
    if picture.size != (size, size):
        if resize == "refuse":
            raise BegatError(
                f"{path}: expected {size}x{size} pixels (images.size), found "
                f"{picture.width}x{picture.height}; set images.resize to crop or stretch"
            )
        if resize == "crop":
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(size, size, channels).transpose(2, 0, 1)


def _opened(path: Path, content: bytes, channels: int) -> Image.Image:
    """Returns the whole image, turned upright, in grey or in colour."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.format != SEVERAL_VIEWS and (frames := getattr(image, "n_frames", 1)) > 1:
            raise BegatError(f"{path}: expected one picture, found an animation of {frames}")
        modes = [image.mode, *(str(tile[3]) for tile in image.tile)]  # as decoded, as stored
        if wide := [mode for mode in modes if ";16" in mode or mode[:1] in "IF"]:
            raise BegatError(f"{path}: expected 8 bits per channel, found mode {wide[-1]}")
        image.load()
        picture = ImageOps.exif_transpose(image)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture.convert("RGBA"))
            picture = white
        return picture.convert("L" if channels == 1 else "RGB")
