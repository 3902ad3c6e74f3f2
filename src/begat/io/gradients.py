"""What the gradient methods read: samples of images and queries, and draws."""

import numpy as np
from jaxtyping import Bool

from begat.core.gradients import Sample
from begat.core.image_draws import DrawsOf, common_draws, own_draws
from begat.io.job import Run
from begat.io.networks import labels_of
from begat.io.results import joined


def training_sample(run: Run, own: Bool[np.ndarray, " image"] | None = None) -> Sample:
    """All training images, or those that ``own`` marks; numbers are places among all."""
    pixels = run.read("images")["pixels"]
    whole = Sample(pixels, labels_of(run), range(len(pixels)))
    return whole if own is None or own.all() else whole.only(np.flatnonzero(own).tolist())


def query_sample(run: Run) -> Sample:
    """All queries; their numbers follow on those of the training images."""
    pixels, first = joined(run, "queries", "pixels"), len(run.plan.dataset.names)
    conditional = run.params["unet"]["conditional"]
    label = joined(run, "queries", "label") if conditional else None
    return Sample(pixels, label, range(first, first + len(pixels)))


def draws_of(run: Run, draws: int, *, shared: bool = True, mirrored: bool = True) -> DrawsOf:
    """The draws under which this job looks at images, ``mirrored`` as they were in training.

    For queries see ``core.image_draws.unmirrored``.
    """
    image = run.params["images"]
    shape = (image["channels"], image["size"], image["size"])
    return (common_draws if shared else own_draws)(
        run.seed,
        run.job.stage,
        draws,
        run.params["diffusion"]["timesteps"],
        shape,
        flip=mirrored and run.params["models"]["flip"],
    )
