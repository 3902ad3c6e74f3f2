"""Curvature in files: few of them however many layers there are, and nothing lost in them."""

import numpy as np
import pytest
import torch
from small import DEEP, random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.schedules import cosine_schedule
from begat.errors import BegatError
from begat.execution.factor_arrays import arrays_by_layer, flat_arrays, layer_shapes
from begat.influence.factors import FactorsConfig, factors
from begat.influence.gradient_source import ImageSet
from begat.storage.artifacts import ALIGNMENT, Artifact, write
from begat.storage.schema import schema_of

GROUPS = np.eye(2, dtype=bool)


@pytest.fixture(scope="module")
def found():
    row = random_rows(DEEP, 1)[0]
    denoiser = unet_denoiser(row, DEEP, cosine_schedule(50), "v_prediction", torch.device("cpu"))
    images = ImageSet(random_images(2, DEEP), None, range(2))
    return factors(denoiser, images, GROUPS, FactorsConfig(draws=2), seed=0)


def written(path, found):
    write(path, "factors", {"layers": layer_shapes(found)}, flat_arrays(found))
    return Artifact(path, "factors")


def same(back, found):
    assert list(back) == list(found)
    for layer, arrays in found.items():
        assert set(back[layer]) == set(arrays)
        for kind, values in arrays.items():
            np.testing.assert_array_equal(back[layer][kind], values)
            assert back[layer][kind].ctypes.data % ALIGNMENT == 0


def test_arrays_by_layer_come_back_as_they_were_and_to_where_torchs_own_begin(found, tmp_path):
    assert {kind for arrays in found.values() for kind in arrays} == set(schema_of("factors"))
    same(arrays_by_layer(written(tmp_path / "x.zarr", found)), found)


def test_a_hundred_layers_take_a_few_files(found, tmp_path):
    artifact = written(tmp_path / "x.zarr", found)
    assert len(found) > 60
    assert sum(path.is_file() for path in artifact.path.rglob("*")) <= 30


def test_a_damaged_chunk_is_not_believed(found, tmp_path):
    artifact = written(tmp_path / "x.zarr", found)
    chunk = next(artifact.path.glob("eigenvalues/c*"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(BegatError, match="eigenvalues/c.0: damaged"):
        arrays_by_layer(Artifact(artifact.path, "factors"))


def test_layers_without_any_array_of_a_kind_or_at_all_keep_their_place(found, tmp_path):
    plain = {
        layer: {kind: v for kind, v in arrays.items() if not kind.startswith(("group", "param"))}
        for layer, arrays in found.items()
    }
    assert not plain["conv_norm_out"]
    same(arrays_by_layer(written(tmp_path / "x.zarr", plain)), plain)
