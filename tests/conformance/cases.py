"""The cases of the Autobahn test suite: what there is, and what a run takes of it."""

from __future__ import annotations

__all__ = ["EVERY_CASE", "INFORMATIONAL", "SAMPLE"]

# How many cases each group has.
_BASIC = {
    "1.1": 8, "1.2": 8, "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20,
    "6.1": 3, "6.2": 4, "6.3": 2, "6.4": 4, "6.5": 5, "6.6": 11, "6.7": 4, "6.8": 2, "6.9": 4, "6.10": 3,
    "6.11": 5, "6.12": 8, "6.13": 5, "6.14": 10, "6.15": 1, "6.16": 3, "6.17": 5, "6.18": 5, "6.19": 5,
    "6.20": 7, "6.21": 8, "6.22": 34, "6.23": 7,
    "7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2,
    "9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6,
    "10.1": 1,
}  # fmt: skip

# permessage-deflate: five kinds of data with the plain offer, and seven ways to negotiate.
_DEFLATE = [*(f"12.{data}" for data in range(1, 6)), *(f"13.{offers}" for offers in range(1, 8))]
_DEFLATE_SIZES = 18  # of messages and fragments, the same in each

_basic = tuple(f"{group}.{case}" for group, n_cases in _BASIC.items() for case in range(1, n_cases + 1))

EVERY_CASE = (
    *_basic,
    *(f"{group}.{size}" for group in _DEFLATE for size in range(1, _DEFLATE_SIZES + 1)),
)
"""All 517."""

SAMPLE = (
    *_basic,
    *(
        f"{group}.{(place + step) % _DEFLATE_SIZES + 1}"
        for place, group in enumerate(_DEFLATE)
        for step in range(0, _DEFLATE_SIZES, 6)
    ),
)
"""Groups 1 to 10 whole, and three sizes of each group of 12 and 13: every size twice."""

INFORMATIONAL = frozenset({"7.1.6", "7.13.1", "7.13.2"})
"""The cases that have no strict answer."""
