"""A record says how a result was made; whoever changes a byte of it is noticed."""

import json
import random
import re

import numpy as np
import pytest
from plans import copied, planned
from typer.testing import CliRunner

from begat import cli
from begat.errors import BegatError
from begat.execution.contents import Contents
from begat.execution.context import JobContext
from begat.execution.records import COPIES, forget_copies, provenance, record, record_path, recorded
from begat.planning.tidy import damaged, tidy, unrecorded
from begat.storage.digests import digest
from begat.storage.manifests import Verified, content_digest

TINY = "params/tiny.yaml"
DAMAGED = [b"", b"{", b"[]", b"\xff", b"3", b"{}", b"[" * 100_000]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Contents, "read_by", lambda self, job: {})  # as if no result read another
    return planned(copied(tmp_path))


@pytest.fixture
def job(plan):
    """A job that is done, its result in its place and in the store."""
    job = plan.job("splits", "all")
    JobContext(plan, job).materialise(lambda context: [{"trains_on": np.eye(2, dtype=bool)}])
    return job


@pytest.fixture
def path(plan, job):
    return plan.root / record_path(job.key)


def verified():
    """The output of ``begat verify`` where only one of many results is there."""
    done = CliRunner().invoke(
        cli.commands, ["verify", "--params-file", TINY], env={"COLUMNS": "500"}
    )
    assert isinstance(done.exception, BegatError)
    assert "are not current" in str(done.exception)
    return done.output


def status():
    """How ``begat status --strict`` ends."""
    return CliRunner().invoke(cli.commands, ["status", "--strict", "--params-file", TINY]).exception


def test_a_record_holds_its_own_digest_and_its_key(job, path):
    found = json.loads(path.read_bytes())
    assert found.pop("digest") == digest(found)
    assert found["key"] == job.key == path.stem


def test_any_number_or_letter_of_a_record_that_is_changed_is_noticed(plan, job, path):
    text = path.read_text()
    assert unrecorded(plan) == []
    for match in re.finditer(r"[A-Za-z0-9]", text):
        changed = chr(ord(match.group()) ^ 1)
        path.write_text(text[: match.start()] + changed + text[match.end() :])
        assert recorded(plan.root, job.key) == {}, match
    assert unrecorded(plan) == [(job, "not what was written")]


def test_so_is_any_other_byte_added_lost_or_changed(plan, job, path):
    whole, dice = path.read_bytes(), random.Random(0)
    for _ in range(500):
        place = dice.randrange(len(whole))
        for between in (b"", b"00", bytes([whole[place] ^ 1 << dice.randrange(8)])):
            path.write_bytes(whole[:place] + between + whole[place + 1 :])
            assert recorded(plan.root, job.key) == {}
    path.write_bytes(whole)
    assert recorded(plan.root, job.key)["stage"] == "splits"


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_record_is_not_shown(plan, path, text):
    path.write_bytes(text)
    assert all(row["started"] is None for row in provenance(plan))
    assert len(unrecorded(plan)) == 1


def test_the_record_of_another_job_is_none(plan, job, path):
    other = plan.job("images", "all")
    record(plan.root, other, 0.0, 0.0, "cpu", [], "content")
    path.write_bytes((plan.root / record_path(other.key)).read_bytes())
    assert unrecorded(plan) == [(job, "not what was written")]


def test_of_results_that_are_not_there_no_record_is_missed(plan):
    assert unrecorded(plan) == []


def test_status_names_a_damaged_record_in_one_line_and_what_to_do(path):
    path.write_text(path.read_text().replace("cpu", "gpu"))
    name = path.relative_to(path.parents[2])
    expected = f"damaged: {name} (not what was written); run `begat verify`"
    assert str(status()) == expected
    path.unlink()
    assert str(status()) == expected.replace("not what was written", "lost")


