"""The documentation: links, files, parameters and commands that exist, and plain words."""

import importlib.util
import re

import pytest
import yaml
from small import ROOT

import begat
from begat.cli import commands
from begat.config.schema import fields_of, sections
from begat.stages import PARAMS, STAGES

PAGES = sorted([ROOT / "README.md", ROOT / "data" / "README.md", *(ROOT / "docs").glob("*.md")])
PARAMETER_FILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
ENDINGS = "csv|gz|html|css|json|lock|md|png|py|smk|svg|toml|txt|yaml|yml|zip"
FOLDERS = "benchmarks|docs|params|src|tests|workflow"  # the others have files that a run writes
PACKAGES = [path.parent.name for path in (ROOT / "src" / "begat").glob("*/__init__.py")]
FILLER = """blazing crucial easily effortless effortlessly handy just magic magical obviously
of_course powerful really robustly seamless seamlessly simply super very"""
FIGURATIVE = """house houses room rooms door doors attic attics floor floors masonry signpost
yardstick yardsticks judge judges judged judging rival rivals verdict verdicts witness witnesses
twin twins constitution forgetful"""
PERSONIFIED = """asked ask asks asking told tell tells telling sees saw speaks speak knows believes
foretold stands somebody somebody's brings brought blames blamed wants"""
UNCLEAR = """anew mend mends mended roster halves_of_the_images halves_of_the_groups group_halves
in_the_eyes_of taken_at_its_word stood_in_the_way done_without drawn_again"""
BANNED = [w.replace("_", " ") for w in f"{FILLER} {FIGURATIVE} {PERSONIFIED} {UNCLEAR}".split()]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def code_of(text):
    """All that a page prints as code: blocks, indented lines and words in backticks."""
    blocks = [block for _, block in FENCE.findall(text)]
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", FENCE.sub("", text))])


def prose_of(text):
    """The sentences and tables of a page, without code and the addresses of links."""
    text = re.sub(r"`[^`]+`", "", FENCE.sub("", text))
    return re.sub(r"\]\([^)]*\)|<[^>]*>", "", text)


def anchors_of(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def undeclared(text):
    """The words ``section.key`` in a text whose key is not declared in its section."""
    owners = sections(PARAMS)
    named = re.findall(rf"(?<![\w/.])({'|'.join(owners)})\.(\w+)", text)
    endings = ENDINGS.split("|")
    return {f"{s}.{k}" for s, k in named if k not in endings and k not in fields_of(owners[s])}


@each_page
def test_links_lead_to_files_and_headings_that_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)) + re.findall(r'src="([^"]+)"', text)
    for link in (link for link in links if "://" not in link):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors_of(target), link


@each_page
def test_files_that_a_page_names_exist(page):
    code = code_of(page.read_text())
    paths = re.findall(
        rf"(?<![\w/.<>-])((?:{FOLDERS}|{'|'.join(PACKAGES)})/[\w./-]+)(?![\w<*])", code
    )
    for path in (path.rstrip(".") for path in paths):
        of_reader = "mine." in path or (path.startswith("data/") and not path.endswith(".py"))
        places = (ROOT / path, ROOT / "src" / "begat" / path)
        assert of_reader or any(place.exists() for place in places), path
    for module in re.findall(r"\bpython -m (begat[\w.]*)", code):
        assert importlib.util.find_spec(module), module


@each_page
def test_parameters_that_a_page_names_are_declared(page):
    text = page.read_text()
    assert not undeclared(text)
    for block in (block for language, block in FENCE.findall(text) if language == "yaml"):
        for section, values in yaml.safe_load(block).items():
            assert not set(values) - set(fields_of(sections(PARAMS)[section])), block


@each_page
def test_commands_that_a_page_names_exist(page):
    code = code_of(page.read_text())
    known = {command.name or command.callback.__name__ for command in commands.registered_commands}
    assert set(re.findall(r"^begat (\w+)", code, re.MULTILINE)) <= known
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", code, re.MULTILINE)) <= targets


@each_page
def test_lines_are_short_except_in_tables(page):
    lines = page.read_text().splitlines()
    assert not [line for line in lines if len(line) > 100 and not line.startswith("|")]


@pytest.mark.parametrize("path", [*PAGES, *PARAMETER_FILES], ids=lambda path: path.name)
def test_words_are_plain(path):
    text = path.read_text()
    if path.suffix == ".md":
        text = prose_of(text)
    else:
        text = "\n".join(line.partition("#")[2] for line in text.splitlines())
    text = " ".join(text.split())
    used = re.findall(rf"(?i)\b({'|'.join(BANNED)})\b", text)
    used += re.findall(r"(?i)(?<!ground )\btruths?\b", text)
    assert not used


def test_parameters_that_comments_name_are_declared():
    for path in PARAMETER_FILES:
        comments = "\n".join(line.partition("#")[2] for line in path.read_text().splitlines())
        assert not undeclared(comments), path.name


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert not [page.name for page in PAGES if page.name not in readme]


def test_the_page_for_notebooks_lists_every_public_name():
    page = (ROOT / "docs" / "python.md").read_text()
    assert set(re.findall(r"^\| `begat\.(\w+)`", page, re.MULTILINE)) == set(begat.__all__)


def test_the_picture_of_the_pipeline_shows_every_stage():
    picture = (ROOT / "docs" / "images" / "pipeline.svg").read_text()
    names = {"scores_…" if name.startswith("scores_") else name for name in STAGES}
    assert not [name for name in names if f">{name}<" not in picture.replace("&#8230;", "…")]


def test_the_readme_shows_every_package():
    structure = (ROOT / "README.md").read_text().partition("## Structure")[2]
    assert not [name for name in PACKAGES if f"{name}/ " not in structure]


def test_pictures_are_small_enough_for_a_first_page():
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.stat().st_size <= 200_000, picture.name
