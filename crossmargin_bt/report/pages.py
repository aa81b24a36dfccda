# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule books as Markdown pages: one a venue, one of where they differ, and their index."""

from collections.abc import Sequence
from pathlib import Path

from crossmargin_bt.report import wording
from crossmargin_bt.venues import RULES, TOPICS, Venue

HEADS = ("value from", "rate", "deduction", "leverage up to")


def write(venues: Sequence[Venue], folder: Path) -> None:
    """Write the pages into `folder`, which is made; other files in it stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for venue in venues:
        (folder / f"{venue.name}.md").write_text(page(venue), encoding="utf-8")
    (folder / "differences.md").write_text(differences(venues), encoding="utf-8")
    (folder / "index.md").write_text(index(venues), encoding="utf-8")


def index(venues: Sequence[Venue]) -> str:
    """Return the page that lists the others."""
    names = "\n".join(venue.name for venue in venues)
    return (
        "# Rule books\n\nEvery page is made from the venue's file; `crossmargin venues show NAME` prints the same. Your own\n"
        "venue is a TOML file of the same shape: `crossmargin venues show okx --toml > mine.toml`, change it, give its path to `--venue`.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\ndifferences\n{names}\n```\n"
    )


def _source(venue: Venue, key: str) -> str:
    """Return where a rule comes from; nothing where there is none."""
    without = "*assumed*" if key in venue.unsourced else "-"
    return venue.sources.get(key, without)


def page(venue: Venue) -> str:
    """Return one rule book: every rule with its formula and source, tiers, contracts, statements, assumptions."""
    rules = venue.rules
    lines = [f"# {venue.title}", "", f'`venue="{venue.name}"`', "", "## Rules", ""]
    lines += _table(
        ("rule", "answer", "source"),
        [(f"{wording.TITLES[key]} (`{key}`)", wording.meaning(rules, key), _source(venue, key)) for key in RULES],
    )
    lines += ["", "## Maintenance", "", f"`{wording.formula(rules.maintenance)}`", ""]
    rows = wording.tiers(rules.maintenance)
    if rows:
        lines += _table(HEADS, rows)
    for terms in rules.contracts:
        since = f" from {terms.since}" if terms.since else ""
        head = f"**{', '.join(terms.symbols)}{since}**: `{wording.formula(terms.maintenance)}`. Source: {terms.source}."
        lines += ["", head, ""]
        if wording.tiers(terms.maintenance):
            lines += _table(HEADS, wording.tiers(terms.maintenance))
        if terms.isolated is not None:
            lines += ["", f"In isolated mode: `{wording.formula(terms.isolated)}`."]
    lines += ["", "## The rest of the book", ""]
    said = [(topic.replace("_", " "), venue.statements[topic]) for topic in TOPICS if topic in venue.statements]
    lines += _table(
        ("topic", "what the venue does", "simulated", "source"),
        [(topic, one.says, "yes" if one.simulated else "no", one.source or "-") for topic, one in said],
    )
    lines += ["", "## Assumptions", "", *(f"- {text}" for text in venue.assumptions)]
    return "\n".join(lines) + "\n"


def differences(venues: Sequence[Venue]) -> str:
    """Return which rule differs where: every rule's answers, each with the venues that give it."""
    lines = ["# Which rule differs where", ""]
    for key in RULES:
        answers: dict[str, list[str]] = {}
        for venue in venues:
            for text, who in _answers(venue, key):
                answers.setdefault(text, []).append(who)
        if len(answers) > 1:
            lines += [f"## {wording.TITLES[key].capitalize()}", ""]
            ranked = sorted(answers.items(), key=lambda pair: (-len(pair[1]), pair[0]))
            lines += [*_table(("answer", "venues"), [(text, ", ".join(names)) for text, names in ranked]), ""]
    return "\n".join(lines)


def _answers(venue: Venue, key: str) -> list[tuple[str, str]]:
    """Return what a venue answers, and for the rates what single contracts have instead."""
    found = [(wording.meaning(venue.rules, key), venue.name)]
    if key == "maintenance":
        rules = {terms.symbols[0]: wording.formula(terms.maintenance) for terms in venue.rules.contracts}
        found.extend((formula, f"{venue.name} ({symbol})") for symbol, formula in rules.items())
    return found


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]
