"""Damage that does harm is noticed, whatever kind of file or of damage it is."""

import random
from collections import Counter

import pytest
from faults import flips
from faults.__main__ import CAMPAIGNS
from faults.scene import file_digests
from scenes import TRACEBACK, Fake


@pytest.fixture
def scene(tmp_path):
    return Fake(tmp_path)


@pytest.fixture
def verify(monkeypatch):
    """Lets ``begat verify`` end in a given way, after whatever it is to do with a project."""

    def use(well, said="", broken="", effect=lambda root: None):
        def verified(root):
            effect(root)
            return well, said, broken

        monkeypatch.setattr(flips, "verified", verified)

    return use


def chunk(scene):
    return next((scene.project / "results" / "scores" / "pixel.zarr").rglob("c.*"))


def sound(scene):
    return file_digests(scene.finished, "results")


@pytest.mark.parametrize("how", flips.DAMAGES)
@pytest.mark.parametrize("linked", [True, False])
def test_every_kind_of_damage_changes_a_file_and_its_links_only_where_it_should(
    tmp_path, how, linked
):
    path, link = tmp_path / "a", tmp_path / "b"
    path.write_bytes(whole := bytes(range(1, 200)))
    link.hardlink_to(path)
    dice = random.Random(1)
    while not flips.damage(path, how, dice, linked):
        assert path.read_bytes() == whole
    assert path.exists() == (how != "delete")
    if how != "delete":
        assert path.read_bytes() != whole
    assert (link.read_bytes() == whole) == (how == "delete" or not linked)


def test_swapped_artifacts_have_changed_places(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_text("1")
    other.write_text("2")
    flips.swap(one, other)
    assert (one.read_text(), other.read_text()) == ("2", "1")


def test_the_short_campaign_has_every_kind_of_file_and_of_damage(scene, monkeypatch):
    for kind in flips.KINDS:
        name = flips.KINDS[kind].replace("**/", "").replace("?*", "x").replace("*", "x")
        path = scene.finished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(range(1, 200)))
    monkeypatch.setattr(flips, "harm", lambda root, sound: "")
    done = list(flips.flips(scene, random.Random(0), CAMPAIGNS["flips"][2]))
    kinds, hows = [*flips.KINDS, "swap"], Counter(t.what.split(":")[0] for t in done)
    assert {t.campaign for t in done} == {*(f"damage: {k}" for k in kinds), "damage, then runs"}
    assert hows.keys() >= flips.DAMAGES.keys()


def test_a_kind_of_file_that_no_longer_exists_is_an_error(scene, monkeypatch):
    monkeypatch.setattr(flips, "KINDS", {"chunk": "results/nowhere/*"})
    with pytest.raises(LookupError, match="no file is of the kind chunk"):
        flips.mistreat(scene, random.Random(0), 0)


def test_damage_that_verify_names_and_repairs_or_fails_at_is_no_harm(scene, verify):
    path = chunk(scene)
    path.write_bytes(b"")
    verify(well=False, said="results/scores/pixel.zarr: damaged")
    assert flips.harm(scene.project, sound(scene)) == ""
    whole = (scene.finished / path.relative_to(scene.project)).read_bytes()
    named = "results/scores/pixel.zarr: put back"
    verify(well=True, said=named, effect=lambda root: path.write_bytes(whole))
    assert flips.harm(scene.project, sound(scene)) == ""


@pytest.mark.parametrize("name", ["results/records/k.json", "results/scores/pixel.zarr"])
def test_damage_that_verify_does_not_name_or_leaves_is_harm(scene, verify, name):
    damaged = chunk(scene) if name.endswith("zarr") else scene.project / name
    damaged.write_bytes(b"")
    verify(well=False, said="results/other.zarr: damaged")
    wrong = f"{name} is damaged, and begat verify "
    assert flips.harm(scene.project, sound(scene)) == wrong + "does not name it"
    verify(well=True, said=name)
    assert flips.harm(scene.project, sound(scene)) == wrong + "ends well"


def test_tracebacks_of_readers_and_of_verify_are_harm(scene, verify, monkeypatch):
    verify(well=False, broken=TRACEBACK)
    assert "begat verify: x" in flips.harm(scene.project, sound(scene))
    chunk(scene).write_bytes(b"")
    assert flips.read(scene.project / "results/scores/pixel.zarr") == ""
    monkeypatch.setattr(flips, "Artifact", lambda path, stage: {}["x"])
    assert "reading results/scores/pixel.zarr: Traceback" in flips.harm(scene.project, sound(scene))


def test_a_traceback_of_verify_itself_is_told_from_a_refusal(tmp_path, monkeypatch):
    assert flips.verified(tmp_path)[::2] == (False, "")  # no parameters there
    monkeypatch.setattr("begat.cli.planned", lambda use: {}["x"])
    assert "KeyError" in flips.verified(tmp_path)[2]


def test_damage_that_does_not_heal_is_noticed(scene, monkeypatch):
    monkeypatch.setattr(flips, "RUNS", 1)
    (trial,) = flips.flips(scene, random.Random(0), 1)
    assert trial.campaign == "damage, then runs"
    assert "results/splits/all.zarr: not what its manifest says" in trial.wrong
    assert scene.calls == ["snakemake", "begat", "snakemake"]
