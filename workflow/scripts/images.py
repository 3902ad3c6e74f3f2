"""Decode the dataset: pixels, groups, digests, duplicates."""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from begat.data import datasets
from begat.data.encoding import encode
from begat.execution.context import Run, main
from begat.storage.artifacts import Block, digest_bytes, string_array


def compute(run: Run) -> Iterator[Block]:
    dataset, asked = run.plan.dataset, run.params["images"]
    pixels = tqdm(datasets.pixels(dataset, asked), "images", len(dataset.names))
    yield from encode(pixels, dataset.membership, len(dataset.groups), asked["near_duplicate"])
    yield {
        "name": string_array(dataset.names),
        "file_sha256": digest_bytes(dataset.digests),
        "label": np.array(dataset.labels, np.int32),
    }


main("images", lambda run: run.finish(compute, groups=list(run.plan.dataset.groups)))