@pytest.mark.parametrize("gone", [True, False])
def test_verify_puts_a_record_back_from_its_copy(path, gone):
    whole = path.read_bytes()
    if gone:
        path.unlink()
    else:
        path.write_bytes(whole.replace(b"cpu", b"gpu"))  # in place: the copy is no hard link
    assert re.search(rf"{path.stem}.json: .*, restored from its copy", verified())
    assert path.read_bytes() == whole
    assert path.stem not in verified()


@pytest.mark.parametrize("damage", [b"", b"[1]", None, "a folder"])
def test_without_a_copy_the_record_says_that_nothing_is_known(plan, job, path, damage):
    for place in (path, plan.root / COPIES / path.name):
        place.unlink()
        if isinstance(damage, bytes):
            place.write_bytes(damage)
    if damage == "a folder":
        path.mkdir()
    assert re.search(rf"{path.stem}.json: .*, replaced by one without values", verified())
    found = recorded(plan.root, job.key)
    assert found["unknown"] == "the record was lost or damaged"
    assert found["content"] == content_digest(plan.root / job.path)
    assert "seconds" not in found
    assert path.stem not in verified()


def test_a_copy_that_is_of_other_bits_is_not_taken(plan, job, path):
    record(plan.root, job, 0.0, 0.0, "cpu", [], "another")
    path.unlink()
    verified()
    assert "unknown" in recorded(plan.root, job.key)
    assert (plan.root / job.path).is_dir()


def test_what_comes_from_the_store_brings_its_record(plan, job, path, capsys):
    whole = path.read_bytes()
    path.unlink()
    JobContext(plan, job).materialise(lambda context: pytest.fail("computed"))
    assert path.read_bytes() == whole


def test_the_record_of_what_came_from_elsewhere_is_copied(plan, path):
    copy = plan.root / COPIES / path.name
    copy.unlink()
    tidy(plan)
    assert copy.read_bytes() == path.read_bytes()
    copy.unlink()
    path.write_bytes(path.read_bytes().replace(b"cpu", b"gpu"))
    tidy(plan)
    assert not copy.exists()


def test_a_run_puts_a_record_back_but_leaves_it_to_verify_to_say_that_none_is_known(plan, path):
    whole = path.read_bytes()
    path.unlink()
    tidy(plan)
    assert path.read_bytes() == whole
    path.unlink()
    (plan.root / COPIES / path.name).unlink()
    tidy(plan)
    assert not path.exists()


def test_what_killed_processes_left_is_swept_away(plan, job, path):
    left = [
        path.with_suffix(".1.tmp"),
        plan.root / COPIES / f"{job.key}.1.tmp",
        *(plan.root / ".begat" / name for name in ("digests.1.tmp", "verified/splits.1.tmp")),
        *(plan.root / "results" / name for name in ("report.1.old.tmp/a", "splits/x.1.old.tmp/a")),
        plan.root / ".begat" / "store" / "x.1.old.tmp" / "a",
    ]
    for place in left:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("")
    tidy(plan)
    assert not list(plan.root.rglob("*.tmp"))
    assert path.is_file()


def test_a_disk_that_takes_no_record_ends_the_job_in_one_line(plan, monkeypatch):
    def refuse(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("begat.storage.manifests.sync_one", refuse)
    job = plan.job("splits", "all")
    with pytest.raises(BegatError, match=r"could not be written \(No space left on device\)"):
        record(plan.root, job, 0.0, 0.0, "cpu", [], "content")
    assert not [file for file in plan.root.rglob("*.tmp") if file.is_file()]
    Verified(plan.root).note(plan.root / "src")  # a memory that it can do without


def test_copies_of_records_that_nobody_asks_for_are_dropped(plan, job):
    record(plan.root, plan.job("images", "all"), 0.0, 0.0, "cpu", [], "content")
    forget_copies(plan.root, {job.key})
    assert [copy.stem for copy in (plan.root / COPIES).iterdir()] == [job.key]


def test_a_result_with_another_content_than_its_record_is_damaged(plan, job):
    record(plan.root, job, 0.0, 0.0, "cpu", [], "another")
    assert [files for _, files in damaged(plan)] == [["another content digest than its record"]]
