"""Audits: choices before and after retraining, images against their files, chosen artifacts."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image
from plans import copied, planned
from put import put, put_images_and_queries
from rich.console import Console

from begat.auditing.audit import ancestry, artifact_job, audit
from begat.auditing.choices import choices
from begat.auditing.pixels import IMAGES, image_faults, pixel_digest
from begat.auditing.printing import print_audit
from begat.auditing.recompute import Recomputed
from begat.errors import BegatError
from begat.execution.history import History
from begat.execution.jobs import Job
from begat.storage.artifacts import digest_bytes, string_array

JOB = Job("scores_influence", "all", {"damping": 0.01}, ())
TRUTH = {"event": "made", "stage": "measurements", "name": "logo-0"}


def log_of(*events):
    """A history of such lines."""
    return History([{**event, "line": n} for n, event in enumerate(events)], {}, {})


def plan_of(damping, key=JOB.key):
    """A line that says what was planned."""
    parameters = {"scores_influence.damping": damping, "report.top": damping}
    return {"event": "planned", "parameters": parameters, "keys": {"scores_influence/all": key}}


def test_choices_that_were_planned_before_any_retrained_model_was_measured_are_early():
    made = {"event": "made", "stage": "measurements", "name": "full-0"}
    found = choices(log_of(plan_of(0.1), made, TRUTH), JOB, 1, {"scores_influence"})
    assert found == {"truth": 2, "planned": 0, "scored": 1, "late": []}


def test_a_parameter_that_was_changed_after_the_truth_was_measured_is_named():
    log = log_of(plan_of(0.1, "old"), TRUTH, plan_of(0.01), TRUTH)
    found = choices(log, JOB, None, {"scores_influence"})
    assert found["truth"] == 1
    assert found["planned"] == 2
    late = {"parameter": "scores_influence.damping", "value": 0.01, "before": 0.1, "line": 2}
    assert found["late"] == [late], "report.top is no choice behind a score"


def test_a_value_that_was_tried_before_and_taken_again_after_the_truth_is_late():
    log = log_of(plan_of(0.1), plan_of(0.01, "old"), TRUTH, plan_of(0.1))
    late = choices(log, JOB, None, {"scores_influence"})["late"]
    assert [entry["line"] for entry in late] == [3]


def test_without_retraining_nothing_is_late():
    found = choices(log_of(plan_of(0.1, "old"), plan_of(0.01)), JOB, None, {"scores_influence"})
    assert (found["truth"], found["planned"], found["late"]) == (None, 1, [])


@pytest.fixture
def files(tmp_path):
    """A run of eight images of two groups, and their files."""
    root, dice = copied(tmp_path), np.random.default_rng(0)
    for n in range(8):
        path = root / "data" / "images" / f"g{n % 2}" / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dice.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    plan = planned(root, images__source="folder", images__path="data/images", images__max_images=0)
    pixels = np.stack([np.asarray(Image.open(path))[None] for path in plan.spec.dataset.files])
    number, member_of = np.arange(8, dtype=np.int32), np.array(plan.spec.dataset.membership).T
    arrays = dict(
        pixels=pixels,
        sha256=digest_bytes([pixel_digest(image).hex() for image in pixels]),
        file_sha256=digest_bytes(plan.spec.dataset.digests),
        name=string_array(plan.spec.dataset.names),
        member_of=np.arange(2)[:, None] == member_of,
        **dict.fromkeys(("copy_of", "cluster", "label"), number),
    )
    put(plan, "images", arrays)
    return plan


def test_images_that_are_what_they_were_have_no_fault(files):
    assert list(image_faults(files)) == []
    assert list(image_faults(files, [3])) == []


def test_a_file_with_other_bytes_is_named_though_its_size_and_times_are_the_same(files):
    path = files.spec.dataset.files[5]
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (fault,) = image_faults(files)
    assert fault == f"{path}: not the bytes that the run was made from"
    assert list(image_faults(files, [4])) == [], "another image"


def test_a_file_that_went_away_or_came_is_named(files):
    files.spec.dataset.files[0].unlink()
    again = planned(files.root, images__source="folder", images__path="data/images")
    assert list(image_faults(again)) == ["g0/0.png: a training image that is no longer there"]
    Image.new("L", (8, 8)).save(files.root / "data/images/g1/new.png")
    again = planned(files.root, images__source="folder", images__path="data/images")
    assert "g1/new.png: no image of the run" in list(image_faults(again))


def test_the_digest_of_pixels_is_that_of_shape_and_bytes():
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert pixel_digest(image) == hashlib.sha256(b"(3, 2, 2)" + bytes(range(12))).digest()


def test_a_damaged_images_artifact_is_one_fault(files):
    (files.root / IMAGES / "pixels" / "c.0.0.0.0").write_bytes(b"")
    (fault,) = image_faults(files)
    assert "pixels/c.0.0.0.0: damaged" in fault


def test_the_ancestry_of_an_artifact_has_all_it_reads_before_it(files):
    jobs = ancestry(files, files.job("scores_influence", "all"))
    stages = [job.stage for job in jobs]
    assert stages[0] == "images"
    assert stages[-1] == "scores_influence"
    assert {"splits", "models", "queries", "factors"} <= {*stages}
    assert not {"report", "metrics", "unlearned", "scores_trak"} & {*stages}


def test_an_artifact_is_named_by_its_path(files):
    path = "results/scores/influence.zarr"
    assert artifact_job(files, path).stage == "scores_influence"
    assert artifact_job(files, str(files.root / path)).stage == "scores_influence"
    with pytest.raises(BegatError, match=r"scores/x\.zarr: expected an artifact of this run"):
        artifact_job(files, "results/scores/x.zarr")


def test_a_run_without_records_and_history_does_not_hold_and_says_why(tmp_path):
    plan = planned(copied(tmp_path))
    put_images_and_queries(plan)
    result = audit(plan, artifact="results/images/all.zarr")
    assert not result.holds
    console = Console(record=True, width=200, quiet=True)
    print_audit(console, result)
    said = " ".join(result.faults)
    assert "the record of results/images/all.zarr" in said
    assert "the history has no line for its content" in said
    assert result.summary()["artifacts"][0]["reads"] == []


@pytest.mark.parametrize(
    ("again", "tolerance", "models", "holds"),
    [
        (1.0, 0.0, None, True),
        (1.0 + 1e-9, 0.0, None, False),
        (1.0 + 1e-9, 1e-3, None, True),
        (1.0, 1e-3, 0.9, False),
        (1.0, 1e-3, 0.01, True),
    ],
)
def test_a_score_that_was_made_again_holds_within_its_tolerance(again, tolerance, models, holds):
    number = Recomputed(1.0, again, 1.0, tolerance, [], [], models)
    assert number.holds == holds
    assert number.summary()["difference"] == again - 1.0
