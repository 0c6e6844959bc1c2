"""The report: a page and plots of every experiment, and the table of all papers, from results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unified.eval.lab.experiment import NO_VERDICT, Criterion, Experiment, Results, verdict
from unified.eval.lab.experiments import EXPERIMENTS
from unified.eval.lab.papers import PAPERS, Paper
from unified.eval.lab.runner import raw, read
from unified.eval.lab.statistics import interval
from unified.eval.measurement import Table
from unified.eval.report import chart, table_lines

STATES = {True: "holds", False: "does not hold", None: "not applicable"}


def rows(out: Path) -> list[tuple[Paper, str, str]]:
    """Every paper with its status (experiment, part, planned) and its verdict, "" where there is none."""
    found = []
    for name, paper in PAPERS.items():
        if name not in EXPERIMENTS:
            found.append((paper, "part" if paper.part else "planned", ""))
            continue
        results = read(name, out)
        found.append((paper, "experiment", judged(EXPERIMENTS[name], results)[1]))
    return found


def judged(experiment: Experiment, results: Results) -> tuple[list[Criterion], str, str]:
    """Criteria, verdict and why, of whole seeds."""
    criteria = experiment.judge(results) if results.seeds else []
    found, why = verdict(criteria, len(results.seeds))
    return criteria, found, why


def listed(out: Path) -> list[str]:
    """The table of all papers in Markdown."""
    cells = [[paper.name, paper.title, paper.arxiv, paper.part, *rest] for paper, *rest in rows(out)]
    return table_lines(Table("", ["paper", "title", "arXiv", "part", "status", "verdict"], cells))


def front(out: Path) -> list[str]:
    """The papers that have a verdict, in Markdown, and how many have an experiment or a part."""
    found = rows(out)
    told = [(paper, said) for paper, _, said in found if said not in ("", NO_VERDICT)]
    tried = sum(status == "experiment" for _, status, _ in found)
    lines = [
        f"{len(found)} papers, {tried} of them with an experiment of one command (`unified lab run NAME`), "
        f"{len(told)} with a verdict of three seeds so far:",
        "",
    ]
    cells = [[paper.title, paper.arxiv, said] for paper, said in told]
    return [*lines, *table_lines(Table("", ["paper", "arXiv", "verdict"], cells))]


def write_report(out: Path, pages: Path, manifest: Mapping[str, Any]) -> list[Path]:
    """`results.md` with all papers and the ground, and a page and a plot for each experiment with results;
    the paths written."""
    pages.mkdir(parents=True, exist_ok=True)
    written = []
    for name, experiment in EXPERIMENTS.items():
        results = read(name, out)
        if results.seeds:
            written += _page(experiment, results, raw(name, out), pages)
    text = ["# Results of the laboratory", "", *listed(out), "", *ground_lines(manifest), ""]
    path = pages / "results.md"
    path.write_text("\n".join(text), encoding="utf-8")
    return [*written, path]


def ground_lines(manifest: Mapping[str, Any]) -> list[str]:
    """The figures of the tokenizers and base models, as `unified lab prepare` measured them."""
    if not manifest:
        return []
    accuracy = 100 * manifest["parser"]["all"]
    lines = [
        "## The ground",
        "",
        f"The scene parser reads {accuracy:.1f} % of true 32 x 32 pictures without an error.",
        "",
    ]
    tokenizers = [(name, entry) for name, entry in manifest.items() if "ceiling" in entry]
    cells = [
        [name, x["parameters"], x["psnr"], x["ceiling"]["attributes"], x["ceiling"]["all"]]
        for name, x in tokenizers
    ]
    lines += table_lines(Table("", ["tokenizer", "parameters", "PSNR, dB", "attributes", "all right"], cells))
    bases = [(name, entry) for name, entry in manifest.items() if "drawing" in entry]
    cells = [
        [
            name,
            x["parameters"],
            x["nll"],
            x["drawing"]["attributes"],
            x["drawing"]["all"],
            x["drawing"]["calls"],
        ]
        for name, x in bases
    ]
    head = ["base model", "parameters", "nats a code", "attributes", "all right", "calls"]
    return [*lines, "", *table_lines(Table("", head, cells))]


def _page(
    experiment: Experiment, results: Results, entries: Sequence[Mapping[str, Any]], pages: Path
) -> list[Path]:
    paper = PAPERS[experiment.name]
    criteria, found, why = judged(experiment, results)
    lines = [f"# {paper.title}", "", f"arXiv {paper.arxiv}. {_sentence(experiment.what)}", ""]
    lines += [f"**{found}**{': ' + why if why else ''}", ""]
    lines += [_sentence(experiment.scaled), ""] if experiment.scaled else []
    lines += [
        "## Criteria",
        "",
        *_criteria(criteria),
        "",
        "## Measured",
        "",
        *_numbers(experiment, results),
        "",
    ]
    written = []
    if experiment.plots:
        for title, lines_of in experiment.plots.items():
            name = f"{experiment.name}_{title.split()[0].strip(',').lower()}.png"
            chart(title, lines_of(results)).save(pages / name)
            written.append(pages / name)
            lines += [f"![{title}]({name})", ""]
    lines += _provenance(entries)
    path = pages / f"{experiment.name}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*written, path]


def _criteria(criteria: Sequence[Criterion]) -> list[str]:
    noise = {True: "clear of the bound", False: "within the spread of seeds", None: ""}
    cells = [[c.what, STATES[c.met], c.measured or c.why, noise[c.clear]] for c in criteria]
    return table_lines(Table("", ["criterion", "", "mean over seeds (95 % interval)", ""], cells))


def _numbers(experiment: Experiment, results: Results) -> list[str]:
    """Means and intervals of the numbers shown, by arm and by what is nested in it."""
    cells = []
    for arm, by_seed in results.found.items():
        for group in _groups(by_seed[results.seeds[0]], experiment.shown):
            prefix = f"{group}/" if group else ""
            line = [arm, group]
            for name in experiment.shown:
                try:
                    line.append(str(interval(results.values(arm, prefix + name))))
                except (KeyError, TypeError):
                    line.append("-")
            cells.append(line)
    return table_lines(Table("", ["arm", "", *experiment.shown], cells))


def _groups(numbers: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    first = {name.split("/")[0] for name in shown}
    own = [""] if first & set(numbers) else []
    nested = [name for name, value in numbers.items() if isinstance(value, Mapping) and first & set(value)]
    return [*own, *nested]


def _provenance(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    seconds = sum(entry["seconds"] for entry in entries)
    commits = ", ".join(sorted({entry["commit"] for entry in entries}))
    seeds = ", ".join(map(str, sorted({entry["seed"] for entry in entries})))
    processors = ", ".join(sorted({entry["machine"]["processor"] for entry in entries}))
    weights = ", ".join(sorted({entry["weights"] for entry in entries}))
    threads = ", ".join(map(str, sorted({entry["threads"] for entry in entries})))
    return [
        "## Where the numbers are from",
        "",
        f"`unified lab run {entries[0]['experiment']}`, commit {commits}, weights {weights}, seeds {seeds}, "
        f"{seconds / 60:.0f} minutes in all on {processors} with {threads} threads.",
    ]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
