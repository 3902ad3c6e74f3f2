"""The weights of the ELBO, from parameters."""

import numpy as np
from jaxtyping import Float

from begat.core.elbo import elbo_weights
from begat.io.networks import schedule_of
from begat.io.plan import Plan


def elbo_weights_of(plan: Plan) -> Float[np.ndarray, " timestep"]:
    """The weights of the ELBO that the section ``scores_guda`` describes."""
    params = plan.params["scores_guda"]
    return elbo_weights(schedule_of(plan), params["variance"], params["clipped"]).numpy()
