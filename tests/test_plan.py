"""Keys: what changes them, what does not, and that dvc.yaml says the same as the plan."""

import subprocess
import sys
from itertools import product

import pytest
import yaml
from PIL import Image
from plans import DOWN, changed_stages, copied, keys, planned
from small import ROOT

from begat.errors import BegatError
from begat.execution.contents import Contents
from begat.planning.freshness import why
from begat.planning.plan import Plan
from begat.stages import STAGES
from begat.storage.digests import digest

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture
def root(tmp_path):
    return copied(tmp_path)


PIPELINE = {
    **{f"splits__{kind}": 0 for kind in ("members", "group_members", "logo", "subsets")},
    "splits__group_subsets": 0,
    "scores_tracin__models": 0,
}


@pytest.mark.parametrize(
    ("name", "value", "stages"),
    [
        ("seed", 1, DOWN["splits"]),
        ("images__near_duplicate_rms", 0.1, DOWN["images"]),
        ("splits__subset_fraction", 0.6, {"splits", "models", "measurements", "metrics", "report"}),
        ("models__max_train_steps", 11, DOWN["models"]),
        ("models__learning_rate", 0.1, DOWN["models"]),
        ("unet__layers_per_block", 2, DOWN["models"]),
        ("diffusion__use_ema", False, DOWN["queries"] | {"factors", "unlearned"}),
        ("queries__num_inference_steps", 5, DOWN["queries"]),
        ("factors__draws", 4, DOWN["factors"]),
        ("unlearned__steps_fraction", 0.5, DOWN["unlearned"]),
        ("unlearned__operator", {"name": "swap"}, DOWN["unlearned"]),
        ("factors__models", 2, DOWN["scores_influence"]),
        ("scores_influence__draws", 8, DOWN["scores_influence"]),
        ("scores_trak__damping", 0.2, DOWN["scores_trak"]),
        ("scores_tracin__draws", 4, DOWN["scores_tracin"]),
        ("scores_features__draws", 4, DOWN["scores_features"]),
        ("measurements__elbo_clipped", "cap", DOWN["scores_guda"] | DOWN["scores_logo"]),
        ("measurements__draws", 6, DOWN["measurements"]),
        ("counterfactuals__top", 2, DOWN["counterfactuals"]),
        ("scores_ensemble__null_samples", 50, DOWN["scores_ensemble"]),
        ("metrics__resamples", 30, DOWN["metrics"]),
        ("report__top", 4, DOWN["report"]),
        ("compute__device", "cpu", set()),
        ("compute__threads", 2, set()),
        ("compute__checkpoint_seconds", 1, set()),
    ],
)
def test_a_parameter_changes_exactly_the_stages_that_depend_on_it(root, name, value, stages):
    assert changed_stages(keys(root), keys(root, **{name: value})) == stages


def test_touching_a_file_changes_nothing(root):
    before = keys(root)
    for path in (root / "src").rglob("*.py"):
        path.touch()
    assert keys(root) == before


def test_more_members_or_subsets_leave_every_trained_model_as_it_was(root):
    before = keys(root)
    after = keys(root, splits__members=16, splits__subsets=6, splits__seeds_per_subset=3)
    models = {n for n in before if n.startswith("model ")}
    assert all(after[n] == before[n] for n in models)
    assert len([n for n in after if n.startswith("model ")]) == len(models) + 2 + 10 + 4


def test_packing_otherwise_changes_no_models_key(root):
    before, after = keys(root), keys(root, models__models_per_job=5)
    assert all(after[n] == k for n, k in before.items() if not n.startswith("models/"))


def test_more_queries_leave_the_blocks_that_were_full(root):
    before, after = keys(root), keys(root, queries__count=8)
    assert after["queries/0"] == before["queries/0"]
    assert after["measurements/subset-0"] == before["measurements/subset-0"]
    assert "queries/1" in after


def test_every_key_follows_from_what_it_says_it_was_made_from(root):
    plan = Plan(root, "params/tiny.yaml")
    for job in plan.jobs():
        assert job.key == digest(job.made_from)
        for name, key in job.made_from["inputs"].items():
            stage, _, one = name.partition("/")
            if stage == "splits":  # only the rows that matter to the job
                continue
            known = plan.model_keys if stage == "models" else {}
            assert key == (known.get(one) or plan.job(stage, one).key)


def test_the_reason_for_being_stale_names_parameters_code_and_inputs(root):
    from begat.storage.artifacts import write

    keys(root)
    plan = Plan(root, "params/tiny.yaml")
    job = plan.job("metrics", "all")
    attributes = {"made_from": dict(job.made_from), "key": job.key}
    import numpy as np

    empty = {name: np.zeros((1, 1)) for name in ("lds", "group_lds", "logo_spearman")}
    write(root / job.path, "metrics", attributes, [empty])
    assert why(plan, job, Contents(root)).startswith("input missing: ")
    assert why(plan, plan.job("report", "all"), Contents(root)) == "missing"
    keys(root, metrics__resamples=33, measurements__draws=8)
    with (root / "src" / "begat" / "evaluation" / "statistics.py").open("a") as file:
        file.write("CHANGED = 1\n")
    plan = Plan(root, "params/tiny.yaml")
    said = why(plan, plan.job("metrics", "all"), Contents(root))
    assert "metrics.resamples: 20 -> 33" in said
    assert "code changed: src/begat/evaluation/statistics.py" in said
    assert "input changed: aggregated/all" in said


