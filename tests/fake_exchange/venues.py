# SPDX-License-Identifier: GPL-3.0-or-later
"""The APIs of the three exchanges that answer by time, and of those in `paged`: paths, parameters, order of rows, and the end at which answers are truncated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fake_exchange import paged
from fake_exchange.truth import HOUR, MINUTE

if TYPE_CHECKING:
    from fake_exchange.server import FakeExchange, Fault

FAR = 4_133_404_800_000
KINDS = {
    "/fapi/v1/klines": "candles", "/fapi/v1/markPriceKlines": "mark", "/fapi/v1/indexPriceKlines": "index",
    "/api/v5/market/candles": "candles", "/api/v5/market/history-candles": "candles",
    "/api/v5/market/mark-price-candles": "mark", "/api/v5/market/history-mark-price-candles": "mark",
    "/api/v5/market/index-candles": "index", "/api/v5/market/history-index-candles": "index",
    "/v5/market/kline": "candles", "/v5/market/mark-price-kline": "mark", "/v5/market/index-price-kline": "index",
}  # fmt: skip
STEPS = {"1m": MINUTE, "1h": HOUR, "1H": HOUR, "1": MINUTE, "60": HOUR}


def error_body(path: str, status: int) -> str:
    """Return an exchange's response body for an error status."""
    if path.startswith("/fapi"):
        return json.dumps({"code": -1003 if status in (418, 429) else -1001, "msg": "later"})
    if path.startswith("/api/v5"):
        return json.dumps({"code": "50011" if status == 429 else "50001", "msg": "later", "data": []})
    return json.dumps({"retCode": 10006 if status == 429 else 10016, "retMsg": "later", "result": {}})


def answer(fake: FakeExchange, path: str, query: dict[str, str], fault: Fault | None) -> str | None:
    """Return the body of an answer; None for an unknown path."""
    if path in KINDS or path in FUNDING:
        dialect = _binance if path.startswith("/fapi") else _okx if path.startswith("/api/v5") else _bybit
        return json.dumps(dialect(fake, path, query, fault))
    if path in paged.ROWS:
        return json.dumps(paged.ROWS[path](fake, query, fault))
    plain = PLAIN.get(path) or paged.PLAIN.get(path)
    return None if plain is None else json.dumps(plain(fake, query))


FUNDING = ("/fapi/v1/fundingRate", "/api/v5/public/funding-rate-history", "/v5/market/funding/history")


def _binance(fake: FakeExchange, path: str, query: dict[str, str], fault: Fault | None) -> list[Any]:
    truth = fake.truths[(query.get("symbol") or query["pair"]).removesuffix("USDT")]
    start, end = int(query.get("startTime", 0)), int(query.get("endTime", FAR)) + 1
    limit = min(int(query.get("limit", 100 if path in FUNDING else 500)), 1500, fake.cap or 1500)
    if path in FUNDING:
        rows: list[Any] = [
            {"symbol": query["symbol"], "fundingTime": t, "fundingRate": f"{rate:.8f}"}
            for t, rate in truth.funding(start, end)
        ]
    else:
        step = STEPS[query["interval"]]
        rows = [
            [t, str(o), str(h), str(low), str(c), str(v), t + step - 1, "0", 1, "0", "0", "0"]
            for t, o, h, low, c, v in truth.candles(KINDS[path], start, end, step)
        ]
    return fake.spoiled(rows[:limit], fault)  # from the start on


def _okx(fake: FakeExchange, path: str, query: dict[str, str], fault: Fault | None) -> dict[str, Any]:
    truth = fake.truths[query["instId"].partition("-")[0]]
    start, end = int(query.get("before", 0)) + 1, int(query.get("after", FAR))
    most = 300 if KINDS.get(path) == "candles" else 100
    limit = min(int(query.get("limit", 100)), most, fake.cap or most)
    if path in FUNDING:
        rows: list[Any] = [
            {"instId": query["instId"], "fundingTime": str(t), "realizedRate": f"{rate:.8f}", "fundingRate": "0"}
            for t, rate in truth.funding(start, end)
        ]
    else:
        rows = [
            [
                str(t),
                str(o),
                str(h),
                str(low),
                str(c),
                *((str(100 * v), str(v), "0") if KINDS[path] == "candles" else ()),
                "1",
            ]
            for t, o, h, low, c, v in truth.candles(KINDS[path], start, end, STEPS[query["bar"]])
        ]
    return {"code": "0", "msg": "", "data": fake.spoiled(rows[::-1][:limit], fault)}  # the newest first


def _bybit(fake: FakeExchange, path: str, query: dict[str, str], fault: Fault | None) -> dict[str, Any]:
    truth = fake.truths[query["symbol"].removesuffix("USDT")]
    if path in FUNDING:
        start, end = int(query["startTime"]), int(query["endTime"]) + 1
        rows: list[Any] = [
            {"symbol": query["symbol"], "fundingRateTimestamp": str(t), "fundingRate": f"{rate:.8f}"}
            for t, rate in truth.funding(start, end)
        ]
        most = 200
    else:
        start, end = int(query["start"]), int(query.get("end", FAR)) + 1
        rows = [
            [str(t), str(o), str(h), str(low), str(c), *((str(v), "0") if KINDS[path] == "candles" else ())]
            for t, o, h, low, c, v in truth.candles(KINDS[path], start, end, STEPS[query["interval"]])
        ]
        most = 1000
    limit = min(int(query.get("limit", 200)), most, fake.cap or most)
    return {
        "retCode": 0, "retMsg": "OK", "time": 0,
        "result": {"category": "linear", "symbol": query["symbol"], "list": fake.spoiled(rows[::-1][:limit], fault)},
    }  # fmt: skip


