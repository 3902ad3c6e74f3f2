"""Writes the image folders that ``params/fashion.yaml`` and ``params/emoji.yaml`` read.

    apt-get install dataset-fashion-mnist            # Debian's package
    python benchmarks/datasets.py fashion

    npm install @iconify-json/{twemoji@1.2.5,noto@1.2.9,fluent-emoji@1.2.7,fluent-emoji-flat@1.2.6}
    pip install resvg-py
    python benchmarks/datasets.py emoji --source node_modules/@iconify-json

Each image's name begins with its number, so that folders are read in the order of the source.
"""

import argparse
import gzip
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

FASHION = Path("/usr/share/datasets/fashion-mnist")
EMOJI = Path("node_modules/@iconify-json")
CLASSES = [
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
]
VENDORS = "fluent-emoji", "fluent-emoji-flat", "noto", "twemoji"
PER_CLASS, CONCEPTS, SIZE, DRAWN = 200, 500, 16, 96
Images = Iterator[tuple[str, str, Image.Image]]  # group, name, picture


def fashion(source: Path) -> Images:
    """The first images of each class of Fashion-MNIST's training set."""

    def bytes_of(kind: str, header: int) -> np.ndarray:
        file = source / f"train-{kind}-ubyte.gz"
        return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=header)

    pixels, labels = bytes_of("images-idx3", 16).reshape(-1, 28, 28), bytes_of("labels-idx1", 8)
    for number, name in enumerate(CLASSES):
        for i in np.flatnonzero(labels == number)[:PER_CLASS]:
            yield f"{number}-{name}", f"{i:05}", Image.fromarray(pixels[i])


def emoji(source: Path) -> Images:
    """The same random concepts in the drawings of four vendors, over white."""
    from resvg_py import svg_to_bytes

    sets = {vendor: json.loads((source / vendor / "icons.json").read_text()) for vendor in VENDORS}
    shared = sorted(set.intersection(*[set(icons["icons"]) for icons in sets.values()]))
    chosen = sorted(np.random.default_rng(0).permutation(len(shared))[:CONCEPTS].tolist())
    for vendor, icons in sets.items():
        for i in chosen:
            icon = {"left": 0, "top": 0, "width": 16, "height": 16, **_box(icons)}
            icon |= icons["icons"][shared[i]]
            box = " ".join(str(icon[side]) for side in ("left", "top", "width", "height"))
            drawing = (
                '<svg xmlns="http://www.w3.org/2000/svg" '
                f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" '
                f'width="{DRAWN}" height="{DRAWN}">{icon["body"]}</svg>'
            )
            data = bytes(svg_to_bytes(svg_string=drawing, width=DRAWN, height=DRAWN))
            picture = Image.open(io.BytesIO(data)).convert("RGBA")
            whole = Image.new("RGBA", picture.size, "white")
            whole.alpha_composite(picture)
            yield vendor, f"{i:05}-{shared[i]}", whole.convert("RGB")


def _box(icons: dict) -> dict:
    return {side: icons[side] for side in ("left", "top", "width", "height") if side in icons}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a folder of images below data/.")
    parser.add_argument("dataset", choices=["fashion", "emoji"])
    parser.add_argument("--source", type=Path, help="where the package's files are")
    arguments = parser.parse_args()
    images, source = {"fashion": (fashion, FASHION), "emoji": (emoji, EMOJI)}[arguments.dataset]
    place = Path("data") / arguments.dataset
    shutil.rmtree(place, ignore_errors=True)
    for group, name, picture in images(arguments.source or source):
        (place / group).mkdir(parents=True, exist_ok=True)
        small = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        small.save(place / group / f"{name}.png")
    print(f"{place}: {sum(1 for _ in place.rglob('*.png'))} images")


if __name__ == "__main__":
    main()
