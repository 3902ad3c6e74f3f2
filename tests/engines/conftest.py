"""A finished run that the tests of engines share, and copies of it to change."""

import re

import pytest

from engines.workspace import Workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Everything run once by Snakemake and recorded by DVC."""
    workspace = Workspace.fresh(tmp_path_factory.mktemp("finished") / "project")
    said = workspace.snakemake()
    assert re.search(r"\[32/32\] all", said)
    workspace.snakemake("verify")
    workspace.dvc("commit", "-f")
    workspace.commit("run")
    return workspace


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished run to change."""
    return finished.copy(tmp_path / "project")


@pytest.fixture
def clone(project, tmp_path):
    """A clone of a finished run that pulled its results from a remote."""
    project.dvc("remote", "add", "-d", "store", str(tmp_path / "remote"))
    project.commit("remote")
    project.dvc("push")
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    workspace = Workspace(tmp_path / "clone")
    workspace.dvc("pull")
    return workspace
