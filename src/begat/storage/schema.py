"""What every artifact holds: arrays, axes, types, units. Writing and reading check against it.

An artifact is a Zarr v3 group ``results/<stage>/<name>.zarr``. ``VERSION`` is part of every key:
raise it when the meaning or layout of an array changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from begat.errors import BegatError

VERSION = 4
CHUNK_BYTES = 16 << 20
STRING = np.dtypes.StringDType()  # strings of any length


@dataclass(frozen=True)
class Array:
    """One array: its dtype, axes and unit; whether it may hold NaN, or be absent altogether.

    ``dtype`` is Zarr's name: NumPy's too, but for ``string`` (variable-length UTF-8).
    """

    dtype: str
    axes: tuple[str, ...]
    unit: str
    nan: bool = False
    optional: bool = False

    @property
    def in_memory(self) -> np.dtype:
        """The dtype of the array in memory."""
        return STRING if self.dtype == "string" else np.dtype(self.dtype)


def _array(dtype: str, axes: str, unit: str, **more: bool) -> Array:
    return Array(dtype, tuple(axes.split()), unit, **more)


PIXEL = "model range, -1 to 1"
LOSS = "squared noise error, mean over pixels"
UNLEARNING = ("forget_loss", "forget_rise", "retain_loss", "retain_drift")
SQUARE = "squared gradient"
SCORE = "of each method, in the attribute measures"

SCHEMAS: Mapping[str, Mapping[str, Array]] = {
    "images": {
        "pixels": _array("uint8", "image channel y x", "level, 0 to 255"),
        "member_of": _array("bool", "group image", "membership"),
        "name": _array("string", "image", "name"),
        "sha256": _array("uint8", "image byte", "sha256 of repr(shape), then of the pixels' bytes"),
        "file_sha256": _array("uint8", "image byte", "sha256 of the file (of a digit's CSV row)"),
        "copy_of": _array("int32", "image", "first image with the same pixels"),
        "cluster": _array("int32", "image", "first image of the near-duplicates"),
        "label": _array("int32", "image", "class, -1 for none"),
    },
    "splits": {
        "trains_on": _array("bool", "model image", "membership"),
        "member_code": _array("bool", "image member", "code bit", optional=True),
        "group_member_code": _array("bool", "group member", "code bit", optional=True),
    },
    "models": {
        "weights": _array("float32", "model parameter", "network parameter"),
        "ema_weights": _array("float32", "model parameter", "network parameter"),
        "training_loss": _array(
            "float32", "model step", "training loss, mean over pixels", optional=True
        ),
        "snapshots": _array("float32", "model step parameter", "network parameter", optional=True),
    },
    "unlearned": {
        "weights": _array("float32", "group parameter", "network parameter"),
        **{curve: _array("float32", "group step", LOSS) for curve in UNLEARNING},
        "stopped_at": _array("int64", "group", "steps until the goal, -1 if not reached"),
    },
    "checkpoint": {
        "weights": _array("float32", "model parameter", "network parameter"),
        "ema_weights": _array("float32", "model parameter", "network parameter"),
        "exp_avg": _array("float32", "model parameter", "mean gradient"),
        "exp_avg_sq": _array("float32", "model parameter", "mean squared gradient"),
        "training_loss": _array("float32", "model step", LOSS, optional=True),
        "snapshots": _array("float32", "model step parameter", "network parameter", optional=True),
        **{curve: _array("float32", "model step", LOSS, optional=True) for curve in UNLEARNING},
        "stopped_at": _array("int64", "model", "steps until the goal", optional=True),
    },
    "queries": {
        "pixels": _array("float32", "query channel y x", PIXEL),
        "noise": _array("float32", "query step channel y x", "standard normal"),
        "label": _array("int32", "query", "class, -1 for none"),
        "name": _array("string", "query", "name"),
        "group": _array("string", "query", "its groups, joined by '; '"),
        "condition": _array("string", "query", "name of its class, empty for none"),
        "file_sha256": _array("uint8", "query byte", "sha256 of the file, zeros if generated"),
    },
    "measurements": {
        "loss": _array("float32", "model query draw", LOSS),
        "timestep": _array("int32", "query draw", "timestep, from 0"),
        "gram": _array("float64", "query member member", LOSS, optional=True),
    },
    "counterfactuals": {
        "factual": _array("float32", "query channel y x", PIXEL),
        "pixels": _array("float32", "query slot channel y x", PIXEL),
        "unit": _array(
            "int32", "query slot", "index of the image or group removed, -1 for an unused code"
        ),
        "distance": _array("float32", "query slot", "RMS pixel difference, 0 to 1"),
    },
    "factors": {  # of all layers, flat, one behind another: see ``execution.factor_arrays``
        "activation_eigenvectors": _array("float32", "value", "direction", optional=True),
        "activation_eigenvalues": _array("float32", "value", "squared input", optional=True),
        "gradient_eigenvectors": _array("float32", "value", "direction", optional=True),
        "gradient_eigenvalues": _array("float32", "value", SQUARE, optional=True),
        "parameter_eigenvectors": _array("float32", "value", "direction", optional=True),
        **{
            f"{kind}eigenvalues": _array("float32", "value", SQUARE, optional=True)
            for kind in ("", "bias_", "parameter_")
        },
        **{
            f"group_{kind}eigenvalues": _array("float32", "group value", SQUARE, optional=True)
            for kind in ("", "bias_", "parameter_")
        },
    },
    "scores": {
        "score": _array("float32", "method query image", SCORE, optional=True),
        "p_value": _array("float32", "method query image", "probability", optional=True),
        "reliability": _array(
            "float32", "method query", "correlation of two halves of the draws", optional=True
        ),
        "distance": _array("float32", "query image", "RMS, 0 to 1", nan=True, optional=True),
        "group_score": _array("float32", "method query group", SCORE, optional=True),
        "uncertainty": _array("float32", "method query image", SCORE, optional=True),
        "group_uncertainty": _array("float32", "method query group", SCORE, optional=True),
        "group_p_value": _array("float32", "method query group", "probability", optional=True),
        "group_distance": _array("float32", "query group", "RMS, 0 to 1", optional=True),
        "within": _array("float32", "query image", "share of the group named first", optional=True),
    },
    "aggregated": {
        "score": _array("float32", "method query group", SCORE),
        "uncertainty": _array("float32", "method query group", "standard deviation, as score"),
    },
    "metrics": {
        table: _array("float32", "method query", "rank correlation", nan=True, optional=True)
        for table in ("lds", "group_lds", "logo_spearman")
    },
    "report": {},
}


def schema_of(stage: str) -> Mapping[str, Array]:
    """The arrays of a stage's artifacts; all methods' scores share one schema."""
    return SCHEMAS["scores" if stage.startswith("scores_") else stage]


def checked(stage: str, where: str, name: str, values: np.ndarray) -> np.ndarray:
    """``values`` as the schema wants them.

    Raises:
        BegatError: an array the schema does not know, another number of axes, a dtype that would
            not fit, NaN where none may be.
    """
    schemas = schema_of(stage)
    if name not in schemas:
        raise BegatError(f"{where}: expected arrays {', '.join(schemas)}, found {name}")
    array, values = schemas[name], np.asarray(values)
    if values.ndim != len(array.axes):
        raise BegatError(
            f"{where}: {name}: expected axes {', '.join(array.axes)}, found shape {values.shape}"
        )
    if values.dtype != array.in_memory:
        if not np.can_cast(values.dtype, array.in_memory, "same_kind"):
            raise BegatError(f"{where}: {name}: expected {array.dtype}, found {values.dtype}")
        values = values.astype(array.in_memory)
    if values.dtype.kind == "f" and not array.nan and not np.isfinite(values).all():
        first = np.argwhere(~np.isfinite(values))[0]
        at = ", ".join(f"{axis} {i}" for axis, i in zip(array.axes, first, strict=True))
        raise BegatError(
            f"{where}: {name}: expected finite numbers, found {values[tuple(first)]} at {at}"
        )
    return values


def chunks_of(array: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Whole rows of the first axis, as many as make a chunk of at most 16 MiB; one per model."""
    row = int(np.prod(shape[1:], dtype=np.int64)) * array.in_memory.itemsize
    rows = (
        1
        if array.axes[0] in ("model", "group") and array.axes[-1] == "parameter"
        else CHUNK_BYTES // max(row, 1)
    )
    return (max(1, min(rows, shape[0])), *(max(1, n) for n in shape[1:]))
