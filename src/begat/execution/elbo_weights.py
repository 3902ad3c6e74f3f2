"""The weights of the ELBO, from parameters."""

import numpy as np
from jaxtyping import Float

from begat.diffusion.elbo import elbo_weights
from begat.execution.networks import schedule_of
from begat.planning.plan import Plan


def elbo_weights_of(plan: Plan) -> Float[np.ndarray, " timestep"]:
    """The weights of the ELBO that the section ``scores_guda`` describes."""
    params = plan.params["scores_guda"]
    return elbo_weights(schedule_of(plan), params["variance"], params["clipped"]).numpy()
