"""Plans of a copy of this project, for the tests of keys."""

import shutil

import yaml
from small import ROOT

from begat.planning.plan import Plan
from begat.stages import STAGES


def copied(target):
    """The sources and parameters of this project in another folder."""
    shutil.copy(ROOT / "params.yaml", target)
    for name in ("params", "src", "workflow"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    return target


def planned(root, **changes):
    """The plan after changing ``section.key`` in params/tiny.yaml."""
    raw = yaml.safe_load((ROOT / "params" / "tiny.yaml").read_text())
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            raw[section][key] = value
        else:
            raw[section] = value
    (root / "params" / "tiny.yaml").write_text(yaml.safe_dump(raw))
    return Plan(root, "params/tiny.yaml")


def keys(root, **changes):
    """Keys of all artifacts and models after such changes."""
    plan = planned(root, **changes)
    found = {f"{job.stage}/{job.name}": job.key for job in plan.jobs()}
    return {**found, **{f"model {name}": key for name, key in plan.model_keys.items()}}


def changed_stages(before, after):
    """The stages some of whose artifacts have other keys."""
    names = {n for n in before.keys() & after.keys() if before[n] != after[n]}
    return {n.split("/")[0] for n in names if not n.startswith("model ")}


END = {"aggregated", "metrics", "report"}
DOWN = {  # the stages below each, itself included
    "images": set(STAGES),
    "splits": set(STAGES) - {"images"},
    "models": set(STAGES) - {"images", "splits"},
    "queries": set(STAGES) - {"images", "splits", "models", "factors", "unlearned"},
    "factors": {"factors", "scores_influence", "scores_joined", *END},
    "unlearned": {"unlearned", "measurements", "scores_guda", "scores_joined", *END},
    "measurements": {
        *("measurements", "counterfactuals", "scores_ensemble", "scores_guda", "scores_logo"),
        *("scores_joined", *END),
    },
    "counterfactuals": {"counterfactuals", "metrics", "report"},
    **{stage: {stage, "scores_joined", *END} for stage in STAGES if stage.startswith("scores_")},
    "scores_logo": {"scores_logo", *END},  # the ground truth is never joined
    "aggregated": END,
    "metrics": {"metrics", "report"},
    "report": {"report"},
}
