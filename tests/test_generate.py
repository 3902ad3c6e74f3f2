"""Files that follow from others are up to date, and what they follow from is complete."""

import re

import pytest
import yaml
from small import ROOT

from begat.cli import _rules, _targets
from begat.config.documentation import commented
from begat.config.schema import fields_of, sections
from begat.execution.jobs import path_of
from begat.planning.generate import PARAMETER_FILES, generated
from begat.planning.plan import key_parameters, read_sections
from begat.stages import PARAMS, STAGES

TEXTS, SECTIONS = generated(ROOT), sections(PARAMS)


@pytest.mark.parametrize("name", TEXTS)
def test_a_generated_file_is_what_make_generate_writes(name):
    assert (ROOT / name).read_text() == TEXTS[name]


@pytest.mark.parametrize("name", PARAMETER_FILES)
def test_comments_of_parameters_are_written_anew_and_values_are_kept(name):
    text = (ROOT / name).read_text()
    bare = re.sub(r"^( *\w+: .*?) +#.*$", r"\1  # wrong", text, flags=re.MULTILINE)
    bare = bare.replace(f"# {SECTIONS['models'].__doc__}", "# wrong")
    assert yaml.safe_load(bare) == yaml.safe_load(text)
    assert bare.count("wrong") > 50
    assert commented(bare, PARAMS) == text


@pytest.mark.parametrize("name", PARAMETER_FILES)
def test_sections_are_put_into_the_declared_order(name):
    text = (ROOT / name).read_text()
    head, *blocks = text.rstrip("\n").split("\n\n")
    assert commented("\n\n".join([head, *reversed(blocks)]) + "\n", PARAMS) == text


def parameters_of(*stages):
    """All single keys that these stages list, sections spelled out."""
    keys = set()
    for name in (name for stage in stages for name in read_sections(stage)):
        section, _, key = name.partition(".")
        fields = fields_of(SECTIONS[section]) if section in SECTIONS else {}
        assert name in ("params_file", "seed") or key in ("", *fields), name
        keys |= {f"{section}.{k}" for k in fields if key in ("", k)}
    return keys


def test_every_parameter_matters_to_a_stage_unless_it_says_where_and_how_fast():
    every = {f"{section}.{key}" for section, owner in SECTIONS.items() for key in fields_of(owner)}
    idle = {name for name in every if name.startswith("compute.")}
    shown = {name for name in every if name.startswith("report.")}
    assert parameters_of(*(stage for stage in STAGES if stage != "report")) == every - idle - shown
    assert parameters_of("report") == every - idle


def test_keys_hold_all_parameters_that_a_stage_reads_but_those_that_only_plan():
    for stage in STAGES:
        plans_only = {
            f"{section}.{key}"
            for section, owner in SECTIONS.items()
            for key, field in fields_of(owner).items()
            if field.metadata["plans_only"]
        }
        assert {k for k in key_parameters(stage) if "." in k} == parameters_of(stage) - plans_only


def test_dvc_allows_every_rule_that_makes_artifacts_to_the_stages_whose_they_are():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    words = [re.fullmatch(r"begat run (\w+) --only", stage["cmd"])[1] for stage in stages]
    allowed = [rule for stage in words for rule in _rules([stage])]
    scores = [stage for stage in words if stage.startswith("scores_")]
    assert allowed.count("scores") == len(scores)  # one rule, of which each stage asks its own file
    assert [_targets([stage]) for stage in scores] == [[str(path_of(s, "all"))] for s in scores]
    each = [f"{name}_{stage.each}" for name, stage in STAGES.items() if stage.each]
    others = [name for name in STAGES if name not in scores]
    assert sorted(set(allowed)) == sorted(["scores", *each, *others])
    assert len([rule for rule in allowed if rule != "scores"]) == len(each) + len(others)
