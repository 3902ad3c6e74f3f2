"""Files that follow from others are up to date, and what they follow from is complete."""

import re

import pytest
import yaml
from small import ROOT

from begat.cli import _rules
from begat.config.load import commented
from begat.config.schema import SECTIONS, fields_of
from begat.planning.generate import PARAMETER_FILES, generated
from begat.stages import STAGES

TEXTS = generated(ROOT)


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
    assert commented(bare) == text


def parameters_of(*stages):
    """All single keys that these stages list, sections spelled out."""
    found = set()
    for name in (name for stage in stages for name in STAGES[stage].parameters.split()):
        section, _, key = name.partition(".")
        known = fields_of(section) if section in SECTIONS else {}
        assert name in ("use", "seed") or key in ("", *known), name
        found |= {f"{section}.{k}" for k in known if key in ("", k)}
    return found


def test_every_parameter_matters_to_a_stage_unless_it_says_where_and_how_fast():
    every = {f"{section}.{key}" for section in SECTIONS for key in fields_of(section)}
    idle = {name for name in every if name.startswith("compute.")}
    shown = {name for name in every if name.startswith("report.")}
    assert parameters_of(*(stage for stage in STAGES if stage != "report")) == every - idle - shown
    assert parameters_of("report") == every - idle


def test_dvc_allows_every_rule_that_makes_artifacts_to_exactly_one_stage():
    texts = [path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk")]
    rules = [rule for text in texts for rule in re.findall(r"^rule (\w+):", text, re.MULTILINE)]
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    words = [re.fullmatch(r"begat run (\w+) --only", stage["cmd"])[1] for stage in stages]
    allowed = [rule for stage in words for rule in _rules([stage])]
    assert sorted(allowed) == sorted({*rules} - {"all", "verify"})
