"""What the commands of the Makefile call, and when they stop."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from small import ROOT

from begat.planning.generate import naming


@pytest.fixture
def make(tmp_path):
    """Runs ``make`` in a folder without an environment, beside programs that note their words."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "bin").mkdir()

    def run(*words, verified=True):
        for program, code in (("snakemake", 0 if verified else 1), ("dvc", 0)):
            stub = tmp_path / "bin" / program
            stub.write_text(f'#!/bin/sh\nprintf "%s|" {program} "$@" >> called\nexit {code}\n')
            stub.chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path}/bin:{sys.prefix}/bin:{os.defpath}"}
        environment["PYTHONPATH"] = str(ROOT / "src")
        done = subprocess.run(
            ["make", *words], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        return done.returncode, (tmp_path / "called").read_text()

    return run


def test_commit_checks_then_records_in_the_environment_in_use(make, tmp_path):
    assert make("commit") == (0, "snakemake|--cores|all|verify|dvc|commit|--force|")
    assert not (tmp_path / ".venv").exists()
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_commit_of_another_parameter_file_lets_dvc_know_it(make, tmp_path):
    code, called = make("commit", "PARAMS_FILE=params/a run; x.yaml")
    assert code == 0
    assert "verify|--config|params_file=params/a run; x.yaml|dvc" in called
    assert (
        yaml.safe_load((tmp_path / "params.yaml").read_text())["params_file"]
        == "params/a run; x.yaml"
    )


def test_what_is_not_verified_is_not_recorded(make, tmp_path):
    code, called = make("commit", "PARAMS_FILE=params/tiny.yaml", verified=False)
    assert code != 0
    assert "dvc" not in called
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_naming_a_parameter_file_changes_one_line_and_leaves_its_comment():
    text = (ROOT / "params.yaml").read_text()
    changed = naming("params/tiny.yaml", text)
    assert re.search(
        r"^params_file: params/tiny.yaml  # in params.yaml: the file", changed, re.MULTILINE
    )
    assert naming("params.yaml", changed) == text
