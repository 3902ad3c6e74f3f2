"""Training batches: stateless, fair, and paired between models of one stream."""

import numpy as np
import pytest
import torch
from small import TINY

from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.pixels import to_model_range
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.training_batches import BatchSampler, TrainingImages

pytestmark = pytest.mark.numerics

IMAGES = 30
ALL = torch.ones(IMAGES, dtype=torch.bool)


def batch(stream, step, on=ALL, flip=True, size=8):
    data = TrainingImages(np.zeros((IMAGES, 1, 4, 4), np.uint8), None, flip)
    network = PackedNetwork(TINY, cosine_schedule(100), "v_prediction")
    return BatchSampler(data, network, 3, size).draw(stream, step, on)


def test_a_model_that_sees_all_images_sees_each_once_per_epoch():
    seen = torch.cat([batch("a", step, size=10).image for step in range(3)])
    assert torch.equal(seen.sort().values, torch.arange(IMAGES))


def test_a_model_never_sees_what_it_must_not():
    on = torch.arange(IMAGES) % 3 == 0
    seen = torch.cat([batch("a", step, on).image for step in range(100)])
    assert on[seen].all()


def test_every_image_is_seen_equally_often_in_expectation():
    on = torch.arange(IMAGES) < 10
    seen = torch.cat([batch("a", step, on).image for step in range(1500)])
    counts = torch.bincount(seen, minlength=IMAGES)[:10].float()
    assert ((counts - 1200).abs() < 5 * 1200**0.5).all()


def test_models_of_one_stream_share_all_they_may():
    on = torch.ones(IMAGES, dtype=torch.bool)
    on[:3] = False
    for step in range(20):
        full, without = batch("full", step), batch("full", step, on)
        shared = on[full.image]
        assert torch.equal(full.image[shared], without.image[shared])
        assert torch.equal(full.noise, without.noise)
        assert torch.equal(full.timestep, without.timestep)
        assert torch.equal(full.flip, without.flip)


def test_streams_and_steps_are_independent():
    first, other, later = batch("a", 0), batch("b", 0), batch("a", 1)
    assert not torch.equal(first.noise, other.noise)
    assert not torch.equal(first.noise, later.noise)
    assert not torch.equal(first.image, other.image)


def test_nothing_is_mirrored_unless_asked():
    assert not batch("a", 0, flip=False).flip.any()
    assert batch("a", 0).flip.any()


def test_a_batch_larger_than_the_dataset_walks_through_several_epochs():
    image = batch("a", 0, size=2 * IMAGES).image
    assert torch.equal(image.bincount(minlength=IMAGES), torch.full((IMAGES,), 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_are_scaled_alike_by_numpy_and_torch(dtype):
    pixels = np.arange(256, dtype=np.uint8)
    scaled = to_model_range(torch.from_numpy(pixels).to(dtype))
    np.testing.assert_array_equal(scaled, to_model_range(pixels.astype(scaled.numpy().dtype)))
    assert (scaled[0], scaled[-1]) == (-1, 1)
