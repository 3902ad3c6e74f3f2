"""What the gradient methods read: samples of images and queries, and draws."""

from begat.core.gradients import Sample
from begat.core.image_draws import DrawsOf, common_draws, own_draws
from begat.io.job import Run
from begat.io.networks import labels_of
from begat.io.results import joined


def training_sample(run: Run) -> Sample:
    """All training images; their numbers are their places."""
    pixels = run.read("images")["pixels"]
    return Sample(pixels, labels_of(run), range(len(pixels)))


def query_sample(run: Run) -> Sample:
    """All queries; their numbers follow on those of the training images."""
    pixels, first = joined(run, "queries", "pixels"), len(run.plan.dataset.names)
    conditional = run.params["unet"]["conditional"]
    label = joined(run, "queries", "label") if conditional else None
    return Sample(pixels, label, range(first, first + len(pixels)))


def draws_of(run: Run, draws: int, shared: bool = True) -> DrawsOf:
    """The draws under which this job's gradients are taken, mirrored as in training."""
    image = run.params["images"]
    shape = (image["channels"], image["size"], image["size"])
    return (common_draws if shared else own_draws)(
        run.seed,
        run.job.stage,
        draws,
        run.params["diffusion"]["timesteps"],
        shape,
        flip=run.params["models"]["flip"],
    )