def test_an_artifact_that_is_not_asked_for_is_named(root):
    keys(root)
    with pytest.raises(BegatError, match="queries/7.zarr: no such artifact with these parameters"):
        Plan(root, "params/tiny.yaml").job("queries", "7")


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_lists_exactly_the_results_that_a_stage_reads(stage):
    plan = Plan(ROOT, "params/tiny.yaml")
    reads = {
        str(plan.job(*name).path) if name[0].startswith("scores_") else f"results/{name[0]}"
        for job in plan.jobs(stage)
        for name in job.inputs
    }
    if stage == "unlearned":  # by a Newton step
        reads.add("results/factors")
    assert {d for d in DVC[stage]["deps"] if d.startswith("results/")} == reads


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_tracks_exactly_what_a_stage_makes(stage):
    plan = Plan(ROOT, "params/tiny.yaml")
    out, *others = (name for out in DVC[stage]["outs"] for name in out)
    assert all(str(job.path).startswith(out) for job in plan.jobs(stage))
    assert others == (["results/records"] if stage == "report" else [])
    assert all(how == {"persist": True} for out in DVC[stage]["outs"] for how in out.values())
    assert DVC[stage]["cmd"] == f"begat run {stage} --only"


def test_the_bytes_of_a_named_network_are_in_the_key_of_what_it_judges(root):
    path = root / "data" / "eyes.safetensors"
    network = {"scores_features__network": "timm:resnet18:data/eyes.safetensors"}
    with pytest.raises(BegatError, match="eyes.safetensors: expected a file, found none"):
        keys(root, **network)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"one")
    before = keys(root, **network)
    path.write_bytes(b"two")
    assert changed_stages(before, keys(root, **network)) == DOWN["scores_features"]
    with pytest.raises(BegatError, match="expected a path under data/"):
        keys(root, scores_features__network="timm:resnet18:eyes.safetensors")
    with pytest.raises(BegatError, match="expected a path under data/"):
        keys(root, **PIPELINE, models__pipeline="elsewhere")


def test_the_classes_of_a_persons_own_queries_are_in_their_key(root):
    picture = root / "data" / "mine" / "3" / "x.png"
    picture.parent.mkdir(parents=True)
    Image.new("L", (8, 8)).save(picture)
    own = {"queries__source": "folder", "queries__path": "data/mine"}
    plain, conditional = planned(root, **own), planned(root, **own, unet__class_conditional=True)
    labels = [plan.job("queries", "0").made_from["label"] for plan in (plain, conditional)]
    assert labels == [[-1], [3]]
    assert plain.job("queries", "0").key != conditional.job("queries", "0").key


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"factors__models": 2}, "factors"),
        ({"factors__models": 0}, "factors"),
        ({"unlearned__groups_per_job": 1}, "unlearned"),
        ({"splits__members": 16}, "models"),
        ({"queries__count": 6, "queries__queries_per_job": 2}, "measurements"),
        ({"splits__logo": 0}, "measurements"),
    ],
)
def test_dvc_notices_whatever_changes_the_jobs_of_a_stage(root, changes, stage):
    before, after = planned(root), planned(root, **changes)

    def jobs(plan, of):
        return {(job.name, job.key) for job in plan.jobs(of)}

    def noticed(of):
        listed = [n for entry in DVC[of].get("params", []) for n in next(iter(entry.values()))]
        if any(c.replace("__", ".") in listed or c.partition("__")[0] in listed for c in changes):
            return True
        above = {d.split("/")[1] for d in DVC[of]["deps"] if d.startswith("results/")} & set(STAGES)
        return any(jobs(before, one) != jobs(after, one) and noticed(one) for one in above)

    assert jobs(before, stage) != jobs(after, stage)
    assert noticed(stage)


def test_a_newton_step_reads_the_full_models_factors_asked_for_or_not(root):
    newton = {"unlearned__operator": {"name": "newton"}, "unlearned__init": "newton"}
    for asked, name in product((0, 1), newton):
        plan = planned(root, **{name: newton[name]}, factors__models=asked)
        assert [job.name for job in plan.jobs("factors")] == ["full-0-0"]
        assert all(("factors", "full-0-0") in job.inputs for job in plan.jobs("unlearned"))


def test_what_looks_into_a_member_reads_which_images_it_was_trained_on(root):
    plan = planned(root, factors__models=2, scores_trak__models=2)
    for stage in ("factors", "scores_influence", "scores_trak"):
        assert all(("splits", "all") in job.inputs for job in plan.jobs(stage))


def test_planning_starts_without_torch():
    modules = "begat.planning.plan, begat.planning.freshness, begat.planning.generate"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stages_stand_in_dvc_in_the_order_of_the_plan():
    assert list(DVC) == list(STAGES)
