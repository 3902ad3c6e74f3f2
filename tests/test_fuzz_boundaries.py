"""Random damage to what a person brings: it is used or refused in one line, and nothing else.

``BEGAT_FUZZ`` examples of each, other ones every time; without it a few hundred, always the same.
"""

import contextlib
import io
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from fuzzing import damaged, fuzzed, refused_in_one_line
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save
from small import ATTENTIVE, folder_with, params_with

from begat.data.datasets import check_groups, index, pixels
from begat.data.image_files import decode
from begat.data.pipelines import check_pipeline, pipeline_digest, pipeline_row
from begat.data.safetensors_files import read_weights
from begat.storage.artifacts import string_array

pytestmark = pytest.mark.fuzz

IMAGES = folder_with(resize="stretch")
LISTED = folder_with(resize="stretch", path="data/list.csv")
PARAMS = params_with(
    images={"size": 8, "channels": 3},
    diffusion={
        "beta_schedule": "linear",
        "num_train_timesteps": 50,
        "prediction_type": "epsilon",
    },
    unet={"class_conditional": False},
)
COSTLY = 10  # how many cheap examples cost as much as building a network


ODD = st.sampled_from(
    [
        "",
        " ",
        "\0",
        "a\nb",
        "../x",
        "/etc/passwd",
        ".",
        "..",
        "é",
        "\ud800",
        "'",
        '"',
        ",",
        "~",
        "x" * 300,
        "y" * 140_000,
        "a\rb",
    ]
)
WORDS = st.text(max_size=8) | ODD
NAMES = st.sampled_from(["a.png", "g/b.png", "./a.png", "g/../a.png", "g", "fifo", "gone"]) | WORDS
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
STRUCTURES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def saved(kind, size=(4, 4), mode="RGB"):
    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).convert(mode).save(buffer, kind, exif=exif)
    return buffer.getvalue()


FILES = [
    saved(kind, mode=mode)
    for kind, mode in [("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("JPEG", "L"), ("WEBP", "RGB")]
]


@contextlib.contextmanager
def project():
    """A folder with two images, a pipe and no more."""
    with TemporaryDirectory() as folder:
        images = Path(folder) / "data" / "images"
        (images / "g").mkdir(parents=True)
        (images / "a.png").write_bytes(FILES[0])
        (images / "g" / "b.png").write_bytes(FILES[1])
        os.mkfifo(Path(folder) / "data" / "fifo")
        yield Path(folder)


def used(root, images):
    dataset = index(images, root)
    check_groups(dataset)
    assert len(list(pixels(dataset, images))) == len(dataset.names)
    assert not {*"\n\r\x1b"} & {*"".join(stored_names(dataset))}


def stored_names(dataset):
    """All names and groups, as they come back from an artifact."""
    return string_array([*dataset.names, *dataset.groups]).tolist()


ROWS = st.lists(st.tuples(NAMES, WORDS, WORDS) | st.lists(WORDS, max_size=4), max_size=5)


@fuzzed()
@given(rows=ROWS, quote=st.sampled_from(["", '"']), end=st.sampled_from(["\n", "\r\n"]))
def test_a_manifest_of_odd_cells(rows, quote, end):
    table = [("path", "g", "condition"), *rows]
    lines = [",".join(f"{quote}{cell}{quote}" for cell in row) for row in table]
    with project() as root, refused_in_one_line():
        text = end.join(lines).encode(errors="surrogatepass")
        (root / "data" / "list.csv").write_bytes(text)
        used(root, LISTED)


@fuzzed()
@given(text=damaged(b"path,artist,condition\nimages/a.png,Ada,cat\nimages/g/b.png,Bo,dog\n"))
def test_a_damaged_manifest(text):
    with project() as root, refused_in_one_line():
        (root / "data" / "list.csv").write_bytes(text)
        used(root, LISTED)


@fuzzed()
@given(content=st.sampled_from(FILES).flatmap(damaged), channels=st.sampled_from([1, 3]))
def test_a_damaged_image(content, channels):
    with refused_in_one_line():
        found = decode(Path("a.png"), content, 4, channels, "crop")
        assert found.shape == (channels, 4, 4)


@fuzzed()
@given(
    name=st.binary(min_size=1, max_size=12)
    | st.sampled_from([b".png", b"a.gif", b"b", b"\xff.png", b"a\nb.png"])
)
def test_a_file_of_any_name_among_images(name):
    with project() as root, refused_in_one_line():
        with contextlib.suppress(OSError, ValueError):  # no name of a file
            place = os.fsencode(root / "data" / "images")
            Path(os.fsdecode(os.path.join(place, name))).write_bytes(FILES[2])
        used(root, IMAGES)


@fuzzed()
@given(data=st.data())
def test_a_damaged_memory_of_digests_changes_nothing(data):
    with project() as root:
        memory, expected = root / ".begat" / "digests.json", index(IMAGES, root)
        sound = memory.read_bytes()
        memory.write_bytes(data.draw(damaged(sound)))
        assert index(IMAGES, root) == expected
        memory.write_text(json.dumps(data.draw(STRUCTURES)))
        assert index(IMAGES, root) == expected


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A directory with an untrained pipeline."""
    place = tmp_path_factory.mktemp("pipeline")
    network = UNet2DModel(**ATTENTIVE.diffusers_arguments())
    DDPMPipeline(network, DDPMScheduler(50)).save_pretrained(place)
    return place


CONFIGURATIONS = ("unet/config.json", "scheduler/scheduler_config.json")


@contextlib.contextmanager
def replaced(path, content):
    before = path.read_bytes()
    path.write_bytes(content)
    yield
    path.write_bytes(before)


@fuzzed()
@given(data=st.data(), part=st.sampled_from(CONFIGURATIONS))
def test_a_damaged_configuration_of_a_pipeline(data, part, pipeline):
    content = data.draw(damaged((pipeline / part).read_bytes()))
    with replaced(pipeline / part, content), refused_in_one_line():
        check_pipeline(pipeline, PARAMS, 5)
        pipeline_digest(pipeline)


@fuzzed()
@given(data=st.data(), part=st.sampled_from(CONFIGURATIONS), value=STRUCTURES)
def test_any_value_in_a_configuration_of_a_pipeline(data, part, value, pipeline):
    written = json.loads((pipeline / part).read_bytes())
    key = data.draw(st.sampled_from(sorted(written)) | WORDS)
    content = json.dumps({**written, key: value}).encode()
    for text in (content, json.dumps(value).encode()):
        with replaced(pipeline / part, text), refused_in_one_line():
            check_pipeline(pipeline, PARAMS, 5)


@fuzzed(COSTLY)
@given(data=st.data(), value=STRUCTURES)
def test_any_value_in_the_configuration_of_a_network_that_is_built(data, value, pipeline):
    written = json.loads((pipeline / "unet" / "config.json").read_bytes())
    key = data.draw(st.sampled_from(sorted(written)))
    content = json.dumps({**written, key: value}).encode()
    with replaced(pipeline / "unet" / "config.json", content), refused_in_one_line():
        check_pipeline(pipeline, PARAMS, 5)
        assert np.isfinite(pipeline_row(pipeline)).all()


@fuzzed()
@given(content=damaged(save({"a": torch.ones(2, 3), "b": torch.zeros(4)})))
def test_a_damaged_file_of_weights(content):
    with TemporaryDirectory() as folder, refused_in_one_line():
        (Path(folder) / "w.safetensors").write_bytes(content)
        assert all(
            tensor.isfinite().all()
            for tensor in read_weights(Path(folder) / "w.safetensors").values()
        )
