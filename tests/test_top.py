"""The table of a query's units in the terminal."""

import numpy as np
import pytest
from rich.console import Console

from begat import top
from begat.evaluation.measures import COSINE, LOSS

NAMES = ["one", "two", "three", "four"]
SCORE = np.array([0.5, -0.25, 1.0, 0.0])


@pytest.fixture
def printed():
    console = Console(width=200, record=True)

    def table(measure, score=SCORE, p_value=None, names=NAMES, width=200):
        console.width = width
        console.print(top.table_of("m", measure, names, score, p_value, 3))
        lines = console.export_text().splitlines()
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
        return lines[0].strip(), rows

    return table


def test_sides_of_a_signed_score_hold_their_own_sign_only(printed):
    title, rows = printed(LOSS)
    assert title == "m"
    assert rows == [["three", "+1", "two", "-0.25"], ["one", "+0.5", "", ""]]


def test_an_empty_side_says_none(printed):
    assert printed(LOSS, np.abs(SCORE))[1][0] == ["three", "+1", "none", ""]
    assert printed(LOSS, SCORE * 0)[1] == [["none", "", "none", ""]]


def test_scores_that_only_rank_fill_both_sides(printed):
    title, rows = printed(COSINE)
    assert title == "m (order only)"
    assert [row[0] for row in rows] == ["three", "one", "four"]
    assert [row[2] for row in rows] == ["two", "four", "one"]


def test_p_values_come_with_their_correction(printed):
    _, rows = printed(LOSS, p_value=np.array([0.04, 0.9, 0.01, 0.5]))
    assert rows[0] == ["three", "+1", "0.010", "0.04", "two", "-0.25", "0.900", "0.90"]
    assert rows[1] == ["one", "+0.5", "0.040", "0.08", "", "", "", ""]


@pytest.mark.parametrize("name", ["[/b]", "artist [deleted]", "[red]", "a\\[b]", ":smile:"])
def test_names_are_printed_as_they_are(printed, name):
    assert printed(LOSS, names=[name, "two", "three", "four"])[1][1][0] == name


def test_what_a_terminal_would_obey_is_written_out(printed):
    rows = printed(LOSS, names=["a\x1b[31m\u202eb", "two", "three", "four"])[1]
    assert rows[1][0] == "a\\x1b[31m\\u202eb"


def test_a_long_name_is_whole_in_a_narrow_terminal(printed):
    name = "airplane/" + "airliner_s_" * 9 + "0011.png"
    rows = printed(LOSS, names=["one", "two", name, "four"], width=60)[1]
    assert "".join(row[0] for row in rows).startswith(name)
