"""What all tests share: types checked at run time, few threads, small networks and datasets."""

import os

os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("begat", "typecheck.checked")

import pytest  # noqa: E402
import torch  # noqa: E402
from small import CONFIGS  # noqa: E402

from begat.diffusion.unet import UNetConfig  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(params=CONFIGS, ids=str)
def config(request: pytest.FixtureRequest) -> UNetConfig:
    """Networks of every supported kind of part."""
    return CONFIGS[request.param]
