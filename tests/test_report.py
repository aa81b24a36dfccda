"""The HTML report: in a real browser, honest, and with text from elsewhere as text."""

import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from browser import needs_chromium, opened
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from crossmargin_bt.cli import commands
from crossmargin_bt.report import files, page, rows, thin, verdict

HERE = Path(__file__).parent
LONG_SHORT = HERE.parent / "strategies" / "long_short.py"

DOOMED = '''
import backtrader as bt


class Doomed(bt.Strategy):
    """Buys as much as it can at once."""

    def next(self):
        if len(self) == 1:
            self.buy(size=5)
        if len(self) == 6:
            self.buy(size=900)
'''
# The third bar falls below what 10x can carry; the seventh and eighth hour are missing.
DOOM = {0: 100.0, 1: 100.0, 2: 70.0, 3: 71.0, 4: 72.0, 5: 73.0, 8: 74.0, 9: 75.0, 10: 74.5, 11: 74.0}

HOSTILE = "</script><img src=x onerror=alert(1)>"


def crossmargin(*words: object) -> Result:
    result = CliRunner().invoke(commands, [str(word) for word in words], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return result


def candles(hours: dict[int, float]) -> pd.DataFrame:
    """Return candles of half a per cent around each close."""
    close = np.array([*hours.values()])
    times = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta([*hours], unit="h")
    return pd.DataFrame(
        {"date": times, "open": close, "high": close * 1.005, "low": close * 0.995, "close": close, "volume": 5.0}
    )


@pytest.fixture(scope="module")
def doom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a strategy that is liquidated on bar 3 of candles with a hole, with its report and result."""
    folder = tmp_path_factory.mktemp("doom")
    (folder / "doomed.py").write_text(DOOMED, encoding="utf-8")
    (folder / "data").mkdir()
    candles(DOOM).to_csv(folder / "data" / "COIN.csv", index=False)
    crossmargin(
        "compare", folder / "doomed.py", "--data", folder / "data", "--cash", 60, "--leverage", 10, "--modes", "isolated,cross",
        "--report", folder / "out.html", "--json", folder / "out.json",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with report and result of a strategy of the project under two venues, stressed."""
    folder = tmp_path_factory.mktemp("compared")
    crossmargin(
        "compare", LONG_SHORT, "--leverage", 40, "--cash", 800, "--venue", "okx,kucoin", "--end", "2025-04-10", "--stress",
        "--report", folder / "out.html", "--json", folder / "out.json",
    )  # fmt: skip
    return folder


@needs_chromium
def test_a_browser_draws_the_report_and_asks_for_nothing(compared: Path) -> None:
    """No error, no request but the file, every chart drawn, every number of the table that of the JSON."""
    runs = json.loads((compared / "out.json").read_text(encoding="utf-8"))["runs"]
    with opened(compared / "out.html") as browser:
        assert browser.draw_all() > 10
        drawn = browser.page.eval_on_selector_all(
            ".chart", "all => all.map(one => one.querySelectorAll('path').length)"
        )
        assert all(paths > 2 for paths in drawn)
        assert browser.complaints == []
        assert browser.requests == [(compared / "out.html").as_uri()]
        table = browser.page.eval_on_selector_all(
            "table.figures tbody tr",
            "all => all.map(row => [row.cells[0].innerText, [...row.cells].slice(1).map(cell => "
            "[cell.childNodes[0].textContent, cell.querySelector('data') ? cell.querySelector('data').value : null])])",
        )
    by_label = {row.label: row for row in rows.ROWS}
    assert len(table) == len(rows.ROWS) - 1  # interest, which nobody owes
    for label, cells in table:
        row = by_label[label]
        expected = [run["summary"][row.key] for run in runs]
        assert [None if value is None else float(value) for _, value in cells] == expected
        assert [text for text, _ in cells] == ["-" if value is None else row.write(value) for value in expected]


@needs_chromium
def test_a_click_on_an_event_shows_its_arithmetic(doom: Path) -> None:
    """In the list, and on its marker in the chart of equity."""
    file = doom / "out.html"
    entries = files.read(doom / "out.json").results[0].journal
    at = next(n for n, entry in enumerate(entries) if entry["event"] == "Liquidated")
    with opened(file) as browser:
        event = browser.page.locator(f"#s0-0-{at}")
        assert not event.locator("pre").is_visible()
        event.locator("summary").click()
        assert f"= {entries[at]['collateral']!r} USDT" in event.locator("pre").inner_text()
        event.locator("summary").click()
        browser.draw_all()
        browser.page.evaluate(
            "id => document.getElementById('s0-equity').emit('plotly_click', {points: [{customdata: id}]})",
            f"s0-0-{at}",
        )
        assert event.locator("pre").is_visible()


@needs_chromium
def test_zoom_is_shared_and_themes_change(compared: Path) -> None:
    """What is looked at in one chart is looked at in all; dark is dark, and print is light with all charts."""
    with opened(compared / "out.html", scheme="dark") as browser:
        page_ = browser.page
        browser.draw_all()
        assert page_.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
        page_.locator("#s0-equity").scroll_into_view_if_needed()
        area = page_.locator("#s0-equity .nsewdrag").bounding_box()
        page_.mouse.move(area["x"] + area["width"] / 2, area["y"] + 50)
        page_.mouse.down()
        page_.mouse.move(area["x"] + area["width"] * 3 / 4, area["y"] + 60, steps=5)
        page_.mouse.up()
        begins = "document.getElementById('%s').layout.xaxis.range[0]"
        browser.until(f"{begins % 's0-drawdown'} > '2025-02-01'")
        assert page_.evaluate(f"{begins % 's0-drawdown'} === {begins % 's0-equity'}")
        page_.evaluate("Plotly.relayout('s0-margin', {'xaxis.autorange': true})")
        browser.until("document.getElementById('s0-equity').layout.xaxis.autorange")
        page_.click("#theme")
        assert page_.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    with opened(compared / "out.html", scheme="dark") as browser:
        sheet = browser.page.pdf()
        assert sheet.startswith(b"%PDF")
        assert browser.page.evaluate("[...document.querySelectorAll('.chart')].every((one) => one.dataset.drawn)")
        assert browser.page.evaluate("document.documentElement.dataset.theme") == "dark"  # as it was before
        assert browser.complaints == []


@needs_chromium
@pytest.mark.parametrize("width", [390, 768, 1400])
def test_no_page_is_wider_than_its_screen(compared: Path, width: int) -> None:
    """On a phone, a tablet and a desk; wide tables scroll by themselves."""
    with opened(compared / "out.html", width=width) as browser:
        browser.draw_all()
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.complaints == []


@needs_chromium
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """A symbol, a param and a strategy that are HTML are shown as they are written, in the page and in the charts."""
    file = files.read(_hostile(tmp_path))
    (tmp_path / "out.html").write_bytes(page.render(file))
    with opened(tmp_path / "out.html") as browser:
        browser.draw_all()
        assert browser.complaints == []
        assert len(browser.requests) == 1
        assert browser.page.locator("img").count() == 0
        assert HOSTILE in browser.page.inner_text("body")
        assert HOSTILE in browser.page.inner_text("h1")
        titles = browser.page.eval_on_selector_all(".legendtext, .ytick text", "all => all.map(one => one.textContent)")
        assert any(HOSTILE in title for title in titles)


def _hostile(folder: Path) -> Path:
    """Return a result file whose names are HTML."""
    (folder / "data").mkdir()
    candles(DOOM).to_csv(folder / "data" / "COIN.csv", index=False)
    (folder / "doomed.py").write_text(DOOMED, encoding="utf-8")
    crossmargin(
        "compare", folder / "doomed.py", "--data", folder / "data", "--cash", 60, "--json", folder / "plain.json"
    )
    names = {"COIN": HOSTILE, "Doomed": HOSTILE, "cross": f"<b>{HOSTILE}"}
    text = (folder / "plain.json").read_text(encoding="utf-8")
    for plain, hostile in names.items():
        text = re.sub(rf'"{plain}(?=[":])', json.dumps(hostile)[:-1], text)
    (folder / "hostile.json").write_text(text, encoding="utf-8")
    return folder / "hostile.json"


def test_the_report_says_at_the_top_what_went_wrong(doom: Path) -> None:
    """A liquidation on bar 3, a hole in the data and assumptions stand before the figures."""
    text = (doom / "out.html").read_text(encoding="utf-8")
    top = text[text.index("<main>") : text.index("The answer</h2>")]
    assert "Doomed, cross: liquidated on bar 3 of 10" in top
    assert "COIN: 2 bars are missing, from 2024-03-01 06:00 to 2024-03-01 07:00" in top
    assert "assumptions are in force" in top
    assert "There are no mark prices" in top
    assert "more than its collateral" in top


def test_answers_and_doubts_are_those_of_the_runs(doom: Path) -> None:
    """Sentences by hand: 5 bought at 100 with 60; the bar's open of 70 leaves 60 - 0.25 - 150."""
    file = files.read(doom / "out.json")
    isolated, cross = (result for result in file.results)
    (answer,) = verdict.answers([cross])
    assert answer == (
        "Cross ended at 0.00 USDT (-100.0%); it was liquidated once, COIN at a mark of 70 on 2024-03-01 02:00, left "
        f"{cross.bad_debt:,.2f} of bad debt to others and had one order refused."
    )
    assert verdict.answers([isolated, cross])[0].startswith("Isolated ended highest: ")
    assert "Doomed, cross: lost the account: 0.00 of 60.00 are left" in verdict.doubts(file)


def test_charts_are_what_plotly_takes(compared: Path) -> None:
    """Every figure passes Plotly's own validation, and none draws more than 5,000 points of a curve."""
    text = (compared / "out.html").read_text(encoding="utf-8")
    figures: dict[str, Any] = json.loads(text.partition('id="figures">')[2].partition("</script>")[0])
    assert len(figures) > 10
    for figure in figures.values():
        for trace in figure["data"]:
            count = len(trace["y"]["bdata"]) * 3 // 4 // 8 if isinstance(trace["y"], dict) else len(trace["x"])
            assert count <= 5_000
            if isinstance(trace["x"], dict):
                steps = trace["x"].pop("steps")
                assert len(steps) * 3 // 4 // 4 in range(count - 1, count + 2)
                trace["x"] = [trace["x"]["start"]] * count
        go.Figure(figure["data"], figure["layout"])


@given(st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")), min_size=1, max_size=400), st.integers(4, 60))
def test_thinning_loses_no_extreme(values: list[float], limit: int) -> None:
    """First, last, lowest and highest stay, in order, and no more than asked for."""
    where = thin.kept(values, limit)
    assert len(where) <= max(limit, 4)
    assert (np.diff(where) > 0).all()
    assert where[0] == 0
    assert where[-1] == len(values) - 1
    known = [value for value in values if not math.isnan(value)]
    if known:
        left = np.asarray(values)[where]
        assert np.nanmin(left) == min(known)
        assert np.nanmax(left) == max(known)


def test_result_files_keep_their_schema(compared: Path, doom: Path) -> None:
    """What is written passes the JSON Schema that is printed, and a run of cash mode too."""
    schema = json.loads(crossmargin("report", "--schema").output)
    validator = jsonschema.Draft202012Validator(schema)
    for folder in (compared, doom):
        validator.validate(json.loads((folder / "out.json").read_text(encoding="utf-8")))
    broken = json.loads((doom / "out.json").read_text(encoding="utf-8"))
    broken["runs"][0]["result"]["journal"][0]["event"] = "Nonsense"
    assert not validator.is_valid(broken)


def test_a_file_of_the_schema_before_still_loads(tmp_path: Path) -> None:
    """Its report lacks what it does not hold, and its events can be explained."""
    old = HERE / "results" / "schema2.json"
    crossmargin("report", old, "--out", tmp_path / "old.html")
    text = (tmp_path / "old.html").read_text(encoding="utf-8")
    assert "it was written by an older version" in text
    assert "liquidated on bar 5 of 8" in text
    assert "Collateral:" in text
    assert "Liquidated USDT" in crossmargin("explain", old, "--run", 3).output


def test_a_result_draws_the_same_report_again(doom: Path) -> None:
    """Byte for byte."""
    crossmargin("report", doom / "out.json", "--out", doom / "again.html")
    assert (doom / "again.html").read_bytes() == (doom / "out.html").read_bytes()


def test_arithmetic_in_one_pass_is_that_of_explain(compared: Path) -> None:
    """Working the journal through once tells of every event what working up to it alone tells."""
    from crossmargin_bt.report import explaining  # noqa: PLC0415

    for result in files.read(compared / "out.json").results:
        journal = explaining.entries(result)
        numbers = {n for n, entry in enumerate(journal) if explaining.is_explainable(entry)}
        found = explaining.all_explained(result, numbers)
        assert found == {n: explaining.explained(result, n) for n in numbers}
