"""Snakemake and DVC agree, whatever is changed, killed, cloned or linked."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from itertools import combinations

import numpy as np
import pytest
import yaml
from PIL import Image

from begat.planning.plan import Plan
from begat.stages import STAGES
from begat.storage.artifacts import Artifact, stored_attributes
from begat.storage.manifests import file_digests
from engines.workspace import ENVIRONMENT, Workspace

pytestmark = pytest.mark.engine
BELOW_AGGREGATED = {"aggregated/all", "metrics/all", "report"}


def outputs(workspace):
    """Digest of every file of every artifact."""
    return {
        str(path.relative_to(workspace.root)): file_digests(path)
        for path in (workspace.root / "results").glob("*/*.zarr")
    }


def test_after_snakemake_and_dvc_commit_both_engines_find_nothing_to_do(project):
    project.assert_all_current()
    assert "Nothing to do" in project.snakemake()


def test_every_job_that_computes_with_models_says_in_its_log_how_far_it_is(finished):
    """Its bar counts up to what it said it would count, no more and no less."""
    silent = set(STAGES) - {
        *("models", "queries", "factors", "unlearned", "measurements", "counterfactuals"),
        *("scores_influence", "scores_trak", "scores_tracin", "scores_features"),
    }
    for job in Plan(finished.root).jobs():
        if job.stage not in silent:
            log = finished.root / "logs" / job.path.relative_to("results").with_suffix(".log")
            said = log.read_text()
            share, done, whole = re.findall(r"(\d+)%\|.*?(\d+)/(\d+)", said)[-1]
            assert (share, done) == ("100", whole), log


def test_dvc_holds_the_hashes_of_every_artifact(project):
    locked = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    assert list(locked) == list(STAGES)
    for stage in locked.values():
        for out in stage["outs"]:
            assert out["md5"]
            assert (project.root / out["path"]).exists()
    tracked = [out["path"] for stage in locked.values() for out in stage["outs"]]
    for path in outputs(project):
        assert any(path.startswith(out) for out in tracked)


def test_a_fresh_experiment_by_dvc_with_another_parameter_file_leaves_nothing_to_do(
    finished, tmp_path
):
    workspace = Workspace.fresh(tmp_path / "project", params_file="params.yaml")
    workspace.dvc("exp", "run", "-S", "params_file=params/tiny.yaml")
    workspace.assert_all_current()
    assert outputs(workspace) == outputs(finished), "equal runs are byte-identical"


def test_a_clone_that_pulls_from_a_remote_has_nothing_to_compute(project, clone):
    clone.assert_all_current()
    assert outputs(clone) == outputs(project)
    assert clone.records() == project.records()
    clone.begat("verify")


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_a_clone_that_pulled_owns_what_it_pulled(clone, engine):
    clone.change("splits", "members", 16)
    pack = clone.root / "results" / "models" / "member-0.zarr"
    before = Artifact(pack, "models")["weights"]
    if engine == "dvc":
        clone.dvc("repro", "models")
    else:
        clone.snakemake("models")
    np.testing.assert_array_equal(Artifact(pack, "models")["weights"][:14], before)
    key = Plan(clone.root).job("models", "member-0").key
    record = json.loads((clone.root / "results" / "records" / f"{key}.json").read_text())
    assert record["pack"] == ["member-14-0", "member-15-0"]


def test_no_mixture_is_left_where_one_model_of_a_pack_is_lost(project):
    plan, pack = Plan(project.root), project.root / "results" / "models" / "member-0.zarr"
    before = stored_attributes(pack)["digests"]
    shutil.rmtree(project.root / ".begat" / "store" / plan.model_keys["member-3-0"])
    shutil.rmtree(pack)
    project.snakemake()
    after = stored_attributes(pack)["digests"]
    assert {n for n in before if before[n] != after[n]} <= {"member-3-0"}
    for path in (project.root / "results").glob("*/*.zarr"):
        read = stored_attributes(path)["read"]
        for model in read.keys() & {f"models/{name}" for name in after}:
            assert read[model] == after[model.removeprefix("models/")]
    project.begat("verify")
    assert project.planned() == set()


def test_a_parameter_recomputes_its_stages_and_changed_back_nothing(project):
    before = outputs(project)
    project.change("metrics", "resamples", 30)
    assert project.planned() == {"metrics/all", "report"}
    said = project.dvc("repro")
    assert re.findall(r"Running stage '(\w+)'", said) == ["metrics", "report"]
    project.assert_all_current()
    project.change("metrics", "resamples", 20)
    assert project.planned() == {"metrics/all", "report"}
    assert "2 of these results will be taken from the store." in project.snakemake("-n")
    made = project.records()
    project.dvc("repro")
    assert project.records() == made, "all is taken from the store"
    project.assert_all_current()
    assert outputs(project) == before


def test_plain_snakemake_after_a_restore_by_dvc_is_not_deceived(project):
    project.change("metrics", "resamples", 30)
    project.dvc("repro")
    project.change("metrics", "resamples", 20)
    project.dvc("repro")
    project.change("metrics", "resamples", 30)
    assert project.planned() == {"metrics/all", "report"}
    project.snakemake()
    stored = stored_attributes(project.root / "results" / "metrics" / "all.zarr")
    assert stored["made_from"]["parameters"]["metrics.resamples"] == 30
    project.snakemake("verify")
    project.dvc("commit", "-f")
    project.assert_all_current()


@pytest.mark.parametrize(
    ("file", "planned"),
    [
        ("src/begat/evaluation/group_scores.py", {"scores/joined", *BELOW_AGGREGATED}),
        ("src/begat/evaluation/ranking_metrics.py", {"metrics/all", "report"}),
        (
            "src/begat/influence/trak_kernels.py",
            {"scores/trak", "scores/joined", *BELOW_AGGREGATED},
        ),
        ("src/begat/unlearning/leave_one_out.py", {"scores/logo", *BELOW_AGGREGATED}),
        ("src/begat/reporting/page.py", {"report"}),
    ],
)
def test_a_line_of_code_recomputes_its_stage_and_those_below(project, file, planned):
    project.append(file, "CHANGED = 1")
    assert project.planned() == planned
    said = project.dvc("status")
    assert file in said
    assert file not in project.dvc("status", "images", "splits", "models", "queries")


def test_a_comment_recomputes_nothing_though_dvc_calls_the_stage(project):
    before, made = outputs(project), project.records()
    project.append("src/begat/influence/trak_kernels.py", "# a new line")
    assert project.planned() == set()
    assert "src/begat/influence/trak_kernels.py" in project.dvc("status", "scores_trak")
    project.dvc("repro")
    assert outputs(project) == before
    assert project.records() == made
    project.assert_all_current()


def test_touching_files_changes_nothing(project):
    for path in [*(project.root / "src").rglob("*.py"), *(project.root / "results").rglob("*")]:
        path.touch()
    project.assert_all_current()


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_two_more_members_train_two_more_models(project, engine):
    before = project.store()
    project.change("splits", "members", 16)
    if engine == "dvc":
        project.dvc("repro")
    else:
        project.snakemake()
        project.dvc("commit", "-f")
    plan = Plan(project.root)
    names = {plan.model_keys[m.name]: m.name for m in plan.spec.models}
    trained = {names[key] for key in project.store() - before if key in names}
    assert trained == {"member-14-0", "member-15-0"}
    pack = Artifact(project.root / "results" / "models" / "member-0.zarr", "models")
    assert pack["weights"].shape[0] == 16
    project.assert_all_current()


def test_killed_in_the_middle_of_training_leaves_nothing_half_and_resumes_to_the_same_bits(
    project, tmp_path
):
    project.change("models", "max_train_steps", 400)
    project.change("compute", "checkpoint_seconds", 1)
    whole = project.copy(tmp_path / "whole")
    target = "results/models/full-0.zarr"
    command = ["snakemake", "--cores", "2", target]
    # A session of its own, so that the jobs die with their master.
    run = subprocess.Popen(
        command,
        cwd=project.root,
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = project.root / ".begat" / "checkpoints"
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("*.zarr")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not (project.root / target).exists()
    saved = [stored_attributes(path)["step"] for path in checkpoints.glob("*.zarr")]
    assert 0 < saved[0] < 400
    project.snakemake(target)
    steps = re.findall(r"(\d+)/400", (project.root / "logs/models/full-0.log").read_text())
    assert int(steps[0]) == 0
    assert int(steps[1]) > saved[0], "it went on where it was"
    assert not list(checkpoints.glob("*.zarr"))
    whole.snakemake(target)
    assert file_digests(project.root / target) == file_digests(whole.root / target)


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_links_into_dvcs_cache_do_not_break_writing(project, link):
    before = outputs(project)
    project.dvc("config", "cache.type", link)
    project.dvc("checkout", "--relink")
    project.assert_all_current()
    project.change("metrics", "resamples", 30)
    project.snakemake()
    project.dvc("commit", "-f")
    project.assert_all_current()
    project.change("metrics", "resamples", 20)
    project.run("git", "checkout", "-q", "dvc.lock")
    project.dvc("checkout", "--force")
    assert outputs(project) == before


def test_a_second_run_in_one_folder_is_refused_in_one_line(project):
    project.change("measurements", "draws", 8)
    run = subprocess.Popen(
        ["snakemake", "--cores", "2"],
        cwd=project.root,
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lock = project.root / ".begat" / "lock"
    known = lock.read_text()
    while lock.read_text() in ("", known):
        time.sleep(0.1)
    said = project.snakemake(fails=True)
    lines = [line for line in said.splitlines() if "Using workflow specific profile" not in line]
    assert len(lines) == 1
    assert re.match(rf"begat: .*another run \(process {run.pid}\) is at work", lines[0])
    assert run.wait(timeout=600) == 0
    assert project.planned() == set()


def test_whatever_was_damaged_is_made_anew_without_being_told_to(project):
    before = outputs(project)
    chunk = project.root / "results/measurements/subset-0.zarr/loss/c.0.0.0"
    os.truncate(chunk, chunk.stat().st_size // 2)
    project.replace("results/metrics/all.zarr/zarr.json", '"value": 0.', '"value": 9.')
    (project.root / "results/factors/full-0-0.zarr/zarr.json").write_bytes(b"\xff")
    said = project.begat("status", "--strict", fails=True)
    assert "damaged: results/factors/full-0-0.zarr (zarr.json)" in said
    project.snakemake("verify")
    project.begat("verify")
    assert outputs(project) == before


def test_all_damage_is_named_and_repaired_in_one_pass(project):
    before = outputs(project)
    for stage in ("images", "splits", "metrics"):
        shutil.rmtree(next((project.root / "results" / stage / "all.zarr").glob("*/")))
    said = project.begat("verify")
    assert said.count("damaged, restored from the store") == 3
    assert outputs(project) == before
    project.assert_all_current()


def test_a_parameter_on_the_command_line_is_refused_not_ignored(tmp_path):
    workspace = Workspace.fresh(tmp_path / "project")
    said = workspace.snakemake("-n", "--config", "metrics={'resamples': 30}", fails=True)
    assert "begat: --config: expected params_file=FILE alone, found metrics;" in said
    assert "Traceback" not in said


def test_results_that_cannot_be_written_stop_the_run_in_one_line(tmp_path):
    workspace = Workspace.fresh(tmp_path / "project")
    (workspace.root / "results").write_text("in the way")
    said = workspace.snakemake(fails=True)
    assert re.search(r"^begat: .*results.*: could not be written \(.*\)$", said, re.MULTILINE)
    assert said.count("\n") <= 2


def test_an_impossible_parameter_stops_both_engines_in_one_line_and_changes_nothing(project):
    before = outputs(project)
    project.change("models", "max_train_steps", -5)
    for said in (project.snakemake(fails=True), project.begat("status", fails=True)):
        assert (
            "begat: params/tiny.yaml: models.max_train_steps: expected at least 1, found -5" in said
        )
        assert "Traceback" not in said
    said = project.dvc("repro", fails=True)
    assert "models.max_train_steps: expected at least 1, found -5" in said
    project.change("models", "max_train_steps", 10)
    project.dvc("checkout", "--force")
    assert outputs(project) == before


def test_a_damaged_image_stops_the_run_in_one_line_and_writes_nothing(tmp_path):
    workspace = Workspace.fresh(tmp_path / "project")
    for i in range(8):
        path = workspace.root / "data" / "images" / f"g{i % 4}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:40])
    workspace.change("images", "source", "folder")
    workspace.change("splits", "group_members", 8)
    said = workspace.snakemake("images", fails=True)
    started, *lines = (line for line in said.splitlines() if "workflow specific" not in line)
    assert started.split() == ["start", "images/all"]
    assert len(lines) == 1
    assert re.match(r"images: begat: .*g3/7.png: (damaged|expected)", lines[0])
    assert not list((workspace.root / "results").glob("images/*"))


def test_a_run_on_own_images_with_overlapping_groups_and_own_queries_goes_through(tmp_path):
    workspace = Workspace.fresh(tmp_path / "project")
    generator = np.random.default_rng(0)
    (workspace.root / "data" / "queries").mkdir()
    rows = ["path,artist,style"]
    for i in range(24):
        pixels = generator.integers(0, 256, (10, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(workspace.root / "data" / f"{i}.png")
        artist, style = "ABCDEF"[i % 6] if i < 23 else "", "s" if i in (3, 7, 23) else ""
        rows.append(f"{i}.png,{artist},{style}")
        if i < 3:
            Image.fromarray(pixels[:8]).save(workspace.root / "data" / "queries" / f"{i}.png")
    (workspace.root / "data" / "list.csv").write_text("\n".join(rows) + "\n")
    for section, key, value in (
        *(("images", k, v) for k, v in (("source", "folder"), ("path", "data/list.csv"))),
        *(("images", k, v) for k, v in (("channels", 3), ("resize", "crop"))),
        *(("splits", k, v) for k, v in (("group_members", 12), ("subset_fraction", 0.7))),
        ("queries", "source", "folder"),
    ):
        workspace.change(section, key, value)
    workspace.snakemake()
    assert workspace.planned() == set()
    images = Artifact(workspace.root / "results/images/all.zarr", "images")
    assert images["member_of"].sum() == 26
    queries = Artifact(workspace.root / "results/queries/0.zarr", "queries")
    assert queries["pixels"].shape == (3, 3, 8, 8)
    assert "artist: A" in workspace.begat("top", "--query", "2", "--groups")


def test_a_pipeline_that_somebody_brings_is_looked_into_without_training(project):
    project.begat("export", "full-0-0", "data/pipeline")
    project.change("models", "pipeline", "data/pipeline")
    for kind in ("members", "group_members", "logo", "subsets", "group_subsets"):
        project.change("splits", kind, 0)
    said = project.snakemake(fails=True)
    assert "scores_tracin.models: expected 0 beside models.pipeline" in said
    project.change("scores_tracin", "models", 0)
    before = Artifact(project.root / "results/scores/influence.zarr", "scores_influence")["score"]
    project.snakemake()
    after = Artifact(project.root / "results/scores/influence.zarr", "scores_influence")["score"]
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-6 * np.abs(before).max())
    assert "ekfac" in project.begat("top", "--query", "1")
    assert "No model was retrained" in (project.root / "results/report/index.html").read_text()
    project.dvc("commit", "-f")
    project.assert_all_current()


def test_a_newton_step_takes_the_place_of_unlearning_or_begins_it(project):
    def forgot():
        artifact = Artifact(project.root / "results/unlearned/0.zarr", "unlearned")
        return artifact["weights"], artifact["retain_loss"].shape[1]

    found = [forgot()]
    for key, value in (("init", "newton"), ("operator", "{name: newton}")):
        project.change("unlearned", key, value)
        project.snakemake("unlearned")
        found.append(forgot())
    weights, steps = zip(*found, strict=True)
    for one, other in combinations(weights, 2):
        assert not np.allclose(one, other, rtol=1e-3, atol=1e-4)
    assert steps == (steps[0], steps[0], 0)
    project.snakemake()
    project.begat("status", "--strict")


def test_the_commands_of_both_engines_say_sensible_things(project):
    assert "metrics" in project.snakemake("--rulegraph", "mermaid-js")
    assert "digraph" in project.snakemake("--rulegraph")
    assert "measurements" in project.dvc("dag", "--mermaid")
    said = project.dvc("metrics", "show")
    assert {"group_lds.ensemble_matched", "lds.das", "logo_top1.ekfac"} <= set(said.split())
    assert "No changes" not in project.dvc("metrics", "diff", "--all")
    project.change("report", "top", 4)
    assert re.search(r"report.top\s+3\s+4", project.dvc("params", "diff"))
    assert project.planned() == {"report"}
    assert project.snakemake("report").count("\n") <= 3
    assert "Nothing to do" in project.snakemake("metrics")


def test_begat_answers(project):
    assert "ensemble_matched" in project.begat("top", "--query", "3", "-n", "2")
    assert "(" in project.begat("top", "--query", "0", "--method", "pixel_rbf")
    assert project.begat("show", "--path").strip().endswith("results/report/index.html")
    assert "stale" not in project.begat("status", "--strict")
    assert "--query 9: expected a number from 0 to 3" in project.begat(
        "top", "--query", "9", fails=True
    )
    assert "--method x: expected one of" in project.begat(
        "top", "--query", "0", "--method", "x", fails=True
    )
    assert "full-0-0" in project.begat("status", "--models")
    project.begat("export", "full-0-0", "pipeline")
    assert (project.root / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert "exists already" in project.begat("export", "full-0-0", "pipeline", fails=True)
    assert "Nothing to do" in project.begat("run")
    project.change("metrics", "resamples", 30)
    said = project.begat("status", "--strict", fails=True)
    assert "metrics.resamples: 20 -> 30" in said
    assert "are not current; run `begat run`" in said
    project.snakemake()
    project.change("metrics", "resamples", 20)
    assert re.match(r"2 results would be removed", project.begat("clean", "--dry-run"))
    project.begat("clean")
    assert re.match(r"0 results would be removed", project.begat("clean", "--dry-run"))


def test_a_challenge_trains_on_fresh_subsets_and_leaves_the_run_as_it_was(project):
    options = ("--subsets", "4", "--method", "ekfac", "--json")
    needs = json.loads(project.begat("challenge", "--plan", "--json"))
    assert needs["committed_subsets"] == 4
    before = project.records()
    project.begat("challenge", "--seed", "7", *options)
    place = project.root / "results" / "challenges" / "groups-7.json"
    outcome = json.loads(place.read_text())
    assert np.shape(outcome["losses"]) == (4, 2, 4)
    assert len(set(outcome["fresh_subsets"])) == 4
    assert outcome["methods"]["ekfac"]["verdict"] == "undecided"  # the run is far too small
    assert project.records() == before
    assert project.planned() == set()

    project.begat("challenge", "--seed", "7", *options)  # nothing is left to train
    assert json.loads(place.read_text()) == outcome
    project.begat("challenge", "--seed", "8", *options)
    other = json.loads(place.with_name("groups-8.json").read_text())
    assert other["fresh_subsets"] != outcome["fresh_subsets"]
    assert other["earlier"] == ["groups-7"]

    place.write_text(place.read_text().replace('"seeds_per_subset": 2', '"seeds_per_subset": 3'))
    said = project.begat("challenge", "--seed", "7", *options, fails=True)
    assert "groups-7.json: damaged; use another seed" in said
    project.change("metrics", "resamples", 30)
    said = project.begat("challenge", "--seed", "9", *options, fails=True)
    assert "results/metrics/all.zarr: metrics.resamples: 20 -> 30; run `begat run`" in said


def test_the_examples_for_notebooks_run_one_after_another(finished, tmp_path):
    page = (finished.root / "docs" / "python.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "examples.py").write_text("\n".join(examples))
    said = finished.run("python", "-W", "error", str(tmp_path / "examples.py"))
    assert "torch.Size([4, 32])" in said
    assert "10 of 10" in said


def test_every_command_shows_an_example(project):
    for command in ("run", "top", "show", "status", "verify", "export", "clean", "challenge"):
        assert f"Example: begat {command}" in project.begat(command, "--help")
    assert "Which training images begat this one?" in project.begat("--help")


def test_an_answer_before_any_run_is_one_line(tmp_path):
    workspace = Workspace.fresh(tmp_path / "project")
    said = workspace.begat("show", fails=True)
    assert said == "begat: results/report/index.html: no report yet; run `begat run`\n"
    said = workspace.begat("top", "--query", "0", fails=True)
    assert said.startswith("begat: ")
    assert said.count("\n") == 1
