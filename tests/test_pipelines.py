"""Trained pipelines that somebody brings."""

import inspect
import json

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from small import ATTENTIVE, params_with

from begat.data.pipelines import (
    FORWARD,
    SAMPLING,
    check_pipeline,
    network_of,
    pipeline_config,
    pipeline_digest,
    pipeline_row,
)
from begat.errors import BegatError

PIPELINE = {
    "images": {"size": 8, "channels": 3},
    "diffusion": {
        "beta_schedule": "linear",
        "num_train_timesteps": 50,
        "prediction_type": "epsilon",
    },
    "unet": {"class_conditional": False},
}
PARAMS = params_with(**PIPELINE)


@pytest.fixture
def pipeline(tmp_path):
    """A directory with an untrained pipeline."""
    network = UNet2DModel(**ATTENTIVE.diffusers_arguments())
    DDPMPipeline(network, DDPMScheduler(50)).save_pretrained(tmp_path / "p")
    return tmp_path / "p"


def test_a_network_taken_apart_answers_as_before(pipeline):
    check_pipeline(pipeline, PARAMS, 5)
    network = network_of(pipeline_row(pipeline), pipeline_config(pipeline))
    original = UNet2DModel.from_pretrained(pipeline, subfolder="unet")
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 40])
    assert torch.equal(network(x, t).sample, original(x, t).sample)


def test_its_digest_follows_its_weights_and_its_scheduler(pipeline):
    before = pipeline_digest(pipeline)
    assert pipeline_digest(pipeline) == before
    config = pipeline / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + "\n")
    assert pipeline_digest(pipeline) != before


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("images", "size", 16, "images.size: expected 8, as in the pipeline .*; found 16"),
        ("images", "channels", 1, "images.channels: expected 3"),
        ("diffusion", "num_train_timesteps", 1000, "diffusion.num_train_timesteps: expected 50"),
        (
            "diffusion",
            "prediction_type",
            "v_prediction",
            "diffusion.prediction_type: expected epsilon",
        ),
        (
            "diffusion",
            "beta_schedule",
            "squaredcos_cap_v2",
            "diffusion.beta_schedule: expected linear",
        ),
        ("unet", "class_conditional", True, "unet.class_conditional: expected False"),
    ],
)
def test_parameters_that_say_otherwise_are_refused(pipeline, section, key, value, message):
    params = params_with(**{**PIPELINE, section: {**PIPELINE[section], key: value}})
    with pytest.raises(BegatError, match=message):
        check_pipeline(pipeline, params, 5)


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_is_no_pipeline_or_of_another_kind_is_refused_by_name(pipeline, tmp_path):
    with pytest.raises(BegatError, match="expected a diffusers pipeline directory, found no unet"):
        pipeline_digest(tmp_path)
    changed(pipeline / "scheduler" / "scheduler_config.json", beta_schedule="sigmoid")
    with pytest.raises(BegatError, match="linear schedule .* found sigmoid"):
        check_pipeline(pipeline, PARAMS, 5)
    changed(pipeline / "unet" / "config.json", _class_name="UNet2DConditionModel")
    with pytest.raises(BegatError, match="expected a UNet2DModel .* found UNet2DConditionModel"):
        check_pipeline(pipeline, PARAMS, 5)
    (pipeline / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no")
    with pytest.raises(BegatError, match="model.safetensors: expected a .safetensors file"):
        pipeline_row(pipeline)
    (pipeline / "unet" / "config.json").write_text("{")
    with pytest.raises(BegatError, match="config.json: not JSON"):
        check_pipeline(pipeline, PARAMS, 5)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("scheduler", "trained_betas", [0.1] * 50, "trained_betas: expected none, found one"),
        ("scheduler", "rescale_betas_zero_snr", True, "rescale_betas_zero_snr: expected none"),
        ("scheduler", "_class_name", "EvilScheduler", "DDPMScheduler .* found EvilScheduler"),
        ("scheduler", "final_sigmas_type", "zero", "final_sigmas_type: expected none, found one"),
        ("scheduler", "beta_end", 0.012, r"linear schedule .* found linear \(0.0001, 0.012\)"),
        ("unet", "out_channels", 6, "out_channels: expected 3, as in_channels"),
        ("unet", "class_embed_type", "timestep", "class_embed_type: expected none"),
        ("unet", "sample_size", [8, 16], r"images.size: expected \[8, 16\], as in the pipeline"),
        ("unet", "sample_size", [], r"images.size: expected \[\], as in the pipeline"),
    ],
)
def test_what_would_silently_be_another_model_is_refused(pipeline, part, key, value, message):
    name = {"scheduler": "scheduler_config.json", "unet": "config.json"}[part]
    changed(pipeline / part / name, **{key: value})
    with pytest.raises(BegatError, match=message):
        check_pipeline(pipeline, PARAMS, 5)


