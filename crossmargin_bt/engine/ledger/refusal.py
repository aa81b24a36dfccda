# SPDX-License-Identifier: GPL-3.0-or-later
"""A refusal as a value: an outcome with a reason, never an exception."""

import msgspec


class Refusal(msgspec.Struct, frozen=True):
    """Why an order was refused: `kind` is "margin" or "rejected".

    `needed` and `available` are margin in `currency`, 0 where margin is not the reason.
    """

    kind: str
    reason: str
    needed: float = 0.0
    available: float = 0.0
    currency: str = ""

    def __str__(self) -> str:
        return self.reason
