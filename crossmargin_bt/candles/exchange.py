# SPDX-License-Identifier: GPL-3.0-or-later
"""One exchange through ccxt: what it has, its markets, and rows for a time_range, asked for until it answers."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import ccxt.async_support as ccxt

from crossmargin_bt.candles.series import Series, SeriesRow, path_safe_symbol
from crossmargin_bt.candles.time_ranges import TimeRange
from crossmargin_bt.engine.terms.instrument import Instrument
from crossmargin_bt.errors import ConfigurationError, DownloadError, RuleError, suggestion
from crossmargin_bt.time_units import MS_PER_HOUR
from crossmargin_bt.venues.tiers import Row as TierRow
from crossmargin_bt.venues.tiers import plain

CCXT_METHODS = {
    "candles": "fetchOHLCV",
    "mark": "fetchMarkOHLCV",
    "index": "fetchIndexOHLCV",
    "funding": "fetchFundingRateHistory",
}
PRICE_PARAM_KINDS = ("mark", "index")
# RowArrays an exchange gives at once. What ccxt says of itself is the rest of the answer; a cap that is lower is found out.
CANDLE_LIMITS = {"binanceusdm": 1000, "binancecoinm": 500, "binance": 1000}
FUNDING_LIMITS = {"binanceusdm": 1000, "binancecoinm": 1000, "bybit": 200}
DEFAULT_LIMIT = 100
# ccxt gives OKX no end of a time_range of funding; its own name for it is this.
FUNDING_END_PARAM = {"okx": "after"}
TIERS_IN_CONTRACTS = frozenset({"okx", "myokx", "okxus"})
# Options are nobody's candles here, and their markets are most of what is listed.
CLIENT_OPTIONS: dict[str, Any] = {
    "okx": {"fetchMarkets": {"types": ["spot", "swap", "future"]}},
    "bybit": {"fetchMarkets": {"types": ["spot", "linear", "inverse"]}},
}
# The highest leverage of a contract whose exchange does not say.
DEFAULT_LEVERAGE_MAX = 125.0
# A pause that an exchange asks for is taken up to this long; beyond it the download ends.
RETRY_AFTER_MAX_S = 900.0
HTTP_ERROR_STATUS_MIN = 400
BACKOFF_MAX_S = 30.0
# The body of an answer that broke off is no JSON, and ccxt stumbles over it.
MALFORMED_RESPONSE = (TypeError, AttributeError, KeyError, IndexError, ValueError)


class ExchangeMarket(NamedTuple):
    """A market by the exchange's unified symbol and by the name its files have here."""

    unified_symbol: str
    stored_symbol: str


