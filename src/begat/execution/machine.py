"""The fingerprint of a machine: what decides the last bits of what a process computes on it."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Instruction sets for which libraries have kernels of their own, as Linux names them.
FLAGS = ["sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile"]
FLAGS += ["asimd", "sve", "sve2"]
# Environment variables by which libraries choose kernels, threads and precision.
SETTINGS = ["MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"]
SETTINGS += ["OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
SETTINGS += ["NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"]


def fingerprint(device: str) -> dict[str, Any]:
    """CPU, GPU, matrix libraries, threads and precision of this process, as plain JSON values.

    What only torch can say (its instruction set, BLAS, threads and precision) is None where the
    process has not loaded it: it takes seconds, and such a process computes nothing with it.

    Args:
        device: where the process computes, ``cpu`` or ``cuda``.
    """
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and device.startswith("cuda")
    return {
        "cpu": {**_cpu(), "torch": torch and torch.backends.cpu.get_cpu_capability()},
        "gpu": _gpu(torch) if on_gpu else None,
        "blas": {"numpy": _numpy_blas(), "torch": torch and _torch_blas(torch)},
        "threads": torch and torch.get_num_threads(),
        "precision": {
            "dtype": torch and str(torch.get_default_dtype()).removeprefix("torch."),
            "tf32": on_gpu and allows_tf32(torch),
        },
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def memory() -> int:
    """How much memory the machine has, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def visible_gpus() -> int:
    """NVIDIA devices on this machine that the process may use, without importing torch."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        return len([d for d in shown.split(",") if d.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def gpu_memory() -> int | None:
    """Returns the memory of the smallest NVIDIA GPU here, in bytes; None where none says it."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return min(int(line) for line in done.stdout.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def forbid_tf32() -> None:
    """Let float32 be float32 on GPUs too.

    Convolutions would take TF32 there by default: 10 bits of mantissa instead of 23.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def allows_tf32(torch: Any) -> bool:
    """Whether a GPU may take TF32 in place of float32 in matrix products or convolutions."""
    libraries = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    return any(library.fp32_precision == "tf32" for library in libraries)


def _cpu() -> dict[str, Any]:
    """Name and instruction sets of the first CPU, as far as the system names them."""
    source = Path("/proc/cpuinfo")
    text = source.read_text() if source.is_file() else ""
    lines = re.findall(r"^([^\t:]+?)\s*:[ \t]*(.*)$", text.split("\n\n")[0], re.MULTILINE)
    first: dict[str, str] = dict(lines)
    flags = first.get("flags", first.get("Features", "")).split()
    return {
        "name": first.get("model name", platform.processor() or platform.machine()),
        "family": [first.get(name) for name in ("cpu family", "model", "stepping")],
        "instruction_sets": [flag for flag in FLAGS if flag in flags],
    }


def _gpu(torch: Any) -> dict[str, Any]:
    driver = Path("/proc/driver/nvidia/version")
    return {
        "name": torch.cuda.get_device_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "driver": driver.read_text().splitlines()[0] if driver.is_file() else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _numpy_blas() -> str:
    built: Any = np.show_config(mode="dicts")
    library = built["Build Dependencies"]["blas"]
    return f"{library['name']} {library['version']}"


def _torch_blas(torch: Any) -> list[str]:
    """The lines of torch's configuration that name its matrix libraries."""
    told: str = torch.__config__.show()
    libraries = re.findall(r"^ *- (.*(?:Math Kernel|MKL-DNN|CuDNN|MAGMA).*)$", told, re.MULTILINE)
    return libraries + re.findall(r"\b(?:BLAS|LAPACK)_INFO=\w+", told)
