"""Similarity in the eyes of networks: the model's own, and those a person names."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small import TINY, random_images, random_rows

from begat.data.vision import named_network
from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.draws import common_draws
from begat.diffusion.schedules import cosine_schedule
from begat.errors import BegatError
from begat.influence.features import denoiser_features, similarity, vision_features
from begat.influence.gradient_source import ImageSet

CPU = torch.device("cpu")
PIXELS = random_images(9, TINY)
IMAGES = ImageSet(PIXELS, None, range(9))
DRAWS = common_draws(0, "scores_features", 4, 50, (1, 8, 8))


@pytest.mark.numerics
def test_an_image_is_most_like_itself_in_the_models_own_eyes():
    row = random_rows(TINY, 1)[0].double()
    denoiser = unet_denoiser(row, TINY, cosine_schedule(50), "v_prediction", CPU)
    found = denoiser_features(denoiser, IMAGES, DRAWS)
    assert found.shape == (9, 16)
    (same,) = similarity(found[:3], found)
    assert same.argmax(1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(same[np.arange(3), np.arange(3)], 1, rtol=1e-9)
    alone = denoiser_features(denoiser, IMAGES.subset([4]), DRAWS)
    np.testing.assert_allclose(alone[0], found[4], rtol=1e-9, atol=1e-9)


def test_a_network_without_a_middle_is_refused():
    denoiser = unet_denoiser(
        random_rows(TINY, 1)[0], TINY, cosine_schedule(50), "v_prediction", CPU
    )
    with pytest.raises(BegatError, match="has no mid_block; use a vision network"):
        denoiser_features(replace(denoiser, module=torch.nn.Identity()), IMAGES, DRAWS)


def test_features_that_are_not_one_row_per_image_are_refused():
    with pytest.raises(BegatError, match="expected one row per image from the vision network"):
        vision_features(lambda image: image[:1], IMAGES, CPU)


@pytest.mark.numerics
def test_a_network_of_timm_gets_images_as_it_was_trained_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BegatError, match="pip install timm"):
        named_network("tiny", None, CPU)
    network = torch.nn.Flatten()
    network.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (3, 4, 4)}
    asked = []

    def create_model(name, **how):
        asked.append((name, how))
        if name == "unknown":
            raise RuntimeError("no such\nmodel")
        return network

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    found = named_network("tiny", None, CPU)(torch.full((2, 3, 8, 8), 0.25))
    assert asked == [("tiny", {"pretrained": True, "num_classes": 0})]
    np.testing.assert_allclose(found, torch.full((2, 48), 0.25), rtol=1e-5)
    with pytest.raises(BegatError, match="timm:unknown: no such model"):
        named_network("unknown", None, CPU)


@pytest.fixture
def timm(monkeypatch):
    """timm with one network: the sum over pixels of each colour, times a weight."""

    class Colours(torch.nn.Module):
        pretrained_cfg = {"mean": (0,) * 3, "std": (1,) * 3, "input_size": (3, 8, 8)}

        def __init__(self):
            super().__init__()
            self.pretrained_cfg = {**Colours.pretrained_cfg, "classifier": "fc"}
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, image):
            return image.sum((2, 3)) * self.weight

    def create_model(name, pretrained, num_classes):
        assert not pretrained
        return Colours()

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))


def test_weights_from_a_file_are_those_that_are_used(timm, tmp_path):
    path, doubled = tmp_path / "eyes.safetensors", torch.full((3,), 2.0)
    images = torch.ones(2, 3, 8, 8)
    save_file({"weight": torch.ones(3)}, path)
    once = named_network("tiny", path, CPU)(images)
    save_file({"weight": doubled, "fc.weight": torch.ones(5, 3)}, path)  # a classifier is unused
    assert torch.equal(named_network("tiny", path, CPU)(images), 2 * once)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "Missing key.*weight"),
        ({"weight": torch.ones(4)}, "size mismatch for weight"),
        ({"weight": torch.ones(3), "other": torch.ones(3)}, "Unexpected key.*other"),
        ({"weight": torch.tensor([1, torch.nan, 1])}, "weight: expected finite numbers"),
        (None, "expected a .safetensors file of weights, found none"),
        (b"no", "expected a .safetensors file of weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(timm, tmp_path, weights, message):
    path = tmp_path / "eyes.safetensors"
    if isinstance(weights, bytes):
        path.write_bytes(weights)
    elif weights is not None:
        save_file(weights, path)
    with pytest.raises(BegatError, match=f"eyes.safetensors: .*{message}") as caught:
        named_network("tiny", path, CPU)
    assert "\n" not in str(caught.value)
