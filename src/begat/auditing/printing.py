"""An audit in the terminal: the score, the tree of what it was made from, and what is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from begat.auditing.audit import Audit
from begat.auditing.links import Link
from begat.auditing.question import Question
from begat.auditing.recompute import MODEL_TOLERANCE, SCORE_TOLERANCE, Recomputed
from begat.errors import brief
from begat.execution.jobs import Job, Name

SHORT = 12  # hexadecimal digits of a digest that are printed
Links = Mapping[Name, Link]


def print_audit(console: Console, audit: Audit) -> None:
    """Print an audit for a person."""
    links: Links = {(link.job.stage, link.job.name): link for link in audit.links}
    if audit.question:
        for line in score_lines(audit.question):
            console.print(Text(line))
    console.print(tree(audit, links))
    for line in (*choice_lines(audit), *change_lines(audit), *conclusion(audit)):
        console.print(Text(line))


def score_lines(question: Question) -> Iterator[str]:
    """Yields what the score is, in words."""
    name = question.query_name and f" ({brief(question.query_name)})"
    unit = f"{question.of} {question.unit} ({brief(question.unit_name)})"
    yield f"{question.label}: score of {unit} for query {question.query}{name}"
    units = question.scores.values.shape[1]
    yield f"{question.value:+.6g}, rank {question.rank} of {units} {question.of}s"
    measure = question.scores.measure
    signs = "positive: the unit helped; negative: it harmed" if measure.signed else "order only"
    yield f"unit: {measure.unit} ({signs})"


def tree(audit: Audit, links: Links) -> Tree:
    """Returns the artifacts below one another, each with what it was made from."""
    shown = set[Name]()
    if audit.target is None:
        root = Tree(Text(f"all {len(links)} artifacts of the run"))
        for link in links.values():
            root.add(title(link))
        return root
    first = links[audit.target.stage, audit.target.name]
    root = Tree(title(first))
    _grow(root, first, links, shown, audit.image)
    return root


def _grow(
    tree: Tree, link: Link, links: Links, shown: set[Name], image: Mapping[str, Any] | None
) -> None:
    shown.add((link.job.stage, link.job.name))
    for line in details(link):
        tree.add(Text(line, "dim"))
    if link.job.stage == "images" and image is not None:
        tree.add(Text(f"{image['file'] or image['name']}: sha256 {image['file_sha256']}"))
        tree.add(Text(f"pixels: sha256 {image['pixels_sha256']}"))
    for name in link.job.inputs:
        if name in shown:
            tree.add(Text(f"{'/'.join(name)} (above)", "dim"))
        else:
            _grow(tree.add(title(links[name])), links[name], links, shown, image)


def title(link: Link) -> Text:
    """Returns an artifact's path, content digest and state."""
    content = (link.content or "no content digest")[:SHORT]
    state = ("holds", "green") if link.holds else ("does not hold", "bold red")
    return Text.assemble(f"{link.job.path}  {content}  ", state)


def details(link: Link) -> Iterator[str]:
    """Yields where an artifact was made, by which versions, and from which parameters and code."""
    record = link.record
    if "started" in record:
        versions = record["versions"]
        cpu = record["fingerprint"]["cpu"]["name"]
        gpu = (record["fingerprint"]["gpu"] or {}).get("name")
        yield (
            f"made {record['started']} UTC on {gpu or cpu}, torch {versions['torch']}, begat "
            f"{versions['begat']}, commit {record['commit'] or 'unknown'}"
        )
    else:
        yield "when and where it was made is not known"
    made_from = link.job.made_from
    seed = made_from.get("parameters", {}).get("seed")
    parameters = len(made_from.get("parameters", {}))
    code = f"{len(made_from.get('code', {}))} source files"
    line = "no line" if link.line is None else f"line {link.line}"
    yield (
        f"key {link.key[:SHORT]}: {parameters} parameters"
        f"{'' if seed is None else f', seed {seed}'}, {code}; {line} of the history"
    )


def choice_lines(audit: Audit) -> Iterator[str]:
    """Yields which choices were made before retrained models were measured, and which after."""
    choices = audit.choices
    if choices is None:
        return
    planned, truth = choices["planned"], choices["truth"]
    if planned is None:
        yield "choices: the history does not say when this score was planned"
    elif truth is None:
        yield f"choices: fixed on line {planned} of the history; no retrained model was measured"
    elif planned < truth:
        yield (
            f"choices: all were fixed on line {planned} of the history, before the first retrained "
            f"model was measured (line {truth})"
        )
    else:
        yield (
            f"choices: fixed on line {planned} of the history, AFTER the first retrained model was "
            f"measured (line {truth}):"
        )
        for late in choices["late"]:
            change = f"{late['before']} -> {late['value']}"
            yield f"  {late['parameter']}: {change} (line {late['line']})"
        if not choices["late"]:
            yield "  the parameters are the same; code or data were changed"


def change_lines(audit: Audit) -> Iterator[str]:
    """Yields the files that changed without an effect on any result."""
    for line in audit.changes:
        yield f"changed without effect on any key: {line}"


def conclusion(audit: Audit) -> Iterator[str]:
    """Yields what is wrong, or that all holds, and the digest that stands for the history."""
    yield from (f"FAULT: {fault}" for fault in audit.faults)
    for reason, paths in audit.origins.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield f"MADE FROM OTHER THINGS: {paths[0]}{more}: {reason}"
    if audit.head:
        yield f"history: {audit.head['line'] + 1} lines, the last has digest {audit.head['digest']}"
    count = len(audit.links)
    if audit.holds:
        yield f"holds: {count} artifacts, their keys, inputs, records and images agree"
    else:
        others = len({path for paths in audit.origins.values() for path in paths})
        yield (
            f"does not hold: {len(audit.faults)} faults, {others} artifacts made from other things "
            "than there are now; `begat verify` repairs what it can"
        )


def print_tolerance(console: Console, jobs: Sequence[Job]) -> None:
    """Print, before anything is computed again, how far from the old number the new one may be."""
    trained = any(job.stage == "models" for job in jobs)
    console.print(Text(f"computing {len(jobs)} artifacts again; this is no fault:"))
    console.print(Text("  same machine, versions and shapes: no difference, in no bit"))
    console.print(
        Text(f"  otherwise: {SCORE_TOLERANCE:g} standard deviations of the query's scores")
    )
    if trained:
        console.print(
            Text(f"  models trained again: {MODEL_TOLERANCE:g} of the RMS difference of two seeds")
        )


def print_recomputed(console: Console, number: Recomputed) -> None:
    """Print a score that was made again beside the old one."""
    difference = number.again - number.before
    tolerance = f"{number.tolerance:.2g}" if number.tolerance else "the same bits"
    console.print(
        Text(
            f"again: {number.again:+.9g}, before: {number.before:+.9g}, difference "
            f"{difference:+.2g} ({abs(difference) / (number.spread or 1):.2g} standard deviations; "
            f"expected: {tolerance})"
        )
    )
    same, other = len(number.same_bits), number.other_bits
    console.print(Text(f"same bits: {same} of {same + len(other)} artifacts"))
    for path in other:
        console.print(Text(f"  other bits: {path}"))
    if number.models is not None:
        console.print(
            Text(f"losses of the models: {number.models:.2g} of the RMS difference of two seeds")
        )
    console.print(Text("recomputed: it holds" if number.holds else "recomputed: it does NOT hold"))
