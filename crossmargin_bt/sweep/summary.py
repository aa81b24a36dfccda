# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings of a sweep in sentences, and the caveats a reader needs before the figures."""

import math
from collections.abc import Sequence

from crossmargin_bt.sweep import analysis
from crossmargin_bt.sweep.analysis import format_params, group_name
from crossmargin_bt.sweep.rows import Objective, SweepRow, pareto_front
from crossmargin_bt.sweep.search_space import Axis


def findings(rows: Sequence[SweepRow], objectives: Sequence[Objective], axes: Sequence[Axis]) -> list[str]:
    """Return the findings of a sweep in sentences; out-of-sample results of a walk forward come first."""
    chosen = [row for row in rows if row.sample != "out"]
    lines = _out_of_sample(analysis.walk_forward_steps(rows), objectives[0])
    before = "In sample, " if lines else ""
    ranked = analysis.rank_rows(chosen, objectives[0])
    if ranked:
        lines.append(_best(ranked, rows, objectives[0], before))
    if len(objectives) > 1 and not before:
        count = len(pareto_front(chosen, objectives))
        lines.append(f"{count} runs are on the Pareto front of {objectives[0].name} and {objectives[1].name}.")
    for group in analysis.survival(chosen):
        ran = group.runs - group.failed
        if ran:
            lines.append(
                f"{before}{group.name}: {group.profitable:.0%} of {ran:,} runs were profitable, {group.liquidated:.0%} were liquidated; the median "
                f"return is {group.median_return:+.1%}."
            )
        else:
            lines.append(f"{before}{group.name}: all of {group.runs:,} runs failed.")
    return [*lines, *(_paired_comparison(pair, rows, axes, before) for pair in analysis.paired_comparisons(chosen))]


def _best(ranked: Sequence[SweepRow], rows: Sequence[SweepRow], objective: Objective, before: str) -> str:
    top = ranked[0]
    ties = sum(objective.rank(row) == objective.rank(top) for row in ranked) - 1
    tied = f" ({ties:,} other{'' if ties == 1 else 's'} tied)" if ties else ""
    window = f" in window {top.window}" if top.sample else ""
    return (
        f"{before or 'Best'}{'best' if before else ''} by {objective.name}: {group_name((top.venue, top.mode), rows)} with "
        f"{format_params(top.params)}{window}{tied}, return {_percent(top, 'total_return')}, drawdown {_percent(top, 'drawdown_max')}, "
        f"liquidations: {top.figures['liquidations']:.0f}."
    )


def _out_of_sample(steps: Sequence[analysis.WalkForwardStep], objective: Objective) -> list[str]:
    """Return the out-of-sample result of a walk forward, one sentence per group."""
    lines = []
    for name in dict.fromkeys(step.name for step in steps):
        mine = [step for step in steps if step.name == name]
        after = [step.out_of_sample.figures for step in mine if not step.out_of_sample.error]
        grown = math.prod(1 + (one["total_return"] or 0.0) for one in after) - 1
        lost = sum(bool(one["liquidations"]) for one in after)
        lines.append(
            f"{name}: the best by {objective.name} of each of {len(mine)} windows returned {grown:+.1%} in total out of sample, with liquidations in "
            f"{lost} of them."
        )
    return lines


def _paired_comparison(
    pair: analysis.PairedComparison, rows: Sequence[SweepRow], axes: Sequence[Axis], before: str
) -> str:
    where = f" at {pair.venue}" if len({row.venue for row in rows}) > 1 else ""
    count = f"{len(pair.pairs):,} combinations{where}"
    if not pair.higher_share and not pair.lower_share:
        return f"{before}cross and isolated end equal in all {count}.".replace(
            "cross", "cross" if before else "Cross", 1
        )
    text = (
        f"{before}{'cross' if before else 'Cross'} ends higher than isolated in {pair.higher_share:.0%} of {count} and lower in "
        f"{pair.lower_share:.0%}, by {pair.mean_difference:+,.2f} on average"
    )
    turn = pair.most_sensitive_axis(axes)
    if turn is not None:
        name, (most, high), (least, low) = turn
        text += f"; most often with {name} at {most} ({high:.0%}), least often at {least} ({low:.0%})"
    return f"{text}."


def _percent(row: SweepRow, figure: str) -> str:
    value = row.figures.get(figure)
    return "-" if value is None else f"{value:+.1%}" if figure == "total_return" else f"{value:.1%}"


def caveats(
    rows: Sequence[SweepRow], objectives: Sequence[Objective], *, settings: Sequence[str] = (), assumptions: int = 0
) -> list[str]:
    """Return the caveats of a sweep; `settings` are the axes that vary account settings."""
    texts = []
    failed = [row for row in rows if row.error]
    if failed:
        texts.append(f"{len(failed):,} of {len(rows):,} runs failed; the first: {failed[0].error}")
    ranked = analysis.rank_rows([row for row in rows if row.sample != "out"], objectives[0])
    texts += _caveats_of_best(ranked[0]) if ranked else []
    ran = [row for row in rows if not row.error]
    mostly = sum(_is_mostly_refused(row) for row in ran)
    if mostly:
        texts.append(f"In {mostly:,} of {len(ran):,} runs more orders were refused than filled.")
    if "leverage" in settings and any(row.mode == "cash" for row in rows):
        texts.append("Cash mode has no leverage: its runs are identical for every leverage, and each is counted.")
    texts += _caveats_of_walk_forward(rows, objectives[0])
    if assumptions:
        texts.append(f"{assumptions} assumptions of the rule books apply; see the list at the end.")
    return texts


def _is_mostly_refused(row: SweepRow) -> bool:
    return (row.figures["refused"] or 0.0) > (row.figures["fills"] or 0.0)


def _caveats_of_best(top: SweepRow) -> list[str]:
    """Return the caveats of the best row."""
    texts = []
    if analysis.is_liquidated(top):
        texts.append("The best run was liquidated during the period.")
    if not top.figures["fills"]:
        texts.append("The best run never traded.")
    if _is_mostly_refused(top):
        texts.append(
            f"The best run had {top.figures['refused']:,.0f} orders refused against {top.figures['fills']:,.0f} fills: it does not show the "
            f"strategy as written."
        )
    return texts


def _caveats_of_walk_forward(rows: Sequence[SweepRow], objective: Objective) -> list[str]:
    """Return how out-of-sample results compare with in-sample ones, or that there are none."""
    steps = analysis.walk_forward_steps(rows)
    unselected = len({(row.window, row.venue, row.mode) for row in rows if row.sample == "in"}) - len(steps)
    texts = []
    if unselected:
        texts.append(
            f"In {unselected} windows and modes nothing was selected: {objective.name} is undefined in every run, or all runs failed."
        )
    known = [
        step
        for step in steps
        if objective.value(step.in_sample) is not None and objective.value(step.out_of_sample) is not None
    ]
    if known:
        worse = sum(objective.rank(step.out_of_sample) > objective.rank(step.in_sample) for step in known)
        count = len({step.window for step in known})
        texts.append(
            f"Out of sample {objective.name} was worse than in sample in {worse} of {len(known)} selections ({count} windows, all modes)."
        )
    elif len(rows) > 1 and not unselected:
        texts.append(
            f"The best of {len(rows):,} runs is selected in sample; --walk-forward shows out-of-sample results."
        )
    return texts
