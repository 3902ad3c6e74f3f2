"""No file that a person brings runs code: each is made to try, and leaves no trace."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from small import ATTENTIVE, folder_with, params_with

from begat.data.datasets import index, pixels
from begat.data.pipelines import check_pipeline, pipeline_digest, pipeline_row
from begat.data.safetensors_files import read_weights
from begat.errors import BegatError
from begat.planning.plan import specify

CPU = torch.device("cpu")
FOLDER = folder_with()


class Payload:
    """What writes a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def raw(mark):
    return pickle.dumps(Payload(mark))


def checkpoint(mark):
    """As ``torch.save`` writes it."""
    buffer = io.BytesIO()
    torch.save({"weight": Payload(mark)}, buffer)
    return buffer.getvalue()


def exported(mark):
    """What ``torch.export.save`` writes, with the payload in every member."""
    buffer, whole = io.BytesIO(), io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(1),)), buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(whole, "w") as changed:
        for name in source.namelist():
            changed.writestr(name, checkpoint(mark))
    return whole.getvalue()


FORMATS = [raw, checkpoint, exported]


@pytest.fixture
def mark(tmp_path):
    """A file that must not come into being."""
    path = tmp_path / "code has run"
    yield path
    assert not path.exists()


def test_the_payload_does_run_where_a_file_is_unpickled(tmp_path):
    pickle.loads(raw(tmp_path / "mark"))  # noqa: S301
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("payload", FORMATS)
def test_no_weights_of_a_vision_network(payload, mark, tmp_path):
    path = tmp_path / "eyes.safetensors"
    path.write_bytes(payload(mark))
    with pytest.raises(BegatError, match="eyes.safetensors: expected a .safetensors file"):
        read_weights(path)


@pytest.mark.parametrize(
    "name", ["file:data/eyes.pt2", "timm:a:data/eyes.pt2", "timm:local-dir:data", "timm:hf-hub:a/b"]
)
def test_no_other_file_or_hub_can_be_named_as_a_vision_network(name, tmp_path):
    text = (Path(__file__).parent.parent / "params" / "tiny.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("network: full", f"network: {name}"))
    with pytest.raises(BegatError, match="scores_features.network: expected full, timm:NAME or"):
        specify(tmp_path, "params.yaml")


@pytest.fixture
def pipeline(tmp_path):
    """A directory with an untrained pipeline."""
    network = UNet2DModel(**ATTENTIVE.diffusers_arguments())
    DDPMPipeline(network, DDPMScheduler(50)).save_pretrained(tmp_path / "p")
    return tmp_path / "p"


@pytest.mark.parametrize("payload", FORMATS)
@pytest.mark.parametrize(
    "name",
    [
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.ckpt",
        "pytorch_model.bin",
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_no_weights_of_a_pipeline(payload, name, alone, mark, pipeline):
    if alone:
        (pipeline / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (pipeline / "unet" / name).write_bytes(payload(mark))
    if alone or name.endswith(".safetensors"):
        with pytest.raises(BegatError, match="pytorch_model"):
            pipeline_row(pipeline)
    else:
        pipeline_row(pipeline)  # from the safetensors file, whatever lies beside it


@pytest.mark.parametrize("payload", FORMATS)
def test_no_shards_of_a_pipeline(payload, mark, pipeline):
    whole = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    (pipeline / "unet" / "shard.bin").write_bytes(payload(mark))
    shards = {"metadata": {}, "weight_map": {"conv_in.weight": "shard.bin"}}
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps(shards))
    with pytest.raises(BegatError, match="expected all weights in one file"):
        pipeline_row(pipeline)


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("payload", FORMATS)
def test_no_configuration_of_a_pipeline(part, payload, mark, pipeline):
    (pipeline / part).write_bytes(payload(mark))
    with pytest.raises(BegatError, match=f"{part}: not JSON"):
        check_pipeline(pipeline, params_with(), 5)


def test_no_program_beside_a_pipeline(mark, pipeline):
    text = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    for name in ("pipeline.py", "unet/config.py", "unet/unet.py", "scheduler/scheduler.py"):
        (pipeline / name).write_text(text)
    pipeline_digest(pipeline)
    pipeline_row(pipeline)


@pytest.mark.parametrize("payload", FORMATS)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_no_image(payload, name, mark, tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / name).write_bytes(payload(mark))
    with pytest.raises(BegatError, match=f"{name}: expected a PNG"):
        list(pixels(index(FOLDER, tmp_path), FOLDER))


def test_no_postscript_named_as_an_image(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: ran.append(1))
    place = tmp_path / "data" / "images"
    place.mkdir(parents=True)
    Image.new("L", (4, 4)).save(place / "a.eps")
    (place / "a.eps").rename(place / "a.png")
    with pytest.raises(BegatError, match="a.png: expected a PNG"):
        list(pixels(index(FOLDER, tmp_path), FOLDER))
    assert not ran


@pytest.mark.parametrize("payload", FORMATS)
def test_no_manifest(payload, mark, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "list.csv").write_bytes(payload(mark))
    with pytest.raises(BegatError, match="list.csv: "):
        index(folder_with(path="data/list.csv"), tmp_path)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:pathlib.Path.touch [{mark}]",
        "!!python/object/apply:os.system ['touch \"{mark}\"']",
        "!!python/object/new:pathlib.PosixPath [{mark}]",
        "!!python/name:os.system",
        "!!python/module:os",
        "${{oc.env:HOME}}",
    ],
)
def test_no_tag_of_a_parameter_file(tag, mark, tmp_path):
    text = (Path(__file__).parent.parent / "params" / "tiny.yaml").read_text()
    value = tag.format(mark=mark)
    (tmp_path / "params.yaml").write_text(text.replace("network: full", f"network: {value}"))
    with pytest.raises(BegatError, match="params.yaml"):
        specify(tmp_path, "params.yaml")
