"""An artifact is current if its key is the one expected and it was made from what lies there."""

import numpy as np
import pytest
from plans import copied, planned

from begat.execution.contents import PARTS, Contents, part_digest
from begat.planning.freshness import why
from begat.planning.tidy import damaged, repair, tidy
from begat.storage.artifacts import Artifact, write
from begat.storage.cache import Store
from begat.storage.manifests import damage


@pytest.fixture
def plan(tmp_path):
    return planned(copied(tmp_path))


def put(plan, stage, name="all", level=0):
    """An artifact of random content in its place, as its job would write it."""
    generator, job = np.random.default_rng(level), plan.job(stage, name)
    contents, parts = Contents(plan.root), [m.name for m in job.models]
    rows = {"weights": generator.random((len(parts), 3))}
    arrays = {
        "images": {
            **{a: np.full(shape, level) for a, shape in (("pixels", (2, 1, 8, 8)),)},
            "member_of": np.zeros((1, 2), bool),
            "name": np.array(["a", "b"]),
            **{a: np.zeros((2, 4), np.uint8) for a in ("sha256", "file_sha256")},
            **{a: np.zeros(2, int) for a in ("copy_of", "cluster", "label")},
        },
        "queries": {
            "pixels": generator.random((2, 1, 8, 8)),
            "noise": generator.random((2, 1, 1, 8, 8)),
            "label": np.zeros(2, int),
            **{a: np.array(["a", "b"]) for a in ("name", "group", "condition")},
            "file_sha256": np.zeros((2, 32), np.uint8),
        },
        "splits": {"trains_on": np.zeros((2, 2), bool)},
        "models": {"weights": rows["weights"], "ema_weights": rows["weights"]},
        "scores_pixel": {"score": generator.random((1, 2, 2))},
    }[stage]
    if stage == "images":
        arrays["pixels"] = arrays["pixels"].astype(np.uint8)
    models = plan.spec.models if stage == "splits" else job.models
    rows = dict(zip(parts, rows["weights"], strict=True))
    digests = {m.name: part_digest({"row": rows.get(m.name, np.array(level))}) for m in models}
    more = {"models": parts, "snapshots_of": [], "config": {}} if stage == "models" else {}
    attributes = {"key": job.key, "read": contents.read_by(job), PARTS: digests, **more}
    attributes["made_from"] = dict(job.made_from)
    write(plan.root / job.path, stage, attributes, [arrays])
    return job


@pytest.fixture
def scored(plan):
    put(plan, "images")
    put(plan, "queries", "0")
    return put(plan, "scores_pixel")


def test_what_was_made_from_other_bits_under_the_same_keys_is_not_current(plan, scored):
    assert Contents(plan.root).current(scored)
    put(plan, "queries", "0", level=1)
    assert not Contents(plan.root).current(scored)
    assert why(plan, scored, Contents(plan.root)) == "input made anew: queries/0"
    put(plan, "queries", "0")
    assert Contents(plan.root).current(scored), "the same bits again"


def test_nor_is_what_was_made_from_something_that_is_lost_or_damaged(plan, scored):
    (plan.root / plan.job("queries", "0").path / "manifest.json").write_bytes(b"\xff")
    assert why(plan, scored, Contents(plan.root)) == "input missing: queries/0"


def test_edited_attributes_are_damage_whatever_they_say(plan, scored):
    place = plan.root / scored.path / "zarr.json"
    place.write_text(place.read_text().replace('"schema"', '"Schema"'))
    assert why(plan, scored, Contents(plan.root)) == "damaged"


def test_of_a_pack_only_the_models_matter_that_are_read(plan):
    put(plan, "images")
    put(plan, "splits")
    full = plan.spec.of_kind("full")
    put(plan, "models", full[0].pack)
    before = Contents(plan.root).read_by(plan.job("factors", full[0].name))
    assert set(before) == {
        "images/all",
        f"splits/{full[0].name}",
        *(f"models/{full[0].name}",),
    }
    assert None not in before.values()
    put(plan, "models", full[0].pack, level=1)
    after = Contents(plan.root).read_by(plan.job("factors", full[0].name))
    assert {n for n in before if before[n] != after[n]} == {f"models/{full[0].name}"}


def test_the_store_gives_back_only_what_was_made_from_what_lies_here(plan, scored):
    store, path = Store(plan.root), plan.root / scored.path
    store.keep(scored.key, path)
    put(plan, "images", level=1)
    assert not store.restore(scored.key, path, Contents(plan.root).read_by(scored))
    put(plan, "images")
    assert store.restore(scored.key, path, Contents(plan.root).read_by(scored))


def test_what_came_from_elsewhere_is_taken_into_the_store_models_one_by_one(plan):
    put(plan, "images")
    put(plan, "splits")
    job = plan.jobs("models")[0]
    put(plan, "models", job.name)
    tidy(plan)
    store, pack = Store(plan.root), Artifact(plan.root / job.path, "models")
    assert store.holds(plan.job("images", "all").key)
    for i, model in enumerate(job.models):
        key, read = plan.model_keys[model.name], Contents(plan.root).read_for((model,))
        assert store.has(key, read)
        alone = Artifact(store.path(key), "models")
        np.testing.assert_array_equal(alone["weights"], pack["weights"][i : i + 1])


def test_what_nobody_asks_for_any_more_leaves_the_results_but_not_the_store(plan, scored):
    old = plan.job("queries", "0")
    (plan.root / old.path).rename((plan.root / old.path).with_name("9.zarr"))
    tidy(plan)
    assert not (plan.root / old.path).with_name("9.zarr").exists()
    assert Store(plan.root).holds(old.key)
    assert (plan.root / scored.path).exists()


def test_damaged_results_are_never_taken_into_the_store(plan, scored):
    (plan.root / scored.path / "score" / "c.0.0.0").write_bytes(b"")
    tidy(plan)
    assert not Store(plan.root).holds(scored.key)


def test_all_damage_is_found_at_once_and_repaired_where_the_store_can(plan, scored):
    images = plan.job("images", "all")
    Store(plan.root).keep(images.key, plan.root / images.path)
    chunk = plan.root / images.path / "pixels" / "c.0.0.0.0"
    chunk.unlink()  # the store's copy is the same file by another name
    (plan.root / scored.path / "score" / "c.0.0.0").write_bytes(b"")
    found = damaged(plan)
    assert [(job.stage, files) for job, files in found] == [
        ("images", ["pixels/c.0.0.0.0"]),
        ("scores_pixel", ["score/c.0.0.0"]),
    ]
    assert repair(plan, images)
    assert not damage(plan.root / images.path)
    assert not repair(plan, scored)
    assert not (plan.root / scored.path).exists()
    assert damaged(plan) == []
