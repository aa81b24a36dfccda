"""The HTML report: in a real browser, honest, and with text from elsewhere as text."""

import json
import math
import re
from base64 import b64decode
from pathlib import Path
from typing import Any, get_args, get_type_hints

import backtrader as bt
import jsonschema
import msgspec
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from browser import needs_chromium, opened
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from places import PROJECT, TESTS

from crossmargin_bt import venues
from crossmargin_bt.candles import folder as folders
from crossmargin_bt.cli import commands
from crossmargin_bt.compare import Settings, StrategySpec, run, stress
from crossmargin_bt.compare.stress import changed_conclusions
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.engine.terms.rules import Rules
from crossmargin_bt.report import curves, downsample, files, metric_rows, page, rule_text, summary, traces, upgrade
from crossmargin_bt.results import MarketCandles, RunOutcome

LONG_SHORT = PROJECT / "strategies" / "long_short.py"

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
    """A folder with a strategy that is liquidated on bar 3 of candles with a gap, with its report and result."""
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
    """A folder with report and result of an example strategy under two venues, with stress scenarios."""
    folder = tmp_path_factory.mktemp("compared")
    crossmargin(
        "compare", LONG_SHORT, "--leverage", 40, "--cash", 800, "--venue", "okx,kucoin", "--end", "2025-03-10", "--stress",
        "--report", folder / "out.html", "--json", folder / "out.json",
    )  # fmt: skip
    return folder


@needs_chromium
def test_a_browser_draws_the_report_and_asks_for_nothing(compared: Path) -> None:
    """No errors, no request except the file, every chart drawn, every figure of the table equal to the JSON."""
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
    by_label = {row.label: row for row in metric_rows.METRIC_ROWS}
    assert len(table) == len(metric_rows.METRIC_ROWS) - 2  # no interest is owed and no fill forced
    for label, cells in table:
        row = by_label[label]
        expected = [run["summary"][row.key] for run in runs]
        assert [None if value is None else float(value) for _, value in cells] == expected
        assert [text for text, _ in cells] == ["-" if value is None else row.write(value) for value in expected]


@needs_chromium
def test_a_click_on_an_event_shows_its_arithmetic(doom: Path) -> None:
    """A click on the list entry, and on the marker in the equity chart."""
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
    """Zooming one chart zooms all; the page follows the dark theme, and prints all charts in the light theme."""
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
@pytest.mark.parametrize("width", [390, *(pytest.param(wide, marks=pytest.mark.slow) for wide in (768, 1400))])
def test_no_page_is_wider_than_its_screen(compared: Path, width: int) -> None:
    """On phone, tablet and desktop widths; wide tables scroll on their own."""
    with opened(compared / "out.html", width=width) as browser:
        browser.draw_all()
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.complaints == []