class Exchange:
    """A ccxt client, opened as an asynchronous context.

    Args:
        name: ccxt's id (`binanceusdm`).
        api_base: a server that stands in for every host of the exchange (a mirror, a proxy).
        rate_limited: whether requests keep to the rate that ccxt knows.
        tries: how often a request is sent before it counts as failed.
        pause_s: the first pause between tries in seconds; it doubles from one to the next.
        on_wait: told of a pause in seconds and why.

    Raises:
        ConfigurationError: ccxt knows no such exchange.
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
        """Return what the exchange has no method for, None where it has one."""
        if kind == "markets":
            return None
        if kind == "tiers":
            has = any(self._client.has.get(name) for name in ("fetchLeverageTiers", "fetchMarketLeverageTiers"))
            return None if has else "fetchLeverageTiers"
        return None if self._client.has.get(CCXT_METHODS[kind]) else CCXT_METHODS[kind]

    def alternative_timeframes(self, timeframe: str) -> str | None:
        """Return the timeframes there are instead, None where there is this one."""
        known = self._client.timeframes or {}
        return None if not known or timeframe in known else ", ".join(known)

    def market(self, text: str) -> ExchangeMarket:
        """Return a market by its unified symbol, the exchange's own name of it, or the name of its files.

        Raises:
            ConfigurationError: there is none, or there are several.
        """
        markets = self._client.markets
        if text in markets:
            return ExchangeMarket(text, self._stored_symbol(markets[text]))
        found = [symbol for symbol, one in markets.items() if text in (self._stored_symbol(one), one["id"])]
        perpetual = [symbol for symbol in found if markets[symbol].get("swap")]
        chosen = perpetual or found
        if len(chosen) != 1:
            some = suggestion(text, markets) if not found else f"; write one of {', '.join(sorted(found))}"
            raise ConfigurationError(f"{self.name} has {'several markets' if found else 'no market'} {text!r}{some}")
        return ExchangeMarket(chosen[0], self._stored_symbol(markets[chosen[0]]))

    def _stored_symbol(self, market: Mapping[str, Any]) -> str:
        """Return the name of a market's files; of two perpetuals of one pair only the linear one has the short name."""
        name = stored_symbol(market)
        if market.get("inverse") and f"{market['base']}/{market['quote']}:{market['quote']}" in self._client.markets:
            return path_safe_symbol(str(market["symbol"]))
        return name

    def instrument(self, market: ExchangeMarket) -> Instrument:
        """Return the facts of a contract, without its tiers.

        Raises:
            DownloadError: what the exchange says of it makes no contract.
        """
        one = self._client.markets[market.unified_symbol]
        limits = one.get("limits") or {}
        try:
            return Instrument(
                symbol=market.stored_symbol,
                settle=one.get("settle") or one["quote"],
                contract_size=float(one.get("contractSize") or 1.0),
                lot=self._step(one, "amount") or 0.0,
                tick=self._step(one, "price") or 0.0,
                notional_min=float((limits.get("cost") or {}).get("min") or 0.0),
                leverage_max=float((limits.get("leverage") or {}).get("max") or DEFAULT_LEVERAGE_MAX),
                inverse=bool(one.get("inverse")),
                underlying=one["base"],
                maker=one.get("maker"),
                taker=one.get("taker"),
                **product_facts(one),
            )
        except RuleError as error:
            raise DownloadError(f"{self.name} describes {market.unified_symbol} as no contract: {error}") from error

    def page_length_ms(self, series: Series) -> int:
        """Return the length of the window that one answer holds, in milliseconds."""
        if not series.step_ms:
            return FUNDING_LIMITS.get(self.name, DEFAULT_LIMIT) * MS_PER_HOUR
        features = ((self._client.features or {}).get("swap") or {}).get("linear") or {}
        said = features.get("fetchOHLCV") or {}
        rows = CANDLE_LIMITS.get(self.name, said.get(series.kind) or said.get("limit") or DEFAULT_LIMIT)
        return int(rows) * series.step_ms

    async def server_time(self) -> int:
        """Return the exchange's time in milliseconds; this computer's where it tells none."""
        if self._client.has.get("fetchTime"):
            return int(await self._call("fetch_time", parse=int))
        return int(self._client.milliseconds())

    async def fetch_rows(self, market: ExchangeMarket, series: Series, time_range: TimeRange) -> Sequence[SeriesRow]:
        """Return what the exchange gives for a time_range; rows without usable values are left out."""
        start, end = time_range
        if series.kind == "funding":
            limit = FUNDING_LIMITS.get(self.name, DEFAULT_LIMIT)
            end_of: dict[str, Any] = {FUNDING_END_PARAM.get(self.name, "until"): end}
            return list(
                await self._call(
                    "fetch_funding_rate_history", market.unified_symbol, start, limit, end_of,
                    parse=lambda answer: [
                        SeriesRow(int(one["timestamp"]), (float(one["fundingRate"]),)) for one in answer if _is_settlement(one)
                    ],
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
                    SeriesRow(int(one[0]), tuple(float(x or 0.0) for x in one[1 : 1 + width])) for one in answer if _is_candle(one)
                ],
            )
        )  # fmt: skip

    async def fetch_tiers(self, markets: Sequence[ExchangeMarket]) -> dict[str, list[TierRow]]:
        """Return the tier tables of contracts by unified symbol; where the exchange prints deductions, with them.

        Raises:
            DownloadError: the exchange wants credentials for it, or does not answer.
        """
        symbols = [market.unified_symbol for market in markets]
        if self._client.has.get("fetchLeverageTiers") is True:
            answer = await self._call("fetch_leverage_tiers", symbols)
        else:
            answer = {symbol: await self._call("fetch_market_leverage_tiers", symbol) for symbol in symbols}
        found = {}
        for symbol in symbols:
            if symbol not in answer:
                raise DownloadError(f"{self.name} gives no leverage tiers of {symbol}")
            in_contracts = await self._contract_value(symbol) if self.name in TIERS_IN_CONTRACTS else 1.0
            found[symbol] = [_tier(one, in_contracts) for one in answer[symbol]]
        return found

    async def _contract_value(self, symbol: str) -> float:
        """Return what a contract is worth now: OKX counts its tiers in contracts."""
        ticker = await self._call("fetch_ticker", symbol)
        size = float(self._client.markets[symbol].get("contractSize") or 1.0)
        return size if self._client.markets[symbol].get("inverse") else size * float(ticker["last"])

    def _step(self, market: Mapping[str, Any], of: str) -> float | None:
        value = (market.get("precision") or {}).get(of)
        if value is None:
            return None
        return float(value) if self._client.precisionMode == ccxt.TICK_SIZE else 10.0 ** -int(value)

    async def _call(self, method: str, *arguments: Any, parse: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """Return what a method answers, as `parse` takes it; failures that may pass are tried again, after a pause.

        Raises:
            DownloadError: it failed for good, or too often.
        """
        for attempt in range(1, self._tries + 1):
            await self._wait_for_backoff()
            try:
                return parse(await getattr(self._client, method)(*arguments))
            except ccxt.AuthenticationError as error:
                raise DownloadError(
                    f"{self.name} wants credentials for {method}: set CROSSMARGIN_API_KEY and CROSSMARGIN_API_SECRET ({error})"
                ) from error
            except (ccxt.OperationFailed, ccxt.ExchangeError, *MALFORMED_RESPONSE) as error:
                if not _is_transient(error):
                    raise DownloadError(f"{self.name} refuses {method}: {error}") from error
                if attempt == self._tries:
                    raise DownloadError(f"{self.name} failed {attempt} times in {method}: {error!r:.300}") from error
                self._back_off(attempt, error)
        raise AssertionError("a loop that returns or raises")

    def _back_off(self, attempt: int, error: Exception) -> None:
        """Hold all requests back: as long as the exchange asks, else longer from failure to failure."""
        asked, self._retry_after_s = self._retry_after_s, 0.0
        if asked > RETRY_AFTER_MAX_S:
            raise DownloadError(f"{self.name} asks to come back in {asked:g} s; run the same command again then")
        pause = min(BACKOFF_MAX_S, self._pause_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        pause = max(pause, asked)
        self._on_wait(pause, type(error).__name__)
        self._backoff_until = max(self._backoff_until, asyncio.get_running_loop().time() + pause)

    def _note_retry_after(
        self, status: int, _reason: str, _url: str, _method: str, headers: Mapping[str, str], body: str, *_: Any
    ) -> str:
        """Take from every answer, before ccxt reads it, how long the exchange asks to be left alone."""
        given = next((value for key, value in headers.items() if key.lower() == "retry-after"), "")
        if status >= HTTP_ERROR_STATUS_MIN and given.isdigit():
            self._retry_after_s = max(self._retry_after_s, float(given))
        return body

    async def _wait_for_backoff(self) -> None:
        # Meanwhile another request may have closed it for longer.
        while (left := self._backoff_until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)


def redirect_hosts(client: Any, base: str) -> None:
    """Let every host of a ccxt client be another server; the paths stay."""

    def moved(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: moved(value) for key, value in node.items()}
        return base.rstrip("/") + urlsplit(str(node).replace("{hostname}", "host")).path

    client.urls["api"] = moved(client.urls["api"])


def product_facts(market: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an `Instrument` has besides for the kind of a market: kind, quote, expiry, strike, call or put.

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
    """Return the name of a market's files: BTCUSDT for a perpetual, else the unified symbol without its signs."""
    symbol = str(market["symbol"])
    return plain(symbol) if market.get("swap") else path_safe_symbol(symbol)


def _check_not_empty(markets: Any) -> Any:
    if not markets:
        raise ValueError("an exchange without markets")
    return markets


def _is_transient(error: Exception) -> bool:
    """Return whether a failure may be over at the next try: the network's, a broken answer, an exchange that is busy."""
    # Of what ccxt cannot name no more than that the exchange said no, nothing is known.
    if isinstance(error, (ccxt.OperationFailed, *MALFORMED_RESPONSE)) or type(error) is ccxt.ExchangeError:
        return True
    # ccxt files connections that broke off within a body with the exchange's refusals.
    return isinstance(error.__cause__, aiohttp.ClientError)


def _is_candle(one: Sequence[Any]) -> bool:
    prices = one[1:5]
    return len(prices) == 4 and all(isinstance(price, int | float) and 0 < price < float("inf") for price in prices)


def _is_settlement(one: Mapping[str, Any]) -> bool:
    return isinstance(one.get("timestamp"), int) and isinstance(one.get("fundingRate"), int | float)


def _tier(one: Mapping[str, Any], worth: float) -> TierRow:
    info = one.get("info") or {}
    deduction = info.get("cum", info.get("mmDeduction")) if isinstance(info, Mapping) else None
    top = one.get("maxNotional")
    return TierRow(
        notional_min=float(one.get("minNotional") or 0.0) * worth,
        maintenance_rate=float(one["maintenanceMarginRate"]),
        leverage_max=float(one["maxLeverage"]) if one.get("maxLeverage") else None,
        notional_max=None if top is None else float(top) * worth,
        maintenance_amount=None if deduction is None else float(str(deduction) or 0.0),
    )
