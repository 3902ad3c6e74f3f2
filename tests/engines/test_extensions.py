"""A method, an operator, a source, a sampler and a metric, each added as docs/howto.md says."""

import re

import pytest

from engines.workspace import Workspace

pytestmark = pytest.mark.engine

STAGE = '''\
"""Brightness of training images and queries, a scoring method that only this test has."""

from begat.evaluation.measures import SIMILARITY
from begat.execution.methods import Method
from begat.stages.declaration import Stage

METHODS = {"brightness": Method("brightness of <b>", "as bright", SIMILARITY, headline=True)}


def jobs(table):
    yield table.by_gradients("scores_brightness", ())


def run(context):
    context.materialise_scores(scores)


def scores(context):
    from begat.evaluation.brightness import similarity
    from begat.execution.results import concatenated

    queries = concatenated(context, "queries", "pixels")
    yield {"score": similarity(queries, context.input("images")["pixels"])}


STAGE = Stage(
    "scores_brightness", "", "images queries", jobs, run,
    methods=METHODS, summary="similarity of brightness", price="nothing",
)
'''
MATHEMATICS = '''\
"""Similarity of mean brightness."""

import numpy as np


def similarity(queries, images):
    query, image = queries.mean((1, 2, 3)), images.mean((1, 2, 3)) / 127.5 - 1
    return -np.abs(query[:, None] - image)[None].astype(np.float32)
'''
ENTRIES = {
    "src/begat/unlearning/operators.py": '''

@dataclass(frozen=True)
class Opposite(TargetOperator):
    """Predict the opposite of the noise."""

    name: ClassVar[str] = "opposite"
    factor: float = param("of the noise", default=-1.0, ge=-2, le=0)

    def target(self):
        return lambda context: self.factor * context.inputs.fresh_noise


OPERATORS["opposite"] = Opposite
''',
    "src/begat/data/datasets.py": """

def _pairs(root: Path, path: str) -> Dataset:
    digits = _digits(root, path)
    groups = tuple(f"{i} or {i + 5}" for i in range(5))
    membership = tuple((group % 5,) for (group,) in digits.membership)
    return Dataset(digits.names, groups, membership, digits.digests)


SOURCES["pairs"] = _pairs
""",
    "src/begat/diffusion/schedulers.py": '''

def noisier(alpha_bar: float, next_alpha_bar: float) -> UpdateWeights:
    """Half of the noise is fresh."""
    noise = ((1 - next_alpha_bar) / 2) ** 0.5
    return UpdateWeights(image=next_alpha_bar**0.5, noise=noise, fresh=noise)


SCHEDULERS["noisier"] = Scheduler(noisier, stochastic=True)
''',
    "src/begat/evaluation/ranking_metrics.py": '''

def last(score: Table, reference: Table) -> PerQuery:
    """Whether the least important group is the same."""
    return (score.argmin(1) == reference.argmin(1)).astype(float)


METRICS["last"] = RankingMetric("same last group", last)
''',
}


def test_one_entry_each_reaches_the_report(tmp_path):
    workspace = Workspace.fresh(tmp_path / "project")
    (workspace.root / "src/begat/stages/scores_brightness.py").write_text(STAGE)
    (workspace.root / "src/begat/evaluation/brightness.py").write_text(MATHEMATICS)
    for file, entry in ENTRIES.items():
        workspace.append(file, entry)
    for section, key, value in (
        ("images", "source", "pairs"),
        ("queries", "scheduler", "noisier"),
        ("unlearned", "operator", "{name: opposite, factor: -0.5}"),
    ):
        workspace.change(section, key, value)
    own = {"PYTHONPATH": str(workspace.root / "src")}
    workspace.run("python", "-m", "begat.planning.generate", **own)
    assert "scores_brightness:" in (workspace.root / "dvc.yaml").read_text()
    assert "similarity of brightness" in (workspace.root / "README.md").read_text()
    assert "`opposite`" in (workspace.root / "docs" / "parameters.md").read_text()
    assert "scores_brightness" in workspace.run("begat", "plan", **own)
    workspace.run("snakemake", "--cores", "2", **own)
    assert "Nothing to be done" in workspace.run("snakemake", "-n", **own)
    page = (workspace.root / "results" / "report" / "index.html").read_text()
    for said in ("brightness of &lt;b&gt;", "same last group", "3 or 8", "noisier", "opposite"):
        assert said in page
    said = workspace.run("begat", "top", "--query", "0", "--method", "brightness", **own)
    assert re.search(r"\(\d or \d\)", said)