def _exchange_info(fake: FakeExchange, _query: dict[str, str]) -> dict[str, Any]:
    return {
        "timezone": "UTC",
        "serverTime": 0,
        "symbols": [
            {
                "symbol": f"{base}USDT", "pair": f"{base}USDT", "contractType": "PERPETUAL", "deliveryDate": FAR,
                "onboardDate": 1_569_398_400_000, "status": "TRADING", "baseAsset": base, "quoteAsset": "USDT",
                "marginAsset": "USDT", "pricePrecision": 2, "quantityPrecision": 3, "baseAssetPrecision": 8,
                "quotePrecision": 8, "underlyingType": "COIN",
                "filters": [
                    {"filterType": "PRICE_FILTER", "minPrice": "0.10", "maxPrice": "4529764", "tickSize": "0.10"},
                    {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
                    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
                    {"filterType": "MIN_NOTIONAL", "notional": "5"},
                ],
            }
            for base in fake.truths
        ],
    }  # fmt: skip


def _okx_instruments(fake: FakeExchange, query: dict[str, str]) -> dict[str, Any]:
    listed = fake.truths if query.get("instType") == "SWAP" else ()
    data = [
        {
            "instType": "SWAP", "instId": f"{base}-USDT-SWAP", "instFamily": f"{base}-USDT", "uly": f"{base}-USDT",
            "baseCcy": "", "quoteCcy": "", "settleCcy": "USDT", "ctVal": "0.01", "ctMult": "1", "ctValCcy": base,
            "ctType": "linear", "lever": "100", "tickSz": "0.1", "lotSz": "0.01", "minSz": "0.01", "state": "live",
            "listTime": "1573557408000", "expTime": "",
        }
        for base in listed
    ]  # fmt: skip
    return {"code": "0", "msg": "", "data": data}


def _okx_tiers(_fake: FakeExchange, query: dict[str, str]) -> dict[str, Any]:
    rows = [("0", "1000", "0.004", "100"), ("1000", "3000", "0.006", "75")]
    data = [
        {"instType": "SWAP", "instFamily": query.get("instFamily", ""), "uly": query.get("uly", ""), "tier": str(n), "minSz": low,
         "maxSz": high, "mmr": rate, "imr": "0.01", "maxLever": lever}
        for n, (low, high, rate, lever) in enumerate(rows, start=1)
    ]  # fmt: skip
    return {"code": "0", "msg": "", "data": data}


def _okx_ticker(_fake: FakeExchange, query: dict[str, str]) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": [{"instId": query["instId"], "last": "30000", "ts": "0"}]}


def _bybit_instruments(fake: FakeExchange, query: dict[str, str]) -> dict[str, Any]:
    listed = fake.truths if query.get("category") == "linear" and query.get("status") != "PreLaunch" else ()
    found = [
        {
            "symbol": f"{base}USDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": base,
            "quoteCoin": "USDT", "settleCoin": "USDT", "launchTime": "1585526400000", "deliveryTime": "0",
            "priceScale": "2", "fundingInterval": 480,
            "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
            "priceFilter": {"minPrice": "0.10", "maxPrice": "199999.80", "tickSize": "0.10"},
            "lotSizeFilter": {"maxOrderQty": "1190", "minOrderQty": "0.001", "qtyStep": "0.001", "minNotionalValue": "5"},
        }
        for base in listed
    ]  # fmt: skip
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"category": "linear", "list": found, "nextPageCursor": ""},
        "time": 0,
    }


def _bybit_tiers(fake: FakeExchange, _query: dict[str, str]) -> dict[str, Any]:
    rows = [("2000000", "0.005", "100", ""), ("4000000", "0.01", "50", "10000")]
    found = [
        {"id": n, "symbol": f"{base}USDT", "riskLimitValue": top, "maintenanceMargin": rate, "initialMargin": "0.01",
         "isLowestRisk": 0, "maxLeverage": lever, "mmDeduction": cut}
        for base in fake.truths
        for n, (top, rate, lever, cut) in enumerate(rows, start=1)
    ]  # fmt: skip
    return {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": found}, "time": 0}


def _now(fake: FakeExchange) -> int:
    return next(iter(fake.truths.values())).now + fake.skew


PLAIN = {
    "/fapi/v1/exchangeInfo": _exchange_info,
    "/fapi/v1/time": lambda fake, _query: {"serverTime": _now(fake)},
    "/api/v5/public/instruments": _okx_instruments,
    "/api/v5/public/position-tiers": _okx_tiers,
    "/api/v5/market/ticker": _okx_ticker,
    "/api/v5/public/time": lambda fake, _query: {"code": "0", "msg": "", "data": [{"ts": str(_now(fake))}]},
    "/v5/market/instruments-info": _bybit_instruments,
    "/v5/market/risk-limit": _bybit_tiers,
    "/v5/market/time": lambda fake, _query: {
        "retCode": 0, "retMsg": "OK", "time": _now(fake),
        "result": {"timeSecond": str(_now(fake) // 1000), "timeNano": str(_now(fake) * 1_000_000)},
    },
}  # fmt: skip
