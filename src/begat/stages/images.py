"""Training images: pixels, groups, digests, duplicates."""

from collections.abc import Iterator

from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    yield table.make("images", "all", data=table.spec.dataset.digest)


def cost(sizes: JobSizes) -> Cost:
    """Returns what decoding takes: every pair of images is compared."""
    arrays = "pixels member_of name sha256 file_sha256 copy_of cluster label"
    pixels = float(sizes.images * sizes.pixels)
    return sizes.cost("arrays", sizes.images * pixels, 10 * pixels, arrays)


def run(context: JobContext) -> None:
    """Decode the images of the dataset."""
    context.materialise(_decoded, groups=list(context.spec.dataset.groups))


def _decoded(context: JobContext) -> Iterator[Block]:
    import numpy as np
    from tqdm import tqdm

    from begat.data.datasets import pixels
    from begat.data.encoding import encode
    from begat.storage.artifacts import digest_bytes, string_array

    dataset, params = context.spec.dataset, context.params.images
    images = tqdm(pixels(dataset, params), "images", len(dataset.names))
    yield from encode(images, dataset.membership, len(dataset.groups), params.near_duplicate_rms)
    yield {
        "name": string_array(dataset.names),
        "file_sha256": digest_bytes(dataset.digests),
        "label": np.array(dataset.labels, np.int32),
    }


STAGE = Stage("images", "images", "", jobs, run, data=True, cost=cost)
