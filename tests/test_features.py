"""Similarity in the eyes of networks: the model's own, and those a person names."""

import sys
import types

import numpy as np
import pytest
import torch
from small import TINY, random_images, random_rows

from begat.core.denoisers import unet_denoiser
from begat.core.diffusion import cosine_schedule
from begat.core.gradients import Sample
from begat.core.image_draws import common_draws
from begat.errors import BegatError
from begat.io.vision import named_network
from begat.stages.scores_features import foreign_features, own_features, similarity

CPU = torch.device("cpu")
PIXELS = random_images(9, TINY)
SAMPLE = Sample(PIXELS, None, range(9))
DRAWS = common_draws(0, "scores_features", 4, 50, (1, 8, 8))


class Means(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(3)


@pytest.mark.numerics
def test_an_image_is_most_like_itself_in_the_models_own_eyes():
    row = random_rows(TINY, 1)[0].double()
    denoiser = unet_denoiser(row, TINY, cosine_schedule(50), "v", CPU)
    found = own_features(denoiser, SAMPLE, DRAWS)
    assert found.shape == (9, 16)
    (same,) = similarity(found[:3], found)
    assert same.argmax(1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(same[np.arange(3), np.arange(3)], 1, rtol=1e-9)
    alone = own_features(denoiser, SAMPLE.only([4]), DRAWS)
    np.testing.assert_allclose(alone[0], found[4], rtol=1e-9, atol=1e-9)


def test_a_network_without_a_middle_is_refused():
    denoiser = unet_denoiser(random_rows(TINY, 1)[0], TINY, cosine_schedule(50), "v", CPU)
    with pytest.raises(BegatError, match="has no mid_block; name another"):
        own_features(denoiser.with_module(torch.nn.Identity()), SAMPLE, DRAWS)


@pytest.mark.numerics
def test_a_network_from_a_file_sees_colour_whatever_the_images_are(tmp_path):
    batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(Means(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=batch)
    torch.export.save(exported, tmp_path / "means.pt2")
    network = named_network("file:means.pt2", tmp_path, CPU)
    found = foreign_features(network, SAMPLE, CPU)
    expected = np.repeat(PIXELS.mean(3) / 127.5 - 1, 3, 1).reshape(9, -1)
    # pixels in -1..1 are rounded twice, and so is each of a mean's eight sums
    np.testing.assert_allclose(found, expected, rtol=0, atol=12 * 2**-24)


def test_what_is_no_network_is_refused_in_words(tmp_path):
    (tmp_path / "bad.pt2").write_text("no")
    for name in ("bad.pt2", "absent.pt2"):
        with pytest.raises(BegatError, match=f"{name}: expected a network exported by"):
            named_network(f"file:{name}", tmp_path, CPU)
    with pytest.raises(BegatError, match="one row of features per image"):
        foreign_features(lambda image: image[:1], SAMPLE, CPU)


@pytest.mark.numerics
def test_a_network_of_timm_gets_images_as_it_was_trained_on(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BegatError, match="pip install timm"):
        named_network("timm:tiny", tmp_path, CPU)
    network = torch.nn.Flatten()
    network.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (3, 4, 4)}
    asked = []

    def create_model(name, **how):
        asked.append((name, how))
        if name == "unknown":
            raise RuntimeError("no such\nmodel")
        return network

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    found = named_network("timm:tiny", tmp_path, CPU)(torch.full((2, 3, 8, 8), 0.25))
    assert asked == [("tiny", {"pretrained": True, "num_classes": 0})]
    np.testing.assert_allclose(found, torch.full((2, 48), 0.25), rtol=1e-5)
    with pytest.raises(BegatError, match="timm:unknown: no such model"):
        named_network("timm:unknown", tmp_path, CPU)
