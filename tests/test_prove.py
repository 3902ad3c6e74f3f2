"""The command that proves what is in a run's training set, and perceptual hashes."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from plans import copied, planned
from scipy.fft import dctn
from typer.testing import CliRunner

from begat import cli
from begat.auditing.perceptual_hash import bit_distances, perceptual_hashes
from begat.data.digits import digit_rows
from begat.errors import BegatError
from begat.execution.context import JobContext
from begat.stages import STAGES

TINY = ("--params-file", "params/tiny.yaml")
OWN = {"source": "folder", "path": "data/images", "max_images": 0, "size": 32, "channels": 3}


def smooth(seed, size=96):
    """A picture of coloured clouds."""
    levels = np.random.default_rng(seed).normal(128, 60, (6, 6, 3)).clip(0, 255)
    picture = Image.fromarray(levels.astype(np.uint8))
    return picture.resize((size, size), Image.Resampling.BICUBIC)


def with_images(root, **changes):
    """A project whose training images are up to date."""
    plan = planned(copied(root), **{f"images__{name}": value for name, value in changes.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tqdm.tqdm", lambda images, *_: iter(images))  # its type cannot be checked
        STAGES["images"].run(JobContext(plan, plan.job("images", "all")))
    return root


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    root = tmp_path_factory.mktemp("clouds")
    for number in range(24):
        path = root / "data" / "images" / f"g{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth(number).save(path)
    return with_images(root, resize="crop", **OWN)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return with_images(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def prove(monkeypatch, tmp_path):
    """The output of ``begat prove`` in a project, and that of the script for the proof."""
    script = tmp_path / "script.py"

    def prove(root, image, *options):
        monkeypatch.chdir(root)
        proof = tmp_path / "proof.json"
        command = ["prove", *map(str, (image, "--out", proof, *TINY, *options))]
        printed = CliRunner().invoke(cli.commands, command, catch_exceptions=False)
        assert printed.exit_code == 0
        if not script.exists():
            begat("prove", "--verifier", str(script))
        stated = json.loads(proof.read_text())["image"]
        published = begat("prove", "--root", *TINY).strip()
        arguments = ["--root", published, "--image", str(image)]
        arguments += ["--pixels-sha256", stated["pixels_sha256"]]
        arguments += ["--perceptual-hash", stated["perceptual_hash"]]
        checked = subprocess.run(
            [sys.executable, "-I", str(script), str(proof), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert f"root: {published}\n" in printed.stdout
        assert checked.startswith(f"root {published} of ")
        return printed.stdout, checked

    return prove


def begat(*command):
    result = CliRunner().invoke(cli.commands, list(command))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_a_training_image_is_in_the_set_by_its_file_and_by_its_pixels(clouds, prove):
    printed, checked = prove(clouds, clouds / "data" / "images" / "g1" / "7.png")
    assert "7.png: in the training set of 24 images\n" in printed
    assert "- proven: a training image has the same bytes in its file\n" in printed
    assert checked.count("\nin the training set: ") == 2


def test_another_file_with_the_same_pixels_is_in_the_set_by_its_pixels(clouds, prove, tmp_path):
    smooth(7).save(tmp_path / "a.png", compress_level=1)
    printed, checked = prove(clouds, tmp_path / "a.png")
    assert "a.png: in the training set of 24 images\n" in printed
    assert "- proven: no training image has the same bytes in its file\n" in printed
    assert "- proven: a training image has the same pixels at 32x32 in colour\n" in printed
    assert "\nnot in the training set: file" in checked
    assert "\nin the training set: pixels" in checked


def test_another_picture_is_not_in_the_set(clouds, prove, tmp_path):
    smooth(99).save(tmp_path / "a.png")
    printed, checked = prove(clouds, tmp_path / "a.png")
    assert "a.png: not in the training set of 24 images\n" in printed
    assert "cannot be proven without disclosing all perceptual hashes\n" in printed
    assert checked.count("\nnot in the training set: ") == 2
    assert "\nin the training set" not in checked


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [("a.jpg", 96, {"quality": 70}), ("a.png", 61, {}), ("a.webp", 200, {"quality": 60})],
)
def test_an_image_encoded_again_or_resized_is_a_near_copy(
    clouds, prove, tmp_path, name, size, options
):
    smooth(5).resize((size, size), Image.Resampling.BICUBIC).save(tmp_path / name, **options)
    printed, checked = prove(clouds, tmp_path / name)
    assert "not in the training set of 24 images, but a training image resembles it\n" in printed
    stated = "within 4 bits of it: 1; share of 24 training images with another one that near: 0.0%"
    assert f"- stated: training images {stated}\n" in printed
    assert "\nin the training set: a perceptual hash that differs in " in checked


def test_within_no_bits_only_an_equal_perceptual_hash_is_a_near_copy(clouds, prove, tmp_path):
    smooth(5).save(tmp_path / "a.jpg", quality=10)
    distance = int(
        prove(clouds, tmp_path / "a.jpg", "--within", "16")[1].split("in ")[-1].split()[0]
    )
    assert distance > 0
    printed, checked = prove(clouds, tmp_path / "a.jpg", "--within", str(distance - 1))
    assert f"differs in {distance} of 64 bits of its perceptual hash, more than" in printed
    assert "perceptual hash that differs" not in checked


def test_digits_have_no_files_and_are_in_the_set_by_their_pixels(digits, prove, tmp_path):
    levels = np.array(digit_rows()[0].split(b",")[:64], float).reshape(8, 8)
    Image.fromarray(np.round(levels * 255 / 16).astype(np.uint8)).save(tmp_path / "digit.png")
    printed, checked = prove(digits, tmp_path / "digit.png")
    assert "digit.png: in the training set of 200 images\n" in printed
    assert "not compared: files, since these training images do not come from files" in printed
    assert "file " not in checked
    assert "\nin the training set: pixels" in checked


def test_json_is_the_proof_and_is_written_only_to_a_file_that_is_named(clouds, tmp_path):
    image = str(clouds / "data" / "images" / "g1" / "7.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clouds)
        proof = json.loads(begat("prove", image, "--json", *TINY))
        assert not (clouds / "proof.json").exists()
        begat("prove", image, *TINY)
        assert json.loads((clouds / "proof.json").read_text()) == proof
        root = json.loads(begat("prove", "--root", "--json", *TINY))
    assert root == {name: proof[name] for name in ("root", "commitment")}
    assert proof["stated_without_proof"]["distance"] == 0
    assert proof["commitment"]["decoding"] == {"size": 32, "channels": 3, "resize": "crop"}


def test_what_cannot_be_a_training_image_is_refused_in_one_line(clouds, monkeypatch, tmp_path):
    monkeypatch.chdir(clouds)
    (tmp_path / "a.png").write_bytes(b"no image")
    for path, message in (
        (tmp_path / "a.png", "a.png: expected a PNG, JPEG or WebP image"),
        (tmp_path / "b.png", "b.png: could not be read .No such file"),
        (tmp_path, "could not be read .Is a directory"),
    ):
        with pytest.raises(BegatError, match=message):
            begat("prove", str(path), *TINY)


@pytest.mark.parametrize(
    "options",
    [(), ("a.png", "--root"), ("--root", "--verifier", "x"), ("a.png", "--verifier", "x")],
)
def test_one_thing_is_done_at_a_time(options):
    with pytest.raises(BegatError, match="expected an image, or --root, or --verifier FILE"):
        begat("prove", *options)


def test_missing_and_outdated_images_are_refused(clouds, monkeypatch, tmp_path):
    root = tmp_path / "other"
    shutil.copytree(clouds, root)
    monkeypatch.chdir(root)
    smooth(99).save(root / "data" / "images" / "g0" / "new.png")
    expected = "images/all.zarr: expected an up-to-date artifact, found: "
    with pytest.raises(BegatError, match=f"{expected}other data; run `begat run images`"):
        begat("prove", "--root", *TINY)
    shutil.rmtree(root / "results" / "images")
    with pytest.raises(BegatError, match=f"{expected}missing; run"):
        begat("prove", "--root", *TINY)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (32, 1), (48, 3), (64, 3), (96, 1)])
def test_perceptual_hashes_are_those_of_the_cosine_transform(size, channels):
    shape = (20, channels, size, size)
    pixels = np.random.default_rng(size).integers(0, 256, shape, dtype=np.uint8)
    for image, actual in zip(pixels, perceptual_hashes(pixels), strict=True):
        picture = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
        grey, times = np.asarray(picture.convert("L"), float), 32 // math.gcd(32, size)
        fine = np.kron(grey, np.ones((times, times)))
        parts = fine.reshape(32, len(fine) // 32, 32, len(fine) // 32).mean((1, 3))
        low = dctn(parts)[:8, :8].ravel()
        above = low - np.sort(low)[31]
        clear = np.abs(above) > 0.002 * np.abs(low[1:]).max()  # the cosines are whole numbers
        bits = np.array([int(bit) for bit in f"{int(actual):064b}"])
        np.testing.assert_array_equal(bits[clear], above[clear] > 0)
        assert clear.sum() > 50


def test_half_of_the_bits_of_a_hash_are_set_and_flat_images_have_only_the_first():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 16, 16), dtype=np.uint8)
    assert (np.bitwise_count(perceptual_hashes(pixels)) == 32).all()
    assert perceptual_hashes(np.full((1, 1, 40, 40), 7, np.uint8)).tolist() == [2**63]


def test_the_largest_images_have_no_overflow():
    pixels = np.full((1, 1, 4096, 4096), 255, np.uint8)
    pixels[..., :2048] = 0
    small = pixels[..., ::128, ::128].copy()
    np.testing.assert_array_equal(perceptual_hashes(pixels), perceptual_hashes(small))


def test_distances_are_numbers_of_bits():
    hashes = np.array([0, 1, 2**64 - 1, 2**63], np.uint64)
    assert bit_distances(hashes, 2**63 + 1).tolist() == [2, 1, 62, 1]
