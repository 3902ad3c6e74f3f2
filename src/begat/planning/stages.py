"""Every stage in its order: the parameters that matter to it, and the stages it reads.

Keys (``planning.plan``) and ``dvc.yaml`` (``planning.generate``) both follow from this table; which code
matters to a stage follows from its imports (``planning.code``).
"""

from dataclasses import dataclass

from begat.config.schema import SECTIONS


@dataclass(frozen=True)
class Stage:
    """One stage.

    ``parameters``: sections (``models``) and single keys (``models.flip``), with spaces between.
    ``reads``: the stages whose artifacts it reads. ``data``: whether it reads below ``data/``.
    ``each``: where it makes many artifacts, the rule for one of them is ``<stage>_<each>``.
    """

    parameters: str
    reads: str = ""
    data: bool = False
    each: str = ""


_METHODS = "ensemble influence trak tracin features pixel guda logo"
_SCORES = " ".join(f"scores_{method}" for method in _METHODS.split())
_SHOWN = " ".join(section for section in SECTIONS if section != "compute")

STAGES = {
    "images": Stage("images", data=True),
    "splits": Stage("seed splits", reads="images"),
    "models": Stage(
        "seed unet diffusion.timesteps diffusion.schedule diffusion.prediction models",
        reads="images splits",
        data=True,
        each="pack",
    ),
    "queries": Stage(
        "seed diffusion queries images.size images.channels images.resize",
        reads="models",
        data=True,
        each="block",
    ),
    "factors": Stage(
        "seed unet.conditional diffusion models.flip factors "
        "unlearned.operator unlearned.start scores_influence.models",
        reads="images splits models",
        each="model",
    ),
    "unlearned": Stage(
        "seed unet.conditional diffusion models.flip models.steps "
        "models.learning_rate models.warmup unlearned",
        reads="images models factors",
        each="pack",
    ),
    "measurements": Stage(
        "seed diffusion measurements",
        reads="models queries unlearned",
        each="kind",
    ),
    "counterfactuals": Stage(
        "seed splits.code splits.group_code diffusion queries.source queries.sampler "
        "queries.steps queries.clip counterfactuals",
        reads="images splits models queries measurements",
        each="kind",
    ),
    "scores_ensemble": Stage(
        "seed splits.code splits.group_code scores_ensemble",
        reads="images splits measurements counterfactuals",
    ),
    "scores_influence": Stage(
        "seed unet.conditional images.size images.channels diffusion models.flip scores_influence",
        reads="images splits models queries factors",
    ),
    "scores_trak": Stage(
        "seed unet.conditional images.size images.channels diffusion models.flip scores_trak",
        reads="images splits models queries",
    ),
    "scores_tracin": Stage(
        "seed unet.conditional images.size images.channels diffusion models scores_tracin",
        reads="images models queries",
    ),
    "scores_features": Stage(
        "seed unet.conditional images.size images.channels diffusion scores_features",
        reads="images models queries",
        data=True,
    ),
    "scores_pixel": Stage("", reads="images queries"),
    "scores_guda": Stage(
        "seed images.size images.channels diffusion measurements.draws scores_guda",
        reads="images queries measurements",
    ),
    "scores_logo": Stage(
        "images.size images.channels diffusion scores_guda.variance scores_guda.clipped",
        reads="measurements",
    ),
    "aggregated": Stage("", reads=f"images {_SCORES}"),
    "metrics": Stage(
        "seed metrics", reads=f"images splits measurements counterfactuals {_SCORES} aggregated"
    ),
    "report": Stage(
        f"use seed {_SHOWN}",
        reads="images splits models queries factors unlearned counterfactuals "
        f"{_SCORES} aggregated metrics",
    ),
}
