"""What the gradient methods read: samples of images and queries, draws, inverse curvature."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.core.gradients import Sample
from begat.core.image_draws import DrawsOf, common_draws, own_draws
from begat.core.kronecker import blocks, preconditioned
from begat.core.layers import covered_layers, named_order
from begat.core.unet import parameter_shapes
from begat.io.job import Run
from begat.io.networks import config_of, denoiser_of, labels_of


def training_sample(run: Run, own: Bool[np.ndarray, " image"] | None = None) -> Sample:
    """All training images, or those that ``own`` marks; numbers are places among all."""
    pixels = run.read("images")["pixels"]
    whole = Sample(pixels, labels_of(run), range(len(pixels)))
    return whole if own is None or own.all() else whole.only(np.flatnonzero(own).tolist())


def query_sample(run: Run) -> Sample:
    """All queries; their numbers follow on those of the training images."""
    pixels, first = run.joined("queries", "pixels"), len(run.plan.dataset.names)
    conditional = run.params["unet"]["conditional"]
    label = run.joined("queries", "label") if conditional else None
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


def preconditioner_of(
    run: Run, row: Float[np.ndarray, " parameter"], damping: float
) -> Callable[[Tensor], Tensor]:
    """The inverse EK-FAC curvature at a model's weights, applied to rows of gradients.

    ``damping`` is a multiple of each block's mean eigenvalue. What layers that the curvature does
    not cover have in a row becomes zero.
    """
    (model,) = run.job.models
    stored = run.read("factors", model.name)
    layers = covered_layers(denoiser_of(run, row).module, norms=stored.attributes["norms"])
    place = named_order(layers, parameter_shapes(config_of(run.plan)))
    covered = (place >= 0).nonzero()[:, 0]
    curvature = {
        layer: {name: torch.from_numpy(v).to(run.device) for name, v in arrays.items()}
        for layer, arrays in stored.layers().items()
    }

    def precondition(rows: Tensor) -> Tensor:
        inside = torch.zeros(len(rows), layers[-1].stop, device=rows.device)
        inside[:, place[covered]] = rows[:, covered]
        found = blocks(layers, curvature, "ekfac")
        (moved,) = preconditioned(found, inside, "relative", [damping])
        result = torch.zeros_like(rows)
        result[:, covered] = moved[:, place[covered]]
        return result

    return precondition
