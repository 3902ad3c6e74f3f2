"""An exported model is the same model to diffusers."""

import numpy as np
import pytest
import torch
from small import CONDITIONAL, TINY, params_with, random_rows

from begat.data.pipelines import check_pipeline, pipeline_row
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.unet import unet
from begat.execution.export import to_pipeline
from begat.storage.artifacts import write

DIFFUSION = {
    "num_train_timesteps": 100,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
}


@pytest.mark.numerics
@pytest.mark.parametrize("config", [TINY, CONDITIONAL], ids=["plain", "conditional"])
def test_the_exported_pipeline_predicts_and_noises_as_we_do(config, tmp_path):
    from diffusers import DDPMPipeline

    row = random_rows(config, 1)
    diffusion = params_with(diffusion=DIFFUSION).diffusion
    to_pipeline(row, config, diffusion).save_pretrained(tmp_path / "pipeline")
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "pipeline", local_files_only=True)
    x, t = torch.randn(1, 3, 1, 8, 8).double(), torch.tensor([[3, 50, 99]])
    label = torch.tensor([[0, 2, 4]]) if config.classes else None
    ours = unet(unflatten(row.double(), config), config, x, t, label)[0]
    theirs = pipeline.unet.double()(
        x[0], t[0], class_labels=None if label is None else label[0]
    ).sample
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    expected = cosine_schedule(100).alpha_bar.float()
    torch.testing.assert_close(pipeline.scheduler.alphas_cumprod, expected, rtol=1e-3, atol=1e-6)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert not list((tmp_path / "pipeline").rglob("*.bin"))


def test_weights_survive_an_artifact_bit_for_bit(tmp_path):
    from begat.storage.artifacts import Artifact

    rows = random_rows(TINY, 2).numpy()
    arrays = {"weights": rows, "ema_weights": rows, "training_loss": np.zeros((2, 3))}
    write(tmp_path / "x.zarr", "models", {"config": TINY.attributes()}, [arrays])
    found = Artifact(tmp_path / "x.zarr", "models")
    np.testing.assert_array_equal(found["weights"], rows)
    assert type(TINY).from_attributes(found.attributes["config"]) == TINY


@pytest.mark.parametrize("config", [TINY, CONDITIONAL], ids=["plain", "conditional"])
def test_an_exported_pipeline_can_be_the_full_model(config, tmp_path):
    row = random_rows(config, 1)
    images = {"size": config.sample_size, "channels": config.image_channels}
    unet = {"class_conditional": bool(config.classes)}
    params = params_with(images=images, diffusion=DIFFUSION, unet=unet)
    to_pipeline(row, config, params.diffusion).save_pretrained(tmp_path)
    check_pipeline(tmp_path, params, config.classes)
    assert np.isin(pipeline_row(tmp_path), row.numpy()).all()
