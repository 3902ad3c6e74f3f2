"""What a job takes, from parameters alone: network evaluations, memory, disk space and files.

Sizes are in bytes. Arrays of float32 make up nearly all of memory; smaller ones are left out.
"""

import json
import math
from collections.abc import Iterable, Mapping

from begat.diffusion.bounds import BATCH, MAX_EXAMPLES, MAX_GRADIENT_NUMBERS, MAX_TAPE_NUMBERS
from begat.execution.architecture import network_size
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job, Kind
from begat.execution.methods import Method
from begat.storage.schema import chunks_of, schema_of

FLOAT = 4  # bytes
# Compressed sizes over sizes; weights and scores are noise to a compressor.
COMPRESSED = {"float32": 0.93, "float64": 0.6, "bool": 0.2, "int32": 0.4, "int64": 0.3}
STRING = 2  # compressed bytes of a name
DESCRIPTION = 750  # bytes that describe one array
ENTRY = 100  # bytes of a file in a manifest, and of an input among the attributes
RECORD = 2_500  # bytes; there is a copy, and a log
OWN_FILES = 6  # attributes, manifest, time stamp; record, its copy, log


class JobSizes:
    """The numbers that a job's cost follows from.

    Attributes:
        params: all parameters.
        job: the job.
        network: the run's network.
        images, groups: in the training set.
        all_queries: of the run.
        queries: of the job; of the run, where the job has no block of its own.
        pixels: numbers in one image.
        models: whose weights the job reads, or trains.
    """

    def __init__(self, table: JobTable, job: Job) -> None:
        """The numbers of one job."""
        spec = table.spec
        self.params, self.job, self.network = table.params, job, network_size(spec)
        self.images, self.groups = len(spec.dataset.names), len(spec.dataset.groups)
        self.all_queries = spec.blocks[-1][1]
        self.queries = job.queries[1] - job.queries[0] or self.all_queries
        self.pixels = self.params.images.channels * self.params.images.size**2
        self.models = len(job.models)
        self.own_queries = spec.query_dataset is not None
        self.all_methods = len(table.methods)

    def cost(
        self,
        kind: Kind,
        work: float,
        memory: float,
        arrays: str,
        *,
        host: float = 0.0,
        more: tuple[float, int] = (0.0, 0),
        methods: Mapping[str, Method] | None = None,
        **axes: int,
    ) -> Cost:
        """Returns the job's cost.

        Args:
            kind: of its computation.
            work: network evaluations; for ``arrays``, numbers gone through.
            memory: bytes that it takes beyond its libraries.
            arrays: the arrays of its artifact, with spaces between.
            host: bytes that are never on a GPU.
            more: bytes and files of the artifact beside its arrays.
            methods: of a scoring stage.
            axes: lengths of the arrays' axes, where they are not those of the run.
        """
        evaluations = 0.0 if kind == "arrays" else float(work)
        scale = 1 if kind == "arrays" else self.network.products
        disk, files = self.stored(arrays.split(), methods or {}, **axes)
        attributes = len(json.dumps(dict(self.job.made_from), indent=2))
        attributes += ENTRY * (len(self.job.inputs) + self.models)
        disk += attributes + ENTRY * files + 2 * RECORD + more[0]
        files += OWN_FILES + more[1]
        return Cost(kind, evaluations, work * scale, memory, host, disk, files)

    def stored(
        self, arrays: Iterable[str], methods: Mapping[str, Method], **axes: int
    ) -> tuple[float, int]:
        """Returns the compressed bytes and the files of some arrays of the job's artifact."""
        image = self.params.images
        lengths = {"image": self.images, "group": self.groups, "query": self.queries}
        lengths |= {"channel": image.channels, "y": image.size, "x": image.size, "byte": 32}
        lengths |= {"model": self.models, "member": self.models, **axes}
        lengths["parameter"] = self.network.parameters
        disk, files = 0.0, 0
        for name in arrays:
            array = schema_of(self.job.stage)[name]
            units = "images" if name.startswith("group_") else "groups"
            own = {"method": sum(method.of != units for method in methods.values())}
            shape = tuple({**own, **lengths}[axis] for axis in array.axes)
            numbers = math.prod(shape)
            size = STRING if array.dtype == "string" else array.in_memory.itemsize
            disk += numbers * size * COMPRESSED.get(array.dtype, 1.0) + DESCRIPTION
            rows = chunks_of(array, shape) if numbers else shape
            files += 1 + math.prod(-(-n // max(c, 1)) for n, c in zip(shape, rows, strict=True))
        return disk, files

    def rows(self, count: float) -> float:
        """Returns the bytes of so many sets of weights, or of gradients."""
        return FLOAT * count * self.network.parameters

    def forward(self, images: float = BATCH) -> float:
        """Returns the bytes of a network call without gradients on at most so many images."""
        return FLOAT * min(images, BATCH) * (self.network.alive + 4 * self.pixels)

    def backward(self, images: float) -> float:
        """Returns the bytes of a forward and a backward pass of so many images."""
        return FLOAT * images * (self.network.saved + self.network.alive)

    def examples(self, draws: int) -> int:
        """Returns how many examples go through the network in one call that takes gradients."""
        bound = max(1, MAX_TAPE_NUMBERS // self.network.taped)
        return min(MAX_EXAMPLES, bound, draws * max(self.images, self.all_queries))

    def gradients(self, draws: int, parts: int = 1) -> float:
        """Returns the bytes of gradients of single images, as many as are taken at a time."""
        examples = self.examples(draws)
        passes = FLOAT * examples * (self.network.taped + self.network.saved)
        images = max(1, examples // draws)
        rows = max(self.network.parameters * parts, MAX_GRADIENT_NUMBERS)
        return passes + FLOAT * 2 * min(rows, images * parts * self.network.parameters)
