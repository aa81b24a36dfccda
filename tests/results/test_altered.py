# SPDX-License-Identifier: GPL-3.0-or-later
"""A result file that somebody altered is refused in one sentence, by every command that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from random_trader import candles

from crossmargin_bt.cli import commands

STRATEGY = """
import backtrader as bt
class Buyer(bt.Strategy):
    def next(self):
        if len(self) == 2:
            self.buy(size=1)
        if len(self) == 20:
            self.buy(size=10**9)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The content of a result file."""
    home = tmp_path_factory.mktemp("altered")
    (home / "buyer.py").write_text(STRATEGY, encoding="utf-8")
    (home / "data").mkdir()
    candles(1, 40).rename_axis("date").to_csv(home / "data" / "AAA.csv")
    words = [
        "compare",
        f"{home / 'buyer.py'}:Buyer",
        "--data",
        home / "data",
        "--modes",
        "cross",
        "--json",
        home / "out.json",
    ]
    done = CliRunner().invoke(commands, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return json.loads((home / "out.json").read_text(encoding="utf-8"))


def _run(content: dict[str, Any]) -> dict[str, Any]:
    return content["runs"][0]["result"]


ALTERATIONS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no runs": (lambda one: one.update(runs=[]), "it has no runs"),
    "a shorter curve": (lambda one: _run(one)["equity"].pop(), "equity of run 1 has 39 values for 40 bars"),
    "a shorter exposure": (lambda one: _run(one)["exposure"]["AAA"].pop(), "exposure of AAA"),
    "times that fall": (lambda one: _run(one)["times_ms"].reverse(), "do not rise"),
    "an entry without a time": (lambda one: _run(one)["journal"][3].pop("time_ms"), "entry 3 of the journal of run 1"),
    "an entry of another kind": (lambda one: _run(one)["journal"].insert(0, "x"), "is not a result file"),
    "a number for a text": (lambda one: _run(one).update(venue=3), "is not a result file"),
    "rules that are none": (lambda one: _run(one)["rules"].update(safe_level="high"), "altered"),
    "a fill of a market nobody knows": (
        lambda one: next(e for e in _run(one)["journal"] if e["event"] == "Filled").update(symbol="ZZZ"), "altered",
    ),
    "an escape in a name": (lambda one: _run(one).update(strategy="\x1b[2Jgone"), "control characters"),
    "candles of another length": (lambda one: one["markets"][0]["close"].pop(), "the candles of AAA differ in length"),
    "a schema to come": (lambda one: one.update(schema=99), "update crossmargin_bt"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_result_is_refused_in_one_sentence(tmp_path: Path, written: dict[str, Any], name: str) -> None:
    """`report`, the list of `explain`, and one explanation: code 2 and one line, or nothing wrong to see for this command."""
    alter, said = ALTERATIONS[name]
    content = json.loads(json.dumps(written))
    alter(content)
    path = tmp_path / "out.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    event = next(n for n, e in enumerate(_run(written)["journal"]) if e["event"] == "OrderRefused")
    refused = 0
    for words in (["report", path], ["explain", path], ["explain", path, "--event", event]):
        done = CliRunner().invoke(commands, [str(word) for word in words])
        assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
        if done.exit_code:
            refused += 1
            assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.stderr
            assert said in done.stderr
    assert refused


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"schema": 1e999}', "{", "\x00", '{"schema": 4, "runs": [{}]}', "[]", "3"]
)
def test_what_is_no_result_file_is_refused(tmp_path: Path, text: str) -> None:
    """Absurd nesting, broken syntax, other content."""
    (tmp_path / "out.json").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(commands, ["report", str(tmp_path / "out.json")])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.stderr
