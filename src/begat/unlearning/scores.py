"""Scores of groups from models that forgot them: how much worse they explain a query."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from begat.diffusion.draws import shared_draws
from begat.diffusion.elbo import nats
from begat.diffusion.schedules import Schedule, diffuse
from begat.errors import BegatError
from begat.evaluation.measures import LOSS, NATS
from begat.evaluation.statistics import error_over_draws
from begat.rng.torch_generators import torch_generator
from begat.unlearning.targets import likelihoods

METHODS = {
    "guda_loss": LOSS,
    "guda_elbo": NATS,
    "guda_loss_centred": LOSS.centred,
    "guda_elbo_centred": NATS.centred,
}
Losses = Float[np.ndarray, "group query draw"]


def gather(
    packs: Iterable[tuple[Sequence[str], Float[np.ndarray, "_ query draw"]]], groups: Sequence[str]
) -> Losses:
    """The losses of every group's model, in the order of ``groups``, from packs in any order.

    Raises:
        BegatError: a group that no pack has, or that two have; a pack's group that is none.
    """
    found: dict[str, Float[np.ndarray, "query draw"]] = {}
    for names, losses in packs:
        for name, loss in zip(names, losses, strict=True):
            if name in found or name not in groups:
                what = "comes twice" if name in found else "is not one of the groups"
                raise BegatError(f"unlearned: {name!r} {what}; remove its pack and run again")
            found[name] = loss
    if missing := [name for name in groups if name not in found]:
        raise BegatError(f"unlearned: expected a model without {missing[0]!r}, found none")
    return np.stack([found[name] for name in groups])


def score(
    full: Float[np.ndarray, "query draw"],
    without: Losses,
    timestep: Int[np.ndarray, "query draw"],
    weights: Float[np.ndarray, " timestep"],
    dimensions: int,
) -> dict[str, Float[np.ndarray, "method query group"]]:
    """Measurement under the model that forgot each group minus that under the full model.

    In the order of ``METHODS``: the mean loss; the negative ELBO in nats, as published (arXiv
    2601.22651); and both centred, less each group's mean over queries. Unequal strength of
    forgetting shifts a whole group, which changes every query's ranking; centring takes it out,
    together with what groups truly differ by. ``group_uncertainty`` is the standard error of the
    mean over draws, antithetic pairs counted as one.

    Args:
        full: losses of the full model.
        without: losses of the models that forgot, on the same draws.
        timestep: the draws' timesteps, from the measurements.
        weights: of the ELBO, from ``diffusion.elbo.elbo_weights``.
        dimensions: pixels times channels.

    Raises:
        BegatError: a loss that is not finite.
    """
    if not (np.isfinite(full).all() and np.isfinite(without).all()):
        raise BegatError("measurements: a loss is not finite, so no group can be scored")
    difference = without - full
    in_nats = nats(difference, weights, timestep, dimensions)
    both = difference, in_nats
    means = [values.mean(-1).T for values in both]
    errors = [error_over_draws(values).T for values in both]
    return {
        "group_score": np.stack([*means, *(m - m.mean(0) for m in means)]),
        "group_uncertainty": np.stack([*errors, *errors]),
    }


def images_within(
    queries: Float[np.ndarray, "query channel y x"],
    pixels: UInt8[np.ndarray, "image channel y x"],
    members: Bool[np.ndarray, "query image"],
    schedule: Schedule,
    *,
    seed: int,
    draws: int,
) -> Float[np.ndarray, "query image"]:
    """How much each image of a query's group speaks for it: a share that sums to 1.

    The posterior of having been noised into the noised query, mean over shared draws: which images
    the group's ideal denoiser looks at. A similarity, to see into a group that a score has named;
    no model is asked.

    Args:
        queries: the images asked about.
        pixels: the training images.
        members: the images of the group chosen for each query.
        schedule: the forward process.
        seed: the root seed.
        draws: per query; even.
    """
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    shares = np.zeros(members.shape)
    for number, (query, group) in enumerate(zip(queries, members, strict=True)):
        images = torch.from_numpy(pixels[group]).double().flatten(1) / 127.5 - 1
        generator = torch_generator(seed, "scores_guda", number)
        t, noise = shared_draws(generator, draws, schedule.timesteps, shape)
        clean = torch.from_numpy(query).expand_as(noise)
        noisy = diffuse(schedule, clean, t, noise)[None]
        every = torch.ones(1, draws, len(images), dtype=torch.bool)
        found = likelihoods(noisy, *schedule.scales(t[None], noisy), images, every)
        shares[number, group] = found[0].softmax(-1).mean(0).numpy()
    return shares
