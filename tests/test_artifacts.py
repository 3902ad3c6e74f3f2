"""Artifacts exist entirely or not at all, say what they were made from, and notice damage."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from begat.data.query_names import names_of_generated
from begat.errors import BegatError
from begat.storage import manifests
from begat.storage.artifacts import (
    ALIGNMENT,
    Artifact,
    publish,
    remove,
    stored_attributes,
    string_array,
    write,
)
from begat.storage.cache import Store, locked, only_run
from begat.storage.manifests import Verified, content_digest, damage, file_digests, seal
from begat.storage.schema import VERSION


def queries(count=4, **changes):
    generator = np.random.default_rng(0)
    arrays = {
        "pixels": generator.normal(size=(count, 1, 8, 8)).astype(np.float32),
        "noise": generator.normal(size=(count, 2, 1, 8, 8)).astype(np.float32),
        "label": np.zeros(count, np.int32),
        **names_of_generated(range(count), [-1] * count, ()),
    }
    return {**arrays, **changes}


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "results" / "queries" / "0.zarr"
    write(path, "queries", {"key": "k", "read": {"images/all": "a"}}, [queries(), queries(3)])
    return path


def test_blocks_are_appended_and_read_back(artifact):
    found = Artifact(artifact, "queries")
    expected = np.concatenate([queries()["pixels"], queries(3)["pixels"]])
    np.testing.assert_array_equal(found["pixels"], expected)
    np.testing.assert_array_equal(found.rows("pixels", np.array([5, 0])), expected[[5, 0]])
    assert found.attributes["key"] == stored_attributes(artifact)["key"] == "k"


def test_arrays_are_read_to_where_torchs_own_begin(artifact):
    found = Artifact(artifact, "queries")
    for rows in (slice(None), slice(1, 4), np.array([2])):
        for name in ("pixels", "label"):
            assert found.rows(name, rows).ctypes.data % ALIGNMENT == 0
    assert torch.empty(3).data_ptr() % ALIGNMENT == 0


def test_equal_runs_write_equal_bytes(artifact, tmp_path):
    again = tmp_path / "again.zarr"
    write(again, "queries", {"key": "k", "read": {"images/all": "a"}}, [queries(), queries(3)])
    assert file_digests(again) == file_digests(artifact)


def test_a_new_artifact_replaces_the_old_and_leaves_nothing_behind(artifact):
    write(artifact, "queries", {"key": "new"}, [queries(2)])
    assert len(Artifact(artifact, "queries")["pixels"]) == 2
    assert os.listdir(artifact.parent) == ["0.zarr"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(pixels=np.zeros((4, 8, 8), np.float32)), "pixels: expected axes query, channel"),
        (dict(label=np.zeros(4)), "label: expected int32, found float64"),
        (dict(more=np.zeros(4)), "expected arrays pixels, noise, label, .*, found more"),
        (
            dict(pixels=np.full((4, 1, 8, 8), np.nan)),
            "pixels: expected finite numbers, found nan at",
        ),
    ],
)
def test_what_the_schema_does_not_allow_is_never_written(artifact, changes, message):
    before = file_digests(artifact)
    with pytest.raises(BegatError, match=message):
        write(artifact, "queries", {"key": "bad"}, [queries(**changes)])
    assert file_digests(artifact) == before
    assert os.listdir(artifact.parent) == ["0.zarr"]


def test_an_artifact_without_all_its_arrays_is_never_written(tmp_path):
    with pytest.raises(BegatError, match="expected arrays noise, label, .*, found none of them"):
        write(tmp_path / "x.zarr", "queries", {}, [{"pixels": queries()["pixels"]}])
    assert os.listdir(tmp_path) == []


def test_nan_is_named_with_its_place(tmp_path):
    pixels = queries()["pixels"]
    pixels[2, 0, 3, 1] = np.inf
    with pytest.raises(BegatError, match="found inf at query 2, channel 0, y 3, x 1"):
        write(tmp_path / "x.zarr", "queries", {}, [queries(pixels=pixels)])


def test_a_failing_computation_leaves_the_old_artifact(artifact):
    def blocks():
        yield queries()
        raise BegatError("stopped")

    before = file_digests(artifact)
    with pytest.raises(BegatError, match="stopped"):
        write(artifact, "queries", {}, blocks())
    assert file_digests(artifact) == before
    assert os.listdir(artifact.parent) == ["0.zarr"]


def test_a_truncated_chunk_is_named(artifact):
    chunk = artifact / "pixels" / "c.0.0.0.0"
    os.truncate(chunk, chunk.stat().st_size // 2)
    with pytest.raises(BegatError, match=r"0.zarr: pixels/c.0.0.0.0: damaged .*run `begat verify`"):
        Artifact(artifact, "queries")["pixels"]


def test_a_flipped_bit_is_noticed(artifact):
    chunk = artifact / "pixels" / "c.0.0.0.0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(BegatError, match="0.zarr: pixels/c.0.0.0.0: damaged"):
        Artifact(artifact, "queries")["pixels"]


def test_a_missing_chunk_is_no_silent_zero(artifact):
    (artifact / "label" / "c.0").rename(artifact / "label" / "c.9")  # as many files as before
    with pytest.raises(BegatError, match="label/c.0: damaged .missing"):
        Artifact(artifact, "queries")["label"]


@pytest.mark.parametrize(
    "name", ["zarr.json", "manifest.json", "label/zarr.json", "label/c.0", "pixels/c.0.0.0.0"]
)
@pytest.mark.parametrize("kind", ["flipped", "cut", "emptied", "lost", "zeroed", "high"])
def test_no_damage_to_any_file_is_believed_and_all_of_it_is_named(artifact, name, kind):
    path, whole = artifact / name, (artifact / name).read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "cut": whole[:middle],
            "emptied": b"",
            "lost": b"",
            "zeroed": bytes(len(whole)),
            "high": whole[:middle] + b"\xff" + whole[middle + 1 :],
        }[kind]
    )
    if kind == "lost":
        path.unlink()
    assert damage(artifact) == [name]
    with pytest.raises(BegatError, match=f"0.zarr: {name}: damaged"):
        for array in ("label", "pixels"):
            Artifact(artifact, "queries")[array]


def test_only_what_is_read_is_compared(artifact):
    (artifact / "pixels" / "c.0.0.0.0").write_bytes(b"")
    assert len(Artifact(artifact, "queries")["label"]) == 7


def test_a_lost_optional_array_was_not_simply_never_computed(tmp_path):
    path, score = tmp_path / "scores.zarr", np.zeros((1, 2, 3))
    write(path, "scores_trak", {"key": "k"}, [{"score": score, "group_score": score}])
    shutil.rmtree(path / "group_score")
    assert "group_score" in Artifact(path, "scores_trak")
    with pytest.raises(BegatError, match="group_score/zarr.json: damaged .missing"):
        Artifact(path, "scores_trak")["group_score"]
    write(path, "scores_trak", {"key": "k"}, [{"score": score}])
    assert "group_score" not in Artifact(path, "scores_trak")


def test_a_file_too_many_is_damage_too(artifact):
    (artifact / "label" / "c.7").touch()
    (artifact / ".snakemake_timestamp").touch()
    assert damage(artifact) == ["label/c.7"]


def test_the_content_digest_is_of_everything_in_an_artifact(artifact, tmp_path):
    again = tmp_path / "again.zarr"
    write(again, "queries", {"key": "k", "read": {"images/all": "a"}}, [queries(), queries(3)])
    assert content_digest(again) == content_digest(artifact)
    write(again, "queries", {"key": "other"}, [queries(), queries(3)])
    assert content_digest(again) != content_digest(artifact)
    edited = json.loads((artifact / "manifest.json").read_text())
    edited["files"]["label/c.0"] = "0" * 64
    (artifact / "manifest.json").write_text(json.dumps(edited))
    assert content_digest(artifact) is None


def test_what_was_seen_whole_is_read_again_only_if_touched(artifact, tmp_path, monkeypatch):
    verified, reads = Verified(tmp_path), []
    monkeypatch.setattr(manifests, "damage", lambda path: reads.append(path) or damage(path))
    assert verified.whole(artifact)
    assert verified.whole(artifact)
    assert reads == [artifact]
    chunk = artifact / "label" / "c.0"
    before = chunk.stat()
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    os.utime(chunk, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not verified.whole(artifact), "size and time of change are as before"
    assert not verified.whole(artifact)


def test_everything_is_on_the_disk_before_an_artifact_has_its_name(artifact, monkeypatch):
    synced = set[str]()
    fsync = os.fsync

    def noting(opened: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{opened}").partition(".tmp/")[2])
        fsync(opened)

    rename = Path.rename

    def renaming(path: Path, target: Path) -> Path:
        if target == artifact:
            assert synced >= {"zarr.json", "manifest.json", "label/c.0", "pixels/c.0.0.0.0"}
            synced.add("renamed")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(Path, "rename", renaming)
    write(artifact, "queries", {"key": "k"}, [queries()])
    assert "renamed" in synced


def test_another_schema_version_is_refused(artifact):
    text = (artifact / "zarr.json").read_text()
    (artifact / "zarr.json").write_text(text.replace(f'"schema": {VERSION}', '"schema": 99'))
    seal(artifact)
    with pytest.raises(BegatError, match=f"expected schema version {VERSION}, found 99"):
        Artifact(artifact, "queries")


def test_arrays_of_another_type_are_refused(artifact):
    text = (artifact / "label" / "zarr.json").read_text()
    (artifact / "label" / "zarr.json").write_text(text.replace("int32", "uint32"))
    seal(artifact)
    with pytest.raises(BegatError, match="label: expected int32"):
        Artifact(artifact, "queries")["label"]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(BegatError, match="expected an artifact of queries, found none"):
        Artifact(tmp_path / "x.zarr", "queries")


def test_a_full_disk_leaves_nothing_behind_and_says_so(artifact, monkeypatch):
    before = file_digests(artifact)

    def full(scratch: Path) -> None:
        (scratch / "part").write_bytes(b"x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(BegatError, match=r"0.zarr: could not be written \(No space left on dev"):
        publish(artifact, full)
    assert file_digests(artifact) == before
    assert os.listdir(artifact.parent) == ["0.zarr"]


def test_a_write_that_the_system_cuts_short_leaves_nothing_behind(tmp_path):
    """The same through Zarr itself: no file may grow beyond a few kilobytes."""
    program = (
        "import resource, signal, numpy as np, sys\n"
        "from pathlib import Path\n"
        "from begat.storage.artifacts import write\n"
        "from begat.errors import BegatError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "block = {'pixels': np.random.default_rng(0).normal(size=(999, 1, 8, 8)),\n"
        "  'noise': np.zeros((999, 1, 1, 8, 8)), 'label': np.zeros(999, int)}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "try: write(Path(sys.argv[1]), 'queries', {}, [block])\n"
        "except BegatError as error: print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.zarr")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "x.zarr: could not be written (File too large)" in said
    assert said.count("\n") == 1
    assert os.listdir(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 8192


def test_a_killed_writer_leaves_nothing_that_counts_and_the_next_cleans_up(tmp_path):
    program = (
        "import sys, time, numpy as np\n"
        "from pathlib import Path\n"
        "from begat.storage.artifacts import write\n"
        "def blocks():\n"
        "    yield {'pixels': np.zeros((2, 1, 8, 8)), 'noise': np.zeros((2, 1, 1, 8, 8)),"
        " 'label': np.zeros(2, int)}\n"
        "    print('half', flush=True); time.sleep(60)\n"
        "write(Path(sys.argv[1]), 'queries', {}, blocks())\n"
    )
    path = tmp_path / "x.zarr"
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "half\n"
        writer.send_signal(signal.SIGKILL)
    assert not path.exists()
    assert len(os.listdir(tmp_path)) == 1
    write(path, "queries", {}, [queries()])
    assert os.listdir(tmp_path) == ["x.zarr"]


def test_removing_spares_what_a_link_points_to(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").touch()
    (tmp_path / "link").symlink_to(target)
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert (target / "file").exists()
    assert os.listdir(tmp_path) == ["target"]


def test_strings_of_any_length_come_back_from_disk(tmp_path):
    texts = ["a.png", "größe/ü.png", "", "x" * 300]
    blocks = [queries(2, name=string_array(texts[:2])), queries(2, name=string_array(texts[2:]))]
    write(tmp_path / "a.zarr", "queries", {}, blocks)
    found = Artifact(tmp_path / "a.zarr", "queries")
    assert found["name"].tolist() == texts
    assert found.rows("name", np.array([3, 1])).tolist() == [texts[3], texts[1]]


def test_the_store_gives_back_what_it_was_given(artifact, tmp_path):
    store, before = Store(tmp_path), file_digests(artifact)
    store.keep("k", artifact)
    remove(artifact)
    assert store.restore("k", artifact, {"images/all": "a"})
    assert file_digests(artifact) == before
    assert not store.restore("unknown", tmp_path / "y", {})
    assert list(store.entries()) == ["k"]
    store.forget("k")
    assert store.entries() == {}
    assert file_digests(artifact) == before


def test_the_store_shares_bytes_with_the_results_and_survives_their_removal(artifact, tmp_path):
    store = Store(tmp_path)
    store.keep("k", artifact)
    chunk = artifact / "pixels" / "c.0.0.0.0"
    assert chunk.stat().st_nlink == 2
    write(artifact, "queries", {"key": "other"}, [queries(1)])
    assert store.has("k", {"images/all": "a"})
    assert not store.has("k", {"images/all": "b"}), "computed from other bits"


def test_damaged_bytes_in_the_store_are_not_given_back(artifact, tmp_path, capsys):
    store = Store(tmp_path)
    store.keep("k", artifact)
    os.truncate(artifact / "pixels" / "c.0.0.0.0", 10)  # the same file, by its other name
    assert not store.restore("k", artifact, {"images/all": "a"})
    assert "damaged, computed anew" in capsys.readouterr().err
    assert store.entries() == {}


def test_a_second_run_in_one_folder_is_refused_and_the_lock_dies_with_its_owner(tmp_path):
    taken = rf"another run \(process {os.getpid()}\) is at work"
    with only_run(tmp_path), pytest.raises(BegatError, match=taken):
        only_run(tmp_path)
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom begat.storage.cache import only_run\n"
        "run = only_run(Path(sys.argv[1]))\nprint('mine', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(BegatError, match=rf"another run \(process {other.pid}\) is at work"):
            only_run(tmp_path)
        other.kill()
    with only_run(tmp_path):
        pass


def test_a_second_process_at_one_job_waits(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom begat.storage.cache import locked\n"
        "with locked(Path(sys.argv[1]), 'waiting'):\n"
        "    print('mine', flush=True); time.sleep(0.5)\n"
    )
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"mine\n"
        started = time.monotonic()
        with locked(path, "waiting"):
            assert time.monotonic() - started > 0.1
