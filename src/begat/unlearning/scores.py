"""Scores of groups from unlearned models: the rise of a query's loss or negative ELBO."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from begat.diffusion.draws import shared_draws
from begat.diffusion.elbo import nats
from begat.diffusion.pixels import to_model_range
from begat.diffusion.schedules import Schedule, diffuse
from begat.errors import BegatError
from begat.evaluation.measures import LOSS, NATS
from begat.evaluation.statistics import error_over_draws
from begat.rng.torch_generators import torch_generator
from begat.unlearning.targets import log_likelihoods

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
    """Returns the losses of every group's model in the order of ``groups``, from packs in any.

    Raises:
        BegatError: a group that no pack has, or that two have; a pack's name that is no group.
    """
    by_group: dict[str, Float[np.ndarray, "query draw"]] = {}
    for names, losses in packs:
        for name, loss in zip(names, losses, strict=True):
            if name in by_group or name not in groups:
                problem = "is in two packs" if name in by_group else "is not one of the groups"
                raise BegatError(
                    f"unlearned models: {name!r} {problem}; remove its pack, run again"
                )
            by_group[name] = loss
    if missing := [name for name in groups if name not in by_group]:
        raise BegatError(f"unlearned models: expected one without {missing[0]!r}, found none")
    return np.stack([by_group[name] for name in groups])


def score(
    full: Float[np.ndarray, "query draw"],
    without: Losses,
    timestep: Int[np.ndarray, "query draw"],
    weights: Float[np.ndarray, " timestep"],
    dimensions: int,
) -> dict[str, Float[np.ndarray, "method query group"]]:
    """Returns the measurement under each group's unlearned model minus that under the full one.

    In the order of ``METHODS``: the mean loss; the negative ELBO in nats, as published (arXiv
    2601.22651); and both centred, less each group's mean over queries. Unequal strength of
    unlearning shifts all scores of a group, which changes every query's ranking; centring removes
    that, together with the true differences between groups' means. ``group_uncertainty`` is the
    standard error of the mean over draws, antithetic pairs counted as one.

    Args:
        full: losses of the full model.
        without: losses of the unlearned models, on the same draws.
        timestep: the draws' timesteps, from the measurements.
        weights: of the ELBO, from ``diffusion.elbo.elbo_weights``.
        dimensions: pixels times channels.

    Raises:
        BegatError: a loss that is not finite.
    """
    if not (np.isfinite(full).all() and np.isfinite(without).all()):
        raise BegatError("a measured loss is not finite, so no group can be scored")
    difference = without - full
    in_nats = nats(difference, weights, timestep, dimensions)
    both = difference, in_nats
    means = [values.mean(-1).T for values in both]
    errors = [error_over_draws(values).T for values in both]
    return {
        "group_score": np.stack([*means, *(m - m.mean(0) for m in means)]),
        "group_uncertainty": np.stack([*errors, *errors]),
    }


def posterior_weights(
    queries: Float[np.ndarray, "query channel y x"],
    pixels: UInt8[np.ndarray, "image channel y x"],
    members: Bool[np.ndarray, "query image"],
    schedule: Schedule,
    *,
    seed: int,
    draws: int,
) -> Float[np.ndarray, "query image"]:
    """Returns the posterior weight of each image of a query's group given the noised query.

    The weights, which sum to 1, with which the group's ideal denoiser averages images; mean over
    shared draws. A similarity, to rank the images of a group that has a high score; no network is
    evaluated.

    Args:
        queries: the query images.
        pixels: the training images.
        members: the images of the group chosen for each query.
        schedule: the forward process.
        seed: the root seed.
        draws: per query; even.
    """
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    weights = np.zeros(members.shape)
    for number, (query, group) in enumerate(zip(queries, members, strict=True)):
        images = to_model_range(torch.from_numpy(pixels[group]).double().flatten(1))
        generator = torch_generator(seed, "scores_guda", number)
        t, noise = shared_draws(generator, draws, schedule.timesteps, shape)
        clean = torch.from_numpy(query).expand_as(noise)
        noisy = diffuse(schedule, clean, t, noise)[None]  # [1, draw, channel, y, x]
        candidates = torch.ones(1, draws, len(images), dtype=torch.bool)
        logits = log_likelihoods(noisy, *schedule.scales(t[None], noisy), images, candidates)
        weights[number, group] = logits[0].softmax(-1).mean(0).numpy()
    return weights
