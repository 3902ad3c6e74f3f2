"""Digests and duplicates of images."""

import numpy as np
import pytest
from small import random_images

from begat.data.encoding import clusters, encode
from begat.diffusion.unet import UNetConfig

pytestmark = pytest.mark.numerics

CONFIG = UNetConfig(8, 1, (8, 16), 1, (False, False), False, 8, 8)


def encoded(pixels, near=0.0, membership=None):
    blocks = list(encode(iter(pixels), membership or [(0,)] * len(pixels), 1, near))
    names = {name for block in blocks for name in block}
    return {name: np.concatenate([b[name] for b in blocks if name in b]) for name in names}


def test_blocks_put_together_are_the_images_in_order(monkeypatch):
    pixels = random_images(50, CONFIG)
    whole = encoded(pixels, 0.05)
    monkeypatch.setattr("begat.data.encoding.BLOCK", 7)
    for name, array in encoded(pixels, 0.05).items():
        np.testing.assert_array_equal(array, whole[name])
    np.testing.assert_array_equal(whole["pixels"], pixels)


def test_equal_images_have_equal_digests_and_name_the_first():
    pixels = random_images(10, CONFIG)
    pixels[[4, 7]] = pixels[2]
    arrays = encoded(pixels)
    assert arrays["copy_of"].tolist() == [0, 1, 2, 3, 2, 5, 6, 2, 8, 9]
    np.testing.assert_array_equal(arrays["cluster"], arrays["copy_of"])
    assert len(np.unique(arrays["sha256"], axis=0)) == 8


def test_near_duplicates_are_those_within_the_distance_and_chains_of_them():
    pixels = random_images(6, CONFIG).astype(int)
    pixels[3] = np.clip(pixels[0] + 5, 0, 255)  # 5/255 = .0196
    pixels[5] = np.clip(pixels[3] + 5, 0, 255)
    pixels = pixels.astype(np.uint8)
    assert encoded(pixels, 0.03)["cluster"].tolist() == [0, 1, 2, 0, 4, 0]
    assert encoded(pixels, 0.01)["cluster"].tolist() == [0, 1, 2, 3, 4, 5]


def test_distances_are_those_by_hand(monkeypatch):
    monkeypatch.setattr("begat.data.encoding.BLOCK", 4)
    features = np.random.default_rng(0).random((15, 20)).astype(np.float32)
    distance = np.sqrt(((features[:, None] - features) ** 2).mean(-1))
    limit = float(np.quantile(distance[np.triu_indices(15, 1)], 0.03))
    label = np.arange(15)
    for _ in range(15):
        for i, j in zip(*np.nonzero(distance <= limit), strict=True):
            label[i] = label[j] = min(label[i], label[j])
    cluster = clusters(features, np.arange(15, dtype=np.int32), limit)
    np.testing.assert_array_equal(cluster, label)


def test_large_images_are_compared_by_their_averages():
    config = UNetConfig(96, 3, (8,), 1, (False,), False, 8, 8)
    pixels = random_images(3, config)
    pixels[2] = pixels[0]
    pixels[2, :, ::2, ::2] ^= 1
    assert encoded(pixels, 0.01)["cluster"].tolist() == [0, 1, 0]


@pytest.mark.parametrize("of", [[(0,), (), (0, 1)]])
def test_membership_becomes_a_table_of_groups_by_images(of):
    pixels = random_images(3, CONFIG)
    *_, last = encode(iter(pixels), of, 2, 0.0)
    assert last["member_of"].astype(int).tolist() == [[1, 0, 1], [0, 0, 1]]
