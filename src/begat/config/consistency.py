"""Checks of parameters against each other, where no single one is wrong."""

import math

from begat.config.schema import Params
from begat.errors import BegatError, brief

MAX_FINAL_SIGNAL = 0.01  # of an image's variance at the end of the forward process


def refuse(params: Params, name: str, expected: str, value: object) -> None:
    """Raise the BegatError of a parameter that others forbid."""
    raise BegatError(
        f"{brief(params.params_file)}: {name}: expected {expected}, found {brief(value, 80)}"
    )


def lowest_timestep(num_train_timesteps: int, steps: int) -> int:
    """Returns the last of ``diffusion.sampling.sampling_timesteps``, without torch."""
    return round(num_train_timesteps - (steps - 1) * (num_train_timesteps / steps)) - 1


def final_signal(beta_schedule: str, timesteps: int) -> float:
    """Returns the last alpha_bar of a schedule, without torch; 0 for the cosine's tiny one.

    Sampling starts from pure noise, so a process that does not end there is sampled wrongly.
    """
    if beta_schedule == "squaredcos_cap_v2":
        return 0.0
    return math.prod(1 - 1e-4 - i * (0.02 - 1e-4) / (timesteps - 1) for i in range(timesteps))


def check(params: Params) -> None:
    """Raise BegatError where shared sections contradict each other."""
    models, splits, queries = params.models, params.splits, params.queries
    if models.pipeline != "none":
        if splits.full != 1:
            refuse(params, "splits.full", "1, the pipeline", splits.full)
        for kind in ("members", "group_members", "logo", "subsets", "group_subsets"):
            if count := getattr(splits, kind):
                refuse(params, f"splits.{kind}", "0 beside models.pipeline", count)
    steps, timesteps = queries.num_inference_steps, params.diffusion.num_train_timesteps
    if steps > timesteps:
        expected = f"at most diffusion.num_train_timesteps={timesteps}"
        refuse(params, "queries.num_inference_steps", expected, steps)
    signal = final_signal(params.diffusion.beta_schedule, timesteps)
    if signal > MAX_FINAL_SIGNAL:
        expected = (
            f"so many that beta_schedule={params.diffusion.beta_schedule} ends in noise "
            f"(at most {MAX_FINAL_SIGNAL} of the image's variance left; {signal:.2g} is), "
            "or squaredcos_cap_v2"
        )
        refuse(params, "diffusion.num_train_timesteps", expected, timesteps)
    by = queries.generated_by
    if queries.source == "generated" and not getattr(splits, "full" if by == "full" else f"{by}s"):
        expected = "models that splits trains"
        refuse(params, "queries.generated_by", expected, f"{by}, of which it trains 0")
    if params.images.source == "digits" and params.images.channels != 1:
        refuse(params, "images.channels", "1, as digits are grey", params.images.channels)


def check_draws(params: Params, section: str, draws: int, multiple: int, mirrored: bool) -> None:
    """Raise BegatError unless draws divide into antithetic pairs, half of them mirrored.

    Args:
        params: all parameters.
        section: whose ``draws`` they are.
        draws: their number.
        multiple: what it must be a multiple of, twice that with mirrored training images.
        mirrored: whether the method mirrors draws where models were trained on mirrored images.
    """
    mirrored = mirrored and params.models.random_flip
    multiple *= 1 + mirrored
    if draws % multiple:
        reason = " with models.random_flip, as half of the pairs are mirrored" if mirrored else ""
        refuse(params, f"{section}.draws", f"a multiple of {multiple}{reason}", draws)


def check_models(params: Params, name: str, models: int) -> None:
    """Raise BegatError where a method averages over more models than are trained."""
    if models > params.splits.full + params.splits.members:
        refuse(params, name, "at most splits.full + splits.members", models)
