"""Names that a shell would take for something else: of folders, environments, parameter files."""

import shutil
import site
import venv
from pathlib import Path

import pytest

from engines.workspace import Workspace

pytestmark = pytest.mark.engine
ODD = "an \"odd\" 'one'; $(touch pwned) `touch pwned` & {x} é"


def environment(root: Path) -> None:
    """An environment of the project's own, as `make demo` makes one, with what is installed here.

    The programs begin with their interpreter by a name that holds for any folder, as uv writes it.
    """
    venv.create(root, with_pip=False)
    (packages,) = root.glob("lib/python*/site-packages")
    installed = [f"import site; site.addsitedir({p!r})" for p in site.getsitepackages()]
    (packages / "installed.pth").write_text("\n".join(installed) + "\n")
    for program, module in {"snakemake": "snakemake", "begat": "begat.cli", "uv": ""}.items():
        file = root / "bin" / program
        file.write_text(f'#!/bin/sh\nexec "${{0%/*}}/python" -m {module} "$@"\n')
        file.chmod(0o755)
    (root / "ready").touch()


def test_the_demo_runs_in_a_folder_whose_name_means_something_to_a_shell(tmp_path):
    workspace = Workspace.fresh(
        tmp_path / ODD / "project", params_file='"params/x; touch pwned;.yaml"'
    )
    (workspace.root / "params" / "tiny.yaml").rename(
        workspace.root / "params" / "x; touch pwned;.yaml"
    )
    environment(workspace.root / ".venv")
    said = workspace.run("make", "demo")
    assert (workspace.root / "results" / "report" / "index.html").is_file()
    assert f"The report: {workspace.root}/results/report/index.html" in said
    workspace.run("make", "demo", fails=False)
    assert not list(tmp_path.rglob("pwned*"))


@pytest.mark.parametrize("name", ["x;touch pwned;.yaml", f"{ODD}.yaml", "a: b.yaml", "1e3"])
def test_a_parameter_file_may_have_any_name(tmp_path, name):
    workspace = Workspace.fresh(tmp_path / "project")
    shutil.copy(workspace.root / "params" / "tiny.yaml", workspace.root / "params" / name)
    workspace.begat("run", "images", "--params-file", f"params/{name}")
    assert "Nothing to do" in workspace.begat("run", "images", "--params-file", f"params/{name}")
    assert (workspace.root / "results" / "images" / "all.zarr").is_dir()
    assert not list(workspace.root.rglob("pwned*"))
