# SPDX-License-Identifier: GPL-3.0-or-later
"""One exchange through ccxt: capabilities, markets, and requests for rows with retries and back-off."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import ccxt.async_support as ccxt

from crossmargin_bt.candles.pagination import Page
from crossmargin_bt.candles.series import Series, SeriesRow
from crossmargin_bt.candles.time_ranges import TimeRange
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import ConfigurationError, DownloadError, RuleError, suggestion
from crossmargin_bt.symbols import path_safe_symbol, short_symbol
from crossmargin_bt.time_units import MS_PER_HOUR
from crossmargin_bt.venues.tiers import Row as TierRow

CCXT_METHODS = {
    "candles": "fetchOHLCV",
    "mark": "fetchMarkOHLCV",
    "index": "fetchIndexOHLCV",
    "funding": "fetchFundingRateHistory",
}
PRICE_PARAM_KINDS = ("mark", "index")
# Rows per response where ccxt does not state the limit; a lower actual limit only costs additional requests.
CANDLE_LIMITS = {"binanceusdm": 1000, "binancecoinm": 500, "binance": 1000}
FUNDING_LIMITS = {"binanceusdm": 1000, "binancecoinm": 1000, "bybit": 200}
DEFAULT_LIMIT = 100
# ccxt does not pass the end of a funding range to OKX; this is OKX's own parameter.
FUNDING_END_PARAM = {"okx": "after"}


class PagedHistory(NamedTuple):
    """A funding history that an exchange pages from its newest row back, without times.

    `parameter` names the page; `first` is the number of the newest page and `step` the distance of the next; for a cursor
    `first` is None and `cursor` the field of an answered row that holds the next one.
    """

    parameter: str
    size: int
    first: int | None = None
    step: int = 1
    cursor: str = ""


# Exchanges whose funding history takes no times, by ccxt's id.
PAGED_FUNDING = {
    "bitget": PagedHistory("pageNo", 100, first=1),
    "mexc": PagedHistory("page_num", 100, first=1),
    "htx": PagedHistory("page_index", 50, first=1),
    "backpack": PagedHistory("offset", 100, first=0, step=100),
    "pacifica": PagedHistory("cursor", 200, cursor="next_cursor"),
}
TIERS_IN_CONTRACTS = frozenset({"okx", "myokx", "okxus"})
# Option markets are the majority of all listings and are not downloaded.
CLIENT_OPTIONS: dict[str, Any] = {
    "okx": {"fetchMarkets": {"types": ["spot", "swap", "future"]}},
    "bybit": {"fetchMarkets": {"types": ["spot", "linear", "inverse"]}},
}
# Maximum leverage of a contract if the exchange does not state it.
DEFAULT_LEVERAGE_MAX = 125.0
# Longest Retry-After that is waited for; beyond it the download fails.
RETRY_AFTER_MAX_S = 900.0
HTTP_ERROR_STATUS_MIN = 400
BACKOFF_MAX_S = 30.0
# Errors that ccxt raises on a truncated, and therefore invalid, JSON body.
MALFORMED_RESPONSE = (TypeError, AttributeError, KeyError, IndexError, ValueError)


class ExchangeMarket(NamedTuple):
    """A market by its unified symbol at the exchange and by its symbol in the store."""

    unified_symbol: str
    stored_symbol: str


class Exchange:
    """A ccxt client, opened as an asynchronous context manager.

    Args:
        name: ccxt's id (`binanceusdm`).
        api_base: URL of a server that replaces every host of the exchange (a mirror, a proxy).
        rate_limited: whether requests observe the rate limit known to ccxt.
        tries: maximum number of attempts per request.
        pause_s: first pause between attempts in seconds; it doubles with each attempt (exponential back-off).
        on_wait: called before each pause with its length in seconds and the reason.
        credentials: API key and secret under ccxt's names.

    Raises:
        ConfigurationError: ccxt does not know the exchange.
    """

    def __init__(
        self, name: str, *, api_base: str | None = None, rate_limited: bool = True, tries: int = 8, pause_s: float = 0.5,
        on_wait: Callable[[float, str], None] = lambda _seconds, _why: None, credentials: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if name not in ccxt.exchanges:
            raise ConfigurationError(f"ccxt knows no exchange {name!r}{suggestion(name, ccxt.exchanges)}")
        settings = {"enableRateLimit": rate_limited, "options": CLIENT_OPTIONS.get(name, {}), **(credentials or {})}
        self.name = name
        self._client: Any = getattr(ccxt, name)(settings)
        if api_base is not None:
            redirect_hosts(self._client, api_base)
        self._tries, self._pause_s, self._on_wait = tries, pause_s, on_wait
        self._backoff_until = self._retry_after_s = 0.0
        self._client.on_rest_response = self._note_retry_after

    async def __aenter__(self) -> Self:
        try:
            await self._call("load_markets", True, parse=_check_not_empty)
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    def missing_method(self, kind: str) -> str | None:
        """Return the ccxt method that a kind of data needs and the exchange lacks; None if it is supported."""
        if kind == "markets":
            return None
        if kind == "tiers":
            has = any(self._client.has.get(name) for name in ("fetchLeverageTiers", "fetchMarketLeverageTiers"))
            return None if has else "fetchLeverageTiers"
        return None if self._client.has.get(CCXT_METHODS[kind]) else CCXT_METHODS[kind]

    def alternative_timeframes(self, timeframe: str) -> str | None:
        """Return the supported timeframes as text if `timeframe` is not among them; None if it is."""
        known = self._client.timeframes or {}
        return None if not known or timeframe in known else ", ".join(known)

    def market(self, text: str) -> ExchangeMarket:
        """Return a market by its unified symbol, the exchange's own id, or its symbol in the store.

        Raises:
            ConfigurationError: no market or several markets match.
        """
        markets = self._client.markets
        if text in markets:
            return ExchangeMarket(text, self._stored_symbol(markets[text]))
        found = [symbol for symbol, market in markets.items() if text in (self._stored_symbol(market), market["id"])]
        perpetual = [symbol for symbol in found if markets[symbol].get("swap")]
        chosen = perpetual or found
        if len(chosen) != 1:
            some = suggestion(text, markets) if not found else f"; write one of {', '.join(sorted(found))}"
            raise ConfigurationError(f"{self.name} has {'several markets' if found else 'no market'} {text!r}{some}")
        return ExchangeMarket(chosen[0], self._stored_symbol(markets[chosen[0]]))

    def _stored_symbol(self, market: Mapping[str, Any]) -> str:
        """Return the symbol of a market in the store. If a pair has a linear and an inverse perpetual, the linear one has the short name."""
        name = stored_symbol(market)
        if market.get("inverse") and f"{market['base']}/{market['quote']}:{market['quote']}" in self._client.markets:
            return path_safe_symbol(str(market["symbol"]))
        return name

    def instrument(self, market: ExchangeMarket) -> Instrument:
        """Return the contract facts of a market, without leverage tiers.

        Raises:
            DownloadError: the exchange returned facts that are not a valid contract.
        """
        facts = self._client.markets[market.unified_symbol]
        limits = facts.get("limits") or {}
        try:
            return Instrument(
                symbol=market.stored_symbol,
                settle=facts.get("settle") or facts["quote"],
                contract_size=float(facts.get("contractSize") or 1.0),
                lot=self._step(facts, "amount") or 0.0,
                tick=self._step(facts, "price") or 0.0,
                notional_min=float((limits.get("cost") or {}).get("min") or 0.0),
                leverage_max=float((limits.get("leverage") or {}).get("max") or DEFAULT_LEVERAGE_MAX),
                inverse=bool(facts.get("inverse")),
                underlying=facts["base"],
                maker=facts.get("maker"),
                taker=facts.get("taker"),
                **product_facts(facts),
            )
        except RuleError as error:
            raise DownloadError(
                f"{self.name} describes {market.unified_symbol} as an invalid contract: {error}"
            ) from error

    def page_length_ms(self, series: Series) -> int:
        """Return the length in milliseconds of the longest request window that fits into one answer."""
        if not series.step_ms:
            return FUNDING_LIMITS.get(self.name, DEFAULT_LIMIT) * MS_PER_HOUR
        features = ((self._client.features or {}).get("swap") or {}).get("linear") or {}
        limits = features.get("fetchOHLCV") or {}
        rows = CANDLE_LIMITS.get(self.name, limits.get(series.kind) or limits.get("limit") or DEFAULT_LIMIT)
        return int(rows) * series.step_ms

    async def server_time(self) -> int:
        """Return the exchange's time in milliseconds; the local time if it has no time endpoint."""
        if self._client.has.get("fetchTime"):
            return int(await self._call("fetch_time", parse=int))
        return int(self._client.milliseconds())

    async def fetch_rows(self, market: ExchangeMarket, series: Series, time_range: TimeRange) -> Sequence[SeriesRow]:
        """Return the rows of one request for a time range; rows with unusable values are dropped."""
        start, end = time_range
        if series.kind == "funding":
            limit = FUNDING_LIMITS.get(self.name, DEFAULT_LIMIT)
            end_of: dict[str, Any] = {FUNDING_END_PARAM.get(self.name, "until"): end}
            return list(
                await self._call(
                    "fetch_funding_rate_history", market.unified_symbol, start, limit, end_of,
                    parse=lambda answer: [row for row, _ in _settlements(answer)],
                )
            )  # fmt: skip
        limit = max(1, min((end - start) // series.step_ms, self.page_length_ms(series) // series.step_ms))
        params: dict[str, Any] = {"until": end - 1}
        if series.kind in PRICE_PARAM_KINDS:
            params["price"] = series.kind
        width = len(series.columns)
        return list(
            await self._call(
                "fetch_ohlcv", market.unified_symbol, series.timeframe, start, limit, params,
                parse=lambda answer: [
                    SeriesRow(int(row[0]), tuple(float(x or 0.0) for x in row[1 : 1 + width])) for row in answer if _is_candle(row)
                ],
            )
        )  # fmt: skip

    @property
    def paged_funding(self) -> PagedHistory | None:
        """How the funding history is paged if the exchange knows no times for it; None if it does."""
        return PAGED_FUNDING.get(self.name)

    async def fetch_funding_page(self, market: ExchangeMarket, token: str | int | None) -> Page:
        """Return one page of a funding history without times; see `paged_funding`."""
        paged = PAGED_FUNDING[self.name]
        token = paged.first if token is None else token
        params = {} if token is None else {paged.parameter: token}
        answer = await self._call(
            "fetch_funding_rate_history", market.unified_symbol, None, paged.size, params, parse=_settlements
        )
        rows = [row for row, _ in answer]
        if paged.first is None:
            cursors = (info.get(paged.cursor) for _, info in answer if isinstance(info, Mapping))
            return Page(rows, next((cursor for cursor in cursors if cursor), None))
        return Page(rows, int(token or 0) + paged.step)

    def listed_ms(self, market: ExchangeMarket) -> int:
        """Return when a market was listed, in milliseconds; 0 if the exchange does not say."""
        return int(self._client.markets[market.unified_symbol].get("created") or 0)

    async def fetch_tiers(self, markets: Sequence[ExchangeMarket]) -> tuple[dict[str, list[TierRow]], list[str]]:
        """Return leverage tiers by unified symbol, with maintenance deductions where the exchange publishes them, and what is wrong.

        Raises:
            DownloadError: the exchange requires credentials, or does not answer.
        """
        symbols = [market.unified_symbol for market in markets]
        if self._client.has.get("fetchLeverageTiers") is True:
            answer = await self._call("fetch_leverage_tiers", symbols)
        else:
            answer = {symbol: await self._call("fetch_market_leverage_tiers", symbol) for symbol in symbols}
        tables, failures = {}, []
        for symbol in symbols:
            if not answer.get(symbol):
                failures.append(f"{self.name} returned no leverage tiers for {symbol}")
                continue
            unit_value = await self._contract_value(symbol) if self.name in TIERS_IN_CONTRACTS else 1.0
            try:
                tables[symbol] = [_tier(tier, unit_value) for tier in answer[symbol]]
            except (TypeError, ValueError, KeyError) as error:
                failures.append(f"{self.name}: the leverage tiers of {symbol} lack a rate or a bound ({error})")
        return tables, failures

    async def _contract_value(self, symbol: str) -> float:
        """Return the current value of one contract: OKX states its tiers in contracts."""
        ticker = await self._call("fetch_ticker", symbol)
        size = float(self._client.markets[symbol].get("contractSize") or 1.0)
        return size if self._client.markets[symbol].get("inverse") else size * float(ticker["last"])

    def _step(self, market: Mapping[str, Any], of: str) -> float | None:
        value = (market.get("precision") or {}).get(of)
        if value is None:
            return None
        return float(value) if self._client.precisionMode == ccxt.TICK_SIZE else 10.0 ** -int(value)

    async def _call(self, method: str, *arguments: Any, parse: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """Return the result of a ccxt method, passed through `parse`; transient failures are retried with back-off.

        Raises:
            DownloadError: the failure is permanent, or all attempts failed.
        """
        for attempt in range(1, self._tries + 1):
            await self._wait_for_backoff()
            try:
                return parse(await getattr(self._client, method)(*arguments))
            except ccxt.AuthenticationError as error:
                raise DownloadError(
                    f"{self.name} requires credentials for {method}: set CROSSMARGIN_API_KEY and CROSSMARGIN_API_SECRET ({error})"
                ) from error
            except (ccxt.OperationFailed, ccxt.ExchangeError, *MALFORMED_RESPONSE) as error:
                if not _is_transient(error):
                    raise DownloadError(f"{self.name} refuses {method}: {error}") from error
                if attempt == self._tries:
                    raise DownloadError(f"{self.name} failed {attempt} times in {method}: {error!r:.300}") from error
                self._back_off(attempt, error)
        raise AssertionError("a loop that returns or raises")

    def _back_off(self, attempt: int, error: Exception) -> None:
        """Delay all requests: for the time the exchange asks for (Retry-After), at least for an exponentially growing pause with jitter."""
        asked, self._retry_after_s = self._retry_after_s, 0.0
        if asked > RETRY_AFTER_MAX_S:
            raise DownloadError(f"{self.name} asks to retry after {asked:g} s; run the same command again then")
        pause = min(BACKOFF_MAX_S, self._pause_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        pause = max(pause, asked)
        self._on_wait(pause, type(error).__name__)
        self._backoff_until = max(self._backoff_until, asyncio.get_running_loop().time() + pause)

    def _note_retry_after(
        self, status: int, _reason: str, _url: str, _method: str, headers: Mapping[str, str], body: str, *_: Any
    ) -> str:
        """Read the Retry-After header of a response before ccxt parses its body."""
        given = next((value for key, value in headers.items() if key.lower() == "retry-after"), "")
        if status >= HTTP_ERROR_STATUS_MIN and given.isdigit():
            self._retry_after_s = max(self._retry_after_s, float(given))
        return body

    async def _wait_for_backoff(self) -> None:
        # Another request may have extended the back-off in the meantime.
        while (left := self._backoff_until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)


def redirect_hosts(client: Any, base: str) -> None:
    """Replace every host of a ccxt client by another server; paths are kept."""

    def moved(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: moved(value) for key, value in node.items()}
        return base.rstrip("/") + urlsplit(str(node).replace("{hostname}", "host")).path

    client.urls["api"] = moved(client.urls["api"])


def product_facts(market: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `Instrument` fields that depend on the product of a ccxt market: kind, quote, expiry, strike, option type.

    >>> product_facts({"type": "spot", "quote": "USDT"})
    {'kind': 'spot', 'quote': 'USDT'}
    >>> product_facts({"type": "option", "quote": "USD", "expiry": 1750982400000, "strike": 5e4, "optionType": "call"})["expiry"].date()
    datetime.date(2025, 6, 27)
    """
    facts: dict[str, Any] = {"quote": market.get("quote") or ""}
    kind = next((kind for kind in ("spot", "option", "future") if market.get(kind) or market.get("type") == kind), None)
    if kind == "spot":
        return {"kind": "spot", **facts}
    if kind is None or market.get("expiry") is None:
        return facts
    facts |= {"kind": kind, "expiry": datetime.fromtimestamp(float(market["expiry"]) / 1000, tz=UTC)}
    if kind == "option":
        facts |= {"strike": float(market["strike"]), "option": market["optionType"]}
    return facts


def stored_symbol(market: Mapping[str, Any]) -> str:
    """Return the symbol of a market in the store: BTCUSDT for a perpetual, otherwise the unified symbol made safe for file names."""
    symbol = str(market["symbol"])
    return short_symbol(symbol) if market.get("swap") else path_safe_symbol(symbol)


def _check_not_empty(markets: Any) -> Any:
    if not markets:
        raise ValueError("the exchange returned no markets")
    return markets


def _is_transient(error: Exception) -> bool:
    """Return whether a retry may succeed: network failures, malformed responses, overload."""
    # The base class ExchangeError carries no information about the cause.
    if isinstance(error, (ccxt.OperationFailed, *MALFORMED_RESPONSE)) or type(error) is ccxt.ExchangeError:
        return True
    # ccxt reports connections lost within a response body as errors of the exchange.
    return isinstance(error.__cause__, aiohttp.ClientError)


def _is_candle(row: Sequence[Any]) -> bool:
    """Return whether a row of ccxt is a possible candle; impossible ones would block a later load."""
    prices = row[1:5]
    if len(prices) < 4 or not all(isinstance(price, int | float) for price in prices):
        return False
    opens, high, low, close = prices
    return bool(0 < low <= min(opens, close) and max(opens, close) <= high < float("inf"))


def _settlements(answer: Any) -> list[tuple[SeriesRow, Any]]:
    """Return the settlements in an answer of ccxt with their raw entries; entries without time or a possible rate are dropped."""
    return [
        (SeriesRow(int(entry["timestamp"]), (float(entry["fundingRate"]),)), entry.get("info"))
        for entry in answer
        if isinstance(entry.get("timestamp"), int) and isinstance(entry.get("fundingRate"), int | float)
        and abs(entry["fundingRate"]) < 1
    ]  # fmt: skip


def _tier(tier: Mapping[str, Any], unit_value: float) -> TierRow:
    info = tier.get("info") or {}
    deduction = info.get("cum", info.get("mmDeduction")) if isinstance(info, Mapping) else None
    top = tier.get("maxNotional")
    return TierRow(
        notional_min=float(tier.get("minNotional") or 0.0) * unit_value,
        maintenance_rate=float(tier["maintenanceMarginRate"]),
        leverage_max=float(tier["maxLeverage"]) if tier.get("maxLeverage") else None,
        notional_max=None if top is None else float(top) * unit_value,
        maintenance_amount=None if deduction is None else float(str(deduction) or 0.0),
    )
