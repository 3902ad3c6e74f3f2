"""What a job's record says of the machine, and what its device must not do."""

import json
import os
import subprocess
import sys

import pytest
import torch
from small import ROOT

from begat.diffusion import noise_predictors
from begat.execution.context import JobContext
from begat.execution.machine import allows_tf32, fingerprint, memory
from begat.execution.records import provenance, record
from begat.influence import blocks
from begat.planning.plan import Plan

PLAN = Plan(ROOT, "params/tiny.yaml")


def test_a_machines_memory_is_all_of_its_pages(monkeypatch):
    assert memory() > 2**27
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10}.get)
    assert memory() == 40960


def in_a_new_process(code, **environment):
    """What Python prints there, read as JSON."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import json; from begat.execution.machine import fingerprint; {code}",
        ],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_record_names_machine_pack_and_blocks(tmp_path):
    job = PLAN.job("measurements", "member-0")
    pack = JobContext(PLAN, job).together
    record(tmp_path, job, started=0.0, computing=1.5, device="cpu", pack=pack, content="c")
    (path,) = (tmp_path / "results" / "records").iterdir()
    found = json.loads(path.read_text())
    assert found["pack"] == [model.name for model in PLAN.spec.of_kind("member")]
    assert found["blocks"] == {
        "queries": job.queries[1],
        "network": noise_predictors.BATCH,
        "gradient": blocks.MAX_EXAMPLES,
        "tape_numbers": blocks.MAX_TAPE_NUMBERS,
    }
    assert found["fingerprint"] == fingerprint("cpu")
    assert found["device"] == "cpu"
    assert found["computing_cpu_seconds"] == 1.5


def test_models_that_are_trained_or_forget_side_by_side_are_named():
    for job in PLAN.jobs("models"):
        assert JobContext(PLAN, job).together == [model.name for model in job.models]
    forgotten = [
        group for job in PLAN.jobs("unlearned") for group in JobContext(PLAN, job).together
    ]
    assert forgotten == list(PLAN.spec.dataset.groups)


def test_a_fingerprint_has_what_decides_the_last_bits():
    found = fingerprint("cpu")
    assert found["cpu"]["name"]
    assert found["cpu"]["torch"] == torch.backends.cpu.get_cpu_capability()
    assert found["threads"] == torch.get_num_threads()
    assert found["precision"] == {"dtype": "float32", "tf32": False}
    assert found["gpu"] is None
    assert any("BLAS_INFO=" in line for line in found["blas"]["torch"])
    assert found["blas"]["numpy"]


def test_kernels_that_were_asked_for_are_in_the_fingerprint():
    asked = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    found = in_a_new_process("import torch; print(json.dumps(fingerprint('cpu')))", **asked)
    assert found["settings"].items() >= asked.items()
    assert found["cpu"]["torch"] in ("DEFAULT", "NO AVX")


def test_a_job_without_torch_does_not_load_it_for_its_record():
    code = (
        "import sys; found = fingerprint('cpu'); print(json.dumps([found, 'torch' in sys.modules]))"
    )
    found, loaded = in_a_new_process(code)
    assert not loaded
    assert found["cpu"]["name"]
    assert found["cpu"]["torch"] is found["blas"]["torch"] is found["threads"] is None


@pytest.fixture
def tf32():
    """TF32 allowed wherever it can be, and what was before restored."""
    libraries = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before, threads = (matmul.allow_tf32, cudnn.allow_tf32), torch.get_num_threads()
    for library in libraries:
        library.fp32_precision = "tf32"
    yield
    # Not one by one: PyTorch then refuses to say whether cuDNN as a whole may take TF32.
    matmul.allow_tf32, cudnn.allow_tf32 = before
    torch.set_num_threads(threads)


def test_a_device_computes_without_tf32(tf32):
    assert allows_tf32(torch)
    assert JobContext(PLAN, PLAN.job("queries", "0")).device.type in ("cpu", "cuda")
    assert not allows_tf32(torch)
    assert torch.get_float32_matmul_precision() == "highest"


def test_what_was_recorded_is_joined_in_by_key(tmp_path):
    plan = Plan(ROOT, "params/tiny.yaml")
    plan.root = tmp_path
    job = plan.job("images", "all")
    record(tmp_path, job, 0.0, 1.0, "cpu", [], "c")
    rows = {(row["stage"], row["name"]): row for row in provenance(plan)}
    assert rows["images", "all"]["device"] == "cpu"
    assert rows["splits", "all"]["device"] is None