@needs_chromium
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Symbols, params and strategy names that contain HTML are escaped in the page and in the charts."""
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


def test_the_report_begins_with_caveats(doom: Path) -> None:
    """A liquidation on bar 3, a gap in the data and the assumptions are stated before the figures."""
    text = (doom / "out.html").read_text(encoding="utf-8")
    top = text[text.index("<main>") : text.index("Findings</h2>")]
    assert "Doomed, cross: liquidated on bar 3 of 10" in top
    assert "COIN: 2 bars are missing, from 2024-03-01 06:00 to 2024-03-01 07:00" in top
    assert "assumptions apply" in top
    assert "COIN: no mark prices" in top
    assert "more than its collateral" in top


def test_findings_and_caveats_match_the_runs(doom: Path) -> None:
    """Sentences by hand: 5 bought at 100 with cash of 60; the open of 70 leaves 60 - 0.25 - 150."""
    file = files.read(doom / "out.json")
    isolated, cross = (result for result in file.results)
    (finding,) = summary.findings([cross])
    assert finding == (
        "Cross ended at 0.00 USDT (-100.0%); it was liquidated once (COIN at mark price 70 on 2024-03-01 02:00), left "
        f"{cross.bad_debt:,.2f} of bad debt, received one warning, had one forced fill and "
        "had one order refused."
    )
    assert summary.findings([isolated, cross])[0].startswith("Isolated (1 of 2 orders refused) ended highest: ")
    assert "Doomed, cross: lost the account: 0.00 of 60.00 left" in summary.caveats(file)


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
                width = 8 if trace["x"]["wide"] else 4
                assert len(steps) * 3 // 4 // width in range(count - 1, count + 2)
                trace["x"] = [trace["x"]["start"]] * count
        go.Figure(figure["data"], figure["layout"])


def test_a_gap_stays_a_gap() -> None:
    """A bin with NaN keeps one NaN, so that no line is drawn across the gap."""
    values = np.tile([5.0] * 13 + [np.nan] * 3, 750)
    where = downsample.select_points(values, 3_000)
    assert np.isnan(values[where]).sum() >= 590


def test_ties_have_no_winner() -> None:
    """Equal formatted figures have no winner, and no conclusion depends on rounding."""
    end = {"strategy": "S", "venue": "okx", "liquidations": 0, "refused": 0, "lowest_margin_level": None, "profit": 9.0}
    base = [RunOutcome(mode=mode, final_equity=110.0, **end) for mode in ("isolated", "cross")]
    shocked = [
        RunOutcome(mode="isolated", final_equity=109.0, **end),
        RunOutcome(mode="cross", final_equity=109.0000001, **end),
    ]
    assert changed_conclusions(base, shocked) == []
    parted = [shocked[0], RunOutcome(mode="cross", final_equity=90.0, **end)]
    assert changed_conclusions(base, parted) == []
    assert changed_conclusions(parted, [RunOutcome(mode="isolated", final_equity=1.0, **end), shocked[1]]) == [
        "S: cross ends highest (109.00), previously isolated"
    ]


def test_runs_with_equal_final_equity_are_tied(doom: Path) -> None:
    """Two runs with the same final equity."""
    cross = files.read(doom / "out.json").results[1]
    again = msgspec.structs.replace(cross, mode="isolated")
    assert (
        summary.findings([cross, again])[0]
        == "Cross (1 of 2 orders refused) and isolated (1 of 2 orders refused) ended equal: 0.00 USDT."
    )


def test_late_bars_are_no_gaps() -> None:
    """4 h candles up to a minute late have no gap; bars at hours 0, 1, 3 and 7 have a gap of one bar and one of three."""
    from crossmargin_bt.candles.market import Candles  # noqa: PLC0415
    from crossmargin_bt.compare import markets  # noqa: PLC0415

    hour = 3_600_000

    def held(stamps_ms: list[int]) -> list[tuple[int, int, int]]:
        frame = candles(dict.fromkeys(range(len(stamps_ms)), 1.0)).drop(columns="date")
        frame.index = pd.DatetimeIndex(pd.to_datetime(stamps_ms, unit="ms", utc=True))
        return markets([Candles("COIN", frame, None, Instrument(symbol="COIN"))])[0].holes

    jitter = np.random.default_rng(1).integers(0, 60_000, 400)
    assert held([4 * hour * n + int(late) for n, late in enumerate(jitter)]) == []
    assert held([0, hour, 3 * hour, 7 * hour]) == [(2 * hour, 2 * hour, 1), (4 * hour, 6 * hour, 3)]


@pytest.mark.parametrize("stamps", [[0, 3_600_000, 7_200_001], [1, 2**40 + 3, 2**41]])
def test_encoded_times_are_exact(stamps: list[int]) -> None:
    """Including times over years whose common step is a millisecond."""
    found = traces.encode_times(stamps)
    kind = "<f8" if found["wide"] else "<u4"
    steps = np.frombuffer(b64decode(found["steps"]), dtype=kind)
    assert [found["start"] + found["unit"] * int(step) for step in steps] == stamps


def test_curves_by_hand(doom: Path) -> None:
    """Four bars from 100: equity 110, 99, 120, 90 and margin used 0, 10, 30, 40."""
    plain = files.read(doom / "out.json").results[1]
    journal = [
        {"event": "Filled", "time_ms": 1, "fee": 2.0}, {"event": "FundingPaid", "time_ms": 2, "amount": -1.0},
        {"event": "Filled", "time_ms": 3, "fee": 0.5},
    ]  # fmt: skip
    made = msgspec.structs.replace(
        plain,
        starting_cash=100.0,
        equity=[110.0, 99.0, 120.0, 90.0],
        margin_used=[0.0, 10.0, 30.0, 40.0],
        journal=journal,
    )
    assert curves.drawdown(made) == pytest.approx([0, -0.1, 0, -0.25])
    assert curves.return_on_margin(made) == pytest.approx([np.nan, -1 / 5, 20 / (40 / 3), -10 / 20], nan_ok=True)
    assert curves.cumulative_costs(made, "Filled", "fee") == ([1, 3], [2.0, 2.5])
    assert curves.cumulative_costs(made, "FundingPaid", "amount") == ([2], [-1.0])
    under = msgspec.structs.replace(made, equity=[50.0, -20.0, 10.0, 10.0])
    assert curves.drawdown(under) == pytest.approx([-0.5, -1.2, -0.9, -0.9])


def test_correlations_use_common_bars() -> None:
    """Log returns twice as large have correlation 1, their mirror image -1; a constant price is left out."""
    closes = {"A": [1.0, 2.0, 1.0, 4.0], "B": [1.0, 4.0, 1.0, 16.0], "C": [8.0, 4.0, 8.0, 2.0], "D": [5.0] * 4}
    made = [
        MarketCandles(symbol=name, times_ms=[1, 2, 3, 4], high=close, low=close, close=close, step_ms=1, holes=[], has_mark=False,
               funding_settlements=0)
        for name, close in closes.items()
    ]  # fmt: skip
    names, found = curves.return_correlations(made)
    assert names == ["A", "B", "C"]
    assert np.array(found) == pytest.approx(np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]]))


def test_run_writes_every_requested_file(doom: Path, tmp_path: Path) -> None:
    """Result, report, backtrader plot and QuantStats sheet; params apply, and settings are not accepted as params."""
    words = ["run", LONG_SHORT, "--mode", "isolated", "--end", "2025-03-01", "--param", "lookback=96"]
    names = {"--json": "a.json", "--report": "a.html", "--plot": "a.png", "--tearsheet": "sheet.html"}
    crossmargin(*words, *(part for option, name in names.items() for part in (option, tmp_path / name)))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    result = files.read(tmp_path / "a.json").results[0]
    assert result.params == {"lookback": 96}
    sheet = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert "LongShort, isolated generic" in sheet
    assert "Sharpe" in sheet
    usual = crossmargin(*words[:-2], "--json", tmp_path / "usual.json")
    assert usual.exit_code == 0
    assert files.read(tmp_path / "usual.json").results[0].equity != result.equity
    for more, text in {
        ("--param", "leverage=2"): "use --leverage", ("--param", "lokback=2"): "did you mean 'lookback'?",
        ("--plot", "a.gif"): "--plot writes .png", ("--param", "x"): "is not NAME=VALUE",
    }.items():  # fmt: skip
        wrong = CliRunner().invoke(commands, [str(word) for word in (*words, *more)])
        assert wrong.exit_code == 2
        assert text in wrong.stderr


def test_output_files_must_differ(doom: Path) -> None:
    """From each other and from the input file."""
    command = ["compare", str(doom / "doomed.py"), "--data", str(doom / "data"), "--json", "same", "--report", "./same"]
    same = CliRunner().invoke(commands, command)
    assert same.exit_code == 2
    assert "both name same" in same.stderr
    before = (doom / "out.json").read_bytes()
    over = CliRunner().invoke(commands, ["report", str(doom / "out.json"), "--out", str(doom / "out.json")])
    assert "is the result file itself" in over.stderr
    assert (doom / "out.json").read_bytes() == before
    useless = CliRunner().invoke(commands, ["report", str(doom / "out.json"), "--run", "9"])
    assert "--run is for --tearsheet" in useless.stderr


def test_strategies_with_the_same_name_include_their_file(doom: Path, tmp_path: Path) -> None:
    """The same file twice is refused."""
    (tmp_path / "doomed.py").write_text(DOOMED.replace("size=5", "size=1"), encoding="utf-8")
    words = [
        "compare",
        doom / "doomed.py",
        tmp_path / "doomed.py",
        "--data",
        doom / "data",
        "--cash",
        60,
        "--modes",
        "cross",
    ]
    result = crossmargin(*words, "--json", tmp_path / "two.json")
    names = [one.strategy for one in files.read(tmp_path / "two.json").results]
    assert names == [f"Doomed ({doom / 'doomed.py'})", f"Doomed ({tmp_path / 'doomed.py'})"]
    assert "Assumptions" in result.output
    twice = CliRunner().invoke(commands, [str(word) for word in (*words[:2], *words[1:2], *words[3:])])
    assert "is given twice" in twice.stderr


@pytest.mark.parametrize("name", ["fees", "funding", "slippage", "tiers"])
def test_a_stress_scenario_matches_its_description(name: str) -> None:
    """One round trip on the sample: fees doubled, funding tripled, 0.1 % slippage on both fills, maintenance times 1.5."""
    market = [
        one._replace(frame=one.frame.iloc[:60])
        for one in folders.read(PROJECT / "data", symbols=["SIMBTC"], downloads=False)
    ]
    scenario = next(one for one in stress.stress_scenarios(market) if one.name == name)
    spec = StrategySpec("Once", Once)
    usual = Settings(cash=100_000.0)
    base = run(spec, market, venue="generic", mode="cross", settings=usual)
    book = venues.load("generic").with_rules(scenario.rules)
    stressed = run(
        spec, [scenario.candles(one) for one in market], venue=book, mode="cross", settings=scenario.settings(usual)
    )
    if name == "fees":
        assert stressed.fees == pytest.approx(2 * base.fees)
    elif name == "funding":
        assert stressed.funding == pytest.approx(3 * base.funding)
        assert base.funding != 0
    elif name == "slippage":
        before, after = (
            [entry["price"] for entry in one.journal if entry["event"] == "Filled"] for one in (base, stressed)
        )
        assert after == pytest.approx([before[0] * 1.001, before[1] * 0.999])
    else:
        assert stressed.lowest_margin_level == pytest.approx(base.lowest_margin_level / 1.5)


class Once(bt.Strategy):
    """Buys one, and sells it thirty bars later."""

    def next(self):
        if len(self) == 2:
            self.buy(size=1)
        elif len(self) == 32:
            self.close()


def test_stress_scenarios_include_options_and_debts() -> None:
    """Fees and maintenance of options, and maintenance of debts, change; every maintenance rule stays valid."""
    for name in venues.shipped():
        book = venues.load(name)
        by_name = {one.name: one for one in stress.stress_scenarios([])}
        costly, strict = (book.with_rules(by_name[name].rules) for name in ("fees", "tiers"))
        for before, after in zip(book.rules.options, costly.rules.options, strict=True):
            assert after.fee == 2 * before.fee
        for before, after in zip(book.rules.options, strict.rules.options, strict=True):
            assert before.maintenance <= after.maintenance <= max(before.initial, before.maintenance)
        for value in (1_000.0, 1_000_000.0, 50_000_000.0):
            before, after = (one.rules.maintenance.margin(value, value / 50_000) for one in (book, strict))
            assert before <= after <= 1.5 * before * (1 + 1e-12)


@given(st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")), min_size=1, max_size=400), st.integers(4, 60))
def test_downsampling_preserves_extremes(values: list[float], limit: int) -> None:
    """First, last, lowest and highest points are selected in order, within the limit."""
    where = downsample.select_points(values, limit)
    assert len(where) <= max(limit, 5)
    assert (np.diff(where) > 0).all()
    assert where[0] == 0
    assert where[-1] == len(values) - 1
    known = [value for value in values if not math.isnan(value)]
    if known:
        left = np.asarray(values)[where]
        assert np.nanmin(left) == min(known)
        assert np.nanmax(left) == max(known)


def test_every_value_of_a_rule_has_a_description() -> None:
    """The descriptions name only values that the rule accepts, and none is missing."""
    hints = get_type_hints(Rules)
    for key, texts in rule_text.MEANINGS.items():
        shared = {"last"} if key in ("maintenance_price", "isolated_maintenance_price") else set()
        assert set(texts) - shared == set(get_args(hints[key]))


def test_result_files_keep_their_schema(compared: Path, doom: Path) -> None:
    """Written files pass the printed JSON Schema, including runs in cash mode."""
    schema = json.loads(crossmargin("report", "--schema").output)
    validator = jsonschema.Draft202012Validator(schema)
    for folder in (compared, doom):
        validator.validate(json.loads((folder / "out.json").read_text(encoding="utf-8")))
    broken = json.loads((doom / "out.json").read_text(encoding="utf-8"))
    broken["runs"][0]["result"]["journal"][0]["event"] = "Nonsense"
    assert not validator.is_valid(broken)


def test_a_file_of_the_schema_before_still_loads(tmp_path: Path) -> None:
    """Its report omits missing data, and its events can be explained."""
    old = TESTS / "results" / "schema2.json"
    crossmargin("report", old, "--out", tmp_path / "old.html")
    text = (tmp_path / "old.html").read_text(encoding="utf-8")
    assert "it was written by an older version" in text
    assert "liquidated on bar 5 of 8" in text
    assert "Collateral:" in text
    assert "Liquidated USDT" in crossmargin("explain", old, "--run", 3).output


def test_names_of_schema_3_are_upgraded() -> None:
    """Every renamed event, risk state, rule key and order offset."""
    journal = [{"event": "Reduced"}, {"event": "TakenOver"}]
    journal += [{"event": "RiskState", "state": state} for state in ("checked", "safe", "closed", "warning")]
    rules = {"cross_estimate": "account", "above_tier_leverage": "raise", "order_offset": "opening"}
    file = {"schema": 3, "runs": [{"result": {"journal": journal, "rules": rules}}]}
    result = upgrade.upgrade(file)["runs"][0]["result"]
    assert [entry["event"] for entry in result["journal"][:2]] == ["LiquidationStepTaken", "InsuranceFundTakeover"]
    states = [entry["state"] for entry in result["journal"][2:]]
    assert states == ["liquidation_check", "recovered", "closed_out", "warning"]
    assert result["rules"] == {
        "displayed_liquidation_price": "account", "tier_leverage_breach": "raise", "order_offset": "larger_side",
    }  # fmt: skip


def test_a_result_file_reproduces_the_report(doom: Path) -> None:
    """Byte for byte."""
    crossmargin("report", doom / "out.json", "--out", doom / "again.html")
    assert (doom / "again.html").read_bytes() == (doom / "out.html").read_bytes()


def test_arithmetic_in_one_pass_is_that_of_explain(compared: Path) -> None:
    """Explaining all events in one replay gives the same text as replaying up to each event."""
    from crossmargin_bt.report import explained_entries  # noqa: PLC0415

    for result in files.read(compared / "out.json").results:
        journal = explained_entries.engine_journal(result)
        numbers = {n for n, entry in enumerate(journal) if explained_entries.is_explainable(entry)}
        found = explained_entries.explain_entries(result, numbers)
        assert found == {n: explained_entries.explain_entry(result, n) for n in numbers}
