"""The methods in plain words, for whoever has not read the papers, and how to read their scores."""

import numpy as np
from jaxtyping import Float, Int

from begat.evaluation.measures import Measure

METHODS = {
    "ensemble_naive": (
        "ensemble, naive",
        "loss of the members that never saw the unit minus loss of all members, as published; "
        "fewer members average less, so every unit seems to help a little",
    ),
    "ensemble_matched": (
        "ensemble, matched",
        "members that never saw the unit against random member sets of equal size",
    ),
    "ensemble_mirror": (
        "ensemble, mirror",
        "members that never saw the unit against those that did, each side averaged as one model",
    ),
    "ensemble_means": (
        "ensemble, means",
        "mean loss of single members that never saw the unit minus of those that did",
    ),
    "ekfac": (
        "influence, EK-FAC",
        "a first-order estimate of what the loss would do if the image left the training sum; the "
        "curvature by Kronecker factors with corrected eigenvalues",
    ),
    "kfac": ("influence, K-FAC", "the same with the plain Kronecker factors"),
    "ekfac_downdated": (
        "influence, group at once",
        "EK-FAC for the whole group, without the curvature that the group itself contributed",
    ),
    "gradient_dot": ("gradient product", "the same without any curvature: no loss any more"),
    "trak": ("TRAK", "weights of a regression on the gradients' own kernel: no loss"),
    "dtrak": ("D-TRAK", "the same kernel of another function's gradients; its ranks only matter"),
    "das": ("DAS", "squared kernel weights times the image's loss: magnitudes without a sign"),
    "tracin": ("TracIn", "products of gradients summed over states along the training: no loss"),
    "retrac": ("Re-TracIn", "the same, each image's gradient brought to length 1"),
    "features_cosine": (
        "same features",
        "how similar the images are in the eyes of a network; not a loss, and without its sign",
    ),
    "pixel_rbf": (
        "pixel kernel",
        "how similar the images are as pixels; uses no model, so what does not beat it says little",
    ),
    "pixel_cosine": ("pixel cosine", "the angle between the images as pixels"),
    "pixel_nearest": ("pixel distance", "minus the distance between the images as pixels"),
    "guda_loss": (
        "unlearned",
        "loss of a model made to forget the group minus loss of the full model",
    ),
    "guda_elbo": (
        "unlearned, ELBO",
        "the same in nats of the evidence lower bound, over all noise levels",
    ),
    "guda_loss_centred": (
        "unlearned, centred",
        "less each group's mean over queries: how strongly each was forgotten cancels",
    ),
    "guda_elbo_centred": ("unlearned, ELBO, centred", "the same in nats"),
    "logo_retrained": (
        "retrained without",
        "the truth: models trained anew without the group, minus full models",
    ),
    "logo_paired": (
        "retrained, paired",
        "trained without the group from the same start, batches and noise as the full model",
    ),
    "logo_independent": ("retrained, independent", "trained without the group from another seed"),
    "logo_elbo_retrained": ("retrained without, ELBO", "the truth in nats, mean over trainings"),
    "logo_elbo_paired": ("retrained, paired, ELBO", "the paired truth in nats"),
    "logo_elbo_independent": ("retrained, independent, ELBO", "the independent truth in nats"),
    "another_training": (
        "another training",
        "retraining with another seed: what even the truth itself reaches",
    ),
    "random": ("random", "random numbers: what no knowledge gives"),
    "group_size": ("group size", "the number of images that go: knows neither model nor query"),
    "query_independent": (
        "same for every query",
        "what retraining with other seeds says of all other queries: blind to this one",
    ),
}
VARIANTS = {  # endings of names: what they add to the name and to the description
    "_summed": ("images summed", "image scores summed over the group"),
    "_centred": (
        "centred",
        "less what the image does for an average training image: above 0 means more than that",
    ),
}


Sides = tuple[Int[np.ndarray, " highest"], Int[np.ndarray, " lowest"]]


def sides(measure: Measure) -> tuple[str, str]:
    """What the highest and the lowest scores mean."""
    return ("helped most", "harmed most") if measure.signed else ("highest", "lowest")


def of_each_side(measure: Measure, score: Float[np.ndarray, " unit"], count: int) -> Sides:
    """The units to show on each side, at most ``count``, the farthest first.

    Where signs mean something a side holds scores of its own sign only, so that no score below 0 is
    said to have helped: one side may be short, or empty.
    """
    order = np.argsort(-score, kind="stable")
    if not measure.signed:
        return order[:count], order[::-1][:count]
    return order[score[order] > 0][:count], order[score[order] < 0][::-1][:count]


def remark(measure: Measure) -> str:
    """What alone may be read from a score; nothing where its sign and its size both may."""
    if not measure.signed:
        return "order only"
    return "" if measure.calibrated else "sign and order only"


def words(method: str) -> tuple[str, str]:
    """A method's name and description in plain words."""
    for ending, (added, meaning) in VARIANTS.items():
        if method.endswith(ending) and method not in METHODS:
            name, says = words(method.removesuffix(ending))
            return f"{name}, {added}", f"{says}; {meaning}"
    return METHODS.get(method, (method.replace("_", " "), ""))
