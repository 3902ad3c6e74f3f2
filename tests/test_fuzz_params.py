"""Random parameter files: each is used, or refused in one line that names it."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from fuzzing import damaged, fuzzed, refused_in_one_line
from hypothesis import given
from hypothesis import strategies as st
from small import ROOT

from begat.config.schema import fields_of, sections
from begat.planning.plan import specify
from begat.stages import PARAMS

pytestmark = pytest.mark.fuzz

TINY = (
    (ROOT / "params" / "tiny.yaml")
    .read_bytes()
    .replace(b"params_file: params/tiny", b"params_file: params")
)
RAW = yaml.safe_load(TINY)
SECTIONS = sections(PARAMS)
FIELDS = {
    (s, name): field for s, owner in SECTIONS.items() for name, field in fields_of(owner).items()
}
KEYS = list(FIELDS)
TOKENS = (
    *(
        "!!float",
        "!!int x",
        "!!bool",
        "!!timestamp",
        "!!python/name:os.system",
        "!!binary x",
        "! x",
    ),
    *("&a 1", "*a", "<<: {a: 1}", "? a", "|", ">", "%YAML 9.9", "---", "...", "{", "[", "@", "`"),
    *('"', "'", "\t", "- -", "0x10", "010", "1_000", "1:30", ".inf", "-.inf", ".nan", "1e3", "~"),
    *("1.0e+999", "9" * 5000, "2001-99-99", "2001-01-01", "yes", "???", "${seed}", "\ufeff", "#"),
)
NUMBERS = st.one_of(
    st.integers(-2, 70),
    st.integers(),
    st.integers(0, 400).map(lambda n: 10**n),
    st.integers(0, 64).map(lambda n: 2**n),
    st.floats(),
)
WORDS = st.one_of(
    st.text(max_size=9),
    st.sampled_from(["\0", "a\nb", "x" * 5000, "\ud800", "${x}", "???", "data/../..", "/dev/zero"]),
    st.sampled_from([c for field in FIELDS.values() for c in field.metadata["choices"]]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WORDS | NUMBERS, inner, max_size=3)
    ),
    max_leaves=6,
)


def planned_or_refused(text):
    with TemporaryDirectory() as folder, refused_in_one_line():
        (Path(folder) / "params.yaml").write_bytes(text)
        spec = specify(Path(folder))
        assert len(spec.models) * len(spec.blocks) <= 1_000_000


@fuzzed()
@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_random_bytes(text):
    planned_or_refused(text)


@fuzzed()
@given(damaged(TINY))
def test_damaged_bytes(text):
    planned_or_refused(text)


@fuzzed()
@given(st.sampled_from(KEYS), st.sampled_from(TOKENS), st.booleans())
def test_tokens_of_yaml_in_place_of_a_value_or_line(at, token, whole):
    section, name = at
    head, start, rest = TINY.decode().partition(f"\n{section}:\n")
    before, key, after = rest.partition(f"  {name}: ")
    _, end, after = after.partition("\n")
    line = f"  {token}" if whole else f"{key}{token}"
    planned_or_refused(f"{head}{start}{before}{line}{end}{after}".encode())


@fuzzed()
@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))
def test_other_values(changes):
    raw = copy.deepcopy(RAW)
    for (section, name), value in changes:
        raw[section][name] = value
    planned_or_refused(yaml.safe_dump(raw).encode(errors="surrogatepass"))


@fuzzed(4)
@given(
    st.sampled_from(["", *SECTIONS]),
    WORDS | st.integers() | st.sampled_from(["params_file", "seed", *SECTIONS]),
    VALUES,
    st.booleans(),
)
def test_other_keys_and_sections(section, key, value, flow):
    raw = copy.deepcopy(RAW)
    (raw[section] if section else raw)[key] = value
    planned_or_refused(yaml.safe_dump(raw, default_flow_style=flow).encode(errors="surrogatepass"))


@fuzzed(4)
@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 10**7)), min_size=1, max_size=8))
def test_numbers_of_any_size(changes):
    raw = copy.deepcopy(RAW)
    for (section, name), value in changes:
        if type(raw[section][name]) is int:
            raw[section][name] = min(value, FIELDS[section, name].metadata["le"] or 3)
    planned_or_refused(yaml.safe_dump(raw).encode())