@pytest.mark.parametrize(
    "cut", ["trained_betas", "beta_schedule", "clip_sample", "prediction_type"]
)
def test_absent_keys_of_a_scheduler_are_at_the_defaults_of_diffusers(pipeline, cut):
    path = pipeline / "scheduler" / "scheduler_config.json"
    written = json.loads(path.read_text())
    written.pop(cut, None)
    path.write_text(json.dumps({**written, "timestep_values": None}))
    changed(pipeline / "unet" / "config.json", sample_size=[8, 8])
    check_pipeline(pipeline, PARAMS, 5)


def test_our_table_of_a_schedulers_keys_is_all_that_diffusers_knows():
    for scheduler in (DDPMScheduler, DDIMScheduler):
        known = {**inspect.signature(scheduler.__init__).parameters}
        del known["self"], known["trained_betas"], known["rescale_betas_zero_snr"]
        assert known.keys() - SAMPLING == FORWARD.keys()
        assert {key: known[key].default for key in FORWARD} == FORWARD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[1, 2]", "expected an object with keys, found"),
        (b'"text"', "expected an object with keys, found text"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xff", "not JSON"),
        (b"", "not JSON"),
    ],
)
@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a_configuration_that_is_no_object_is_refused_by_name(pipeline, part, text, message):
    (pipeline / part).write_bytes(text)
    with pytest.raises(BegatError, match=f"{part}: {message}") as caught:
        check_pipeline(pipeline, PARAMS, 5)
    assert len(str(caught.value).splitlines()) == 1
    (pipeline / part).unlink()
    (pipeline / part).mkdir()
    with pytest.raises(BegatError, match=f"{part}: could not be read"):
        check_pipeline(pipeline, PARAMS, 5)


def rewritten(pipeline, change):
    path = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("conv_in.bias"), "found 1 missing: conv_in.bias"),
        (lambda weights: weights.update(more=torch.ones(1)), "found 1 not in the network: more"),
        (lambda weights: weights["conv_in.bias"].fill_(torch.nan), "conv_in.bias: expected finite"),
        (lambda weights: weights.update({"conv_in.bias": torch.ones(5)}), "conv_in.bias"),
    ],
)
def test_weights_that_are_not_those_of_the_network_are_refused_by_name(pipeline, change, message):
    rewritten(pipeline, change)
    with pytest.raises(BegatError, match=f"unet.*: .*{message}") as caught:
        pipeline_row(pipeline)
    assert len(str(caught.value).splitlines()) == 1


def test_a_key_that_the_network_does_not_know_is_refused(pipeline):
    changed(pipeline / "unet" / "config.json", quantization_config={"quant_method": "torchao"})
    with pytest.raises(BegatError, match="quantization_config: unknown to a UNet2DModel"):
        pipeline_row(pipeline)


@pytest.mark.parametrize(
    ("key", "value"),
    [("down_block_types", ["NoBlock"]), ("layers_per_block", "two"), ("norm_num_groups", 7)],
)
def test_a_network_that_cannot_be_built_is_refused_in_one_line(pipeline, key, value):
    changed(pipeline / "unet" / "config.json", **{key: value})
    with pytest.raises(BegatError, match="unet: could not be loaded: ") as caught:
        pipeline_row(pipeline)
    assert len(str(caught.value).splitlines()) == 1


def test_trained_betas_really_are_another_schedule():
    betas = [0.1] * 50
    plain, brought = (DDPMScheduler(50, trained_betas=b).alphas_cumprod for b in (None, betas))
    assert (plain - brought).abs().max() > 0.1


@pytest.mark.parametrize("groups", [4, 6])
def test_as_many_classes_as_groups_are_expected(pipeline, groups):
    params = params_with(**{**PIPELINE, "unet": {"class_conditional": True}})
    changed(pipeline / "unet" / "config.json", num_class_embeds=5)
    check_pipeline(pipeline, params, 5)
    message = f"num_class_embeds: expected {groups}, one for each class .* sorted name, found 5"
    with pytest.raises(BegatError, match=message):
        check_pipeline(pipeline, params, groups)
