"""The history: chained lines in two copies, which heal each other and hide nothing."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from begat.execution.history import COPY, HISTORY, append, history, write_again


def events(root):
    """The names of all events."""
    return [line["event"] for line in history(root).lines]


@pytest.fixture
def root(tmp_path):
    """A project with a history of five lines."""
    for number in range(5):
        append(tmp_path, {"event": f"e{number}", "key": f"k{number}", "content": "c"})
    return tmp_path


def texts(root, path=HISTORY):
    """The lines of one copy."""
    return (root / path).read_text().splitlines(keepends=True)


def test_each_line_names_the_digest_of_the_line_before(root):
    lines = [json.loads(text) for text in texts(root)]
    assert [line["previous"] for line in lines] == ["", *(line["digest"] for line in lines[:-1])]
    assert texts(root) == texts(root, COPY)
    log = history(root)
    assert not log.faults
    assert not log.shorter
    assert log.first("e3", key="k3") == 3
    assert log.first("e3", key="k2") is None
    assert ("k2", "c") in log.contents()


@pytest.mark.parametrize("copy", [HISTORY, COPY])
@pytest.mark.parametrize("line", range(5))
def test_any_changed_removed_or_moved_line_is_named_and_comes_back(root, copy, line):
    whole = texts(root)
    flipped = whole[line].replace("e", "f", 1)
    others = [*whole[:line], flipped, *whole[line + 1 :]], [*whole[:line], *whole[line + 1 :]]
    swapped = list(whole)
    swapped[line], swapped[line - 1] = swapped[line - 1], swapped[line]
    for lines in (*others, swapped):
        (root / copy).write_text("".join(lines))
        log = history(root)
        assert copy in {**log.faults, **log.shorter}
        assert len(log.lines) == 5
        assert write_again(root)
        assert texts(root, copy) == whole
        assert not write_again(root)


def test_half_a_line_is_no_line(root):
    whole = texts(root)
    for path in (HISTORY, COPY):
        (root / path).write_text("".join(whole)[:-10])
    assert "cut" in history(root).faults[HISTORY]
    append(root, {"event": "after"})
    assert events(root) == ["e0", "e1", "e2", "e3", "after"]
    assert not history(root).faults


def test_a_copy_that_came_from_elsewhere_is_taken_on(root, tmp_path):
    clone = tmp_path / "clone"
    (clone / HISTORY).parent.mkdir(parents=True)
    (clone / HISTORY).write_text("".join(texts(root)))
    assert not history(clone).faults
    assert not history(clone).shorter, "no copy yet is no fault"
    append(clone, {"event": "here"})
    assert events(clone) == ["e0", "e1", "e2", "e3", "e4", "here"]
    assert texts(clone) == texts(clone, COPY)


def test_a_branch_is_kept_as_one_line(root, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        (place / HISTORY).parent.mkdir(parents=True)
        (place / HISTORY).write_text("".join(texts(root)))
        append(place, {"event": place.name})
    append(here, {"event": "more"})
    (here / HISTORY).write_text("".join(texts(there)))
    assert history(here).faults[HISTORY] == "not the history of its copy"
    append(here, {"event": "last"})
    assert events(here)[5:] == ["here", "more", "merged", "last"]
    assert [line["event"] for line in history(here).lines[7]["lines"]] == ["there"]
    assert not history(here).faults


def test_lines_of_jobs_that_end_at_once_are_all_written(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: append(tmp_path, {"event": f"e{n}"}), range(40)))
    assert sorted(events(tmp_path)) == sorted(f"e{n}" for n in range(40))
    assert not history(tmp_path).faults
