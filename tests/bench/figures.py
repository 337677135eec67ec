"""The arithmetic of a comparison, without IO: medians over rounds, ratios to a peer, and whether an aim is met."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class NoResult(RuntimeError):
    """A run that must not be reported: replies were wrong, or there were none."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the load generator saw in one run. Latencies in milliseconds; ``errors`` by kind."""

    requests: int
    seconds: float
    latency_ms: Mapping[int, float]
    errors: Mapping[str, int]
    generator_cpu_seconds: float

    def checked(self, what: str) -> Load:
        """Itself, when every reply was right; else :class:`NoResult`: a server that refuses fast is no fast server."""
        wrong = {kind: count for kind, count in self.errors.items() if count}
        if wrong:
            said = ", ".join(f"{count} x {kind}" for kind, count in sorted(wrong.items()))
            raise NoResult(f"{what}: {said} among {self.requests} replies")
        if self.requests == 0 or self.seconds <= 0:
            raise NoResult(f"{what}: no reply in {self.seconds:g} s")
        return self

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Round:
    """One run of one contender: the load, and the CPU seconds each process tree spent meanwhile."""

    load: Load
    cpu_seconds: Mapping[str, float]

    def cpu_ms_per_request(self, process: str) -> float:
        return self.cpu_seconds[process] / self.load.requests * 1000


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds of one contender. Every figure is the median over the rounds."""

    name: str
    rounds: Sequence[Round]

    def __post_init__(self) -> None:
        if not self.rounds:
            raise NoResult(f"{self.name}: not measured")

    @property
    def rate(self) -> float:
        """Requests per second."""
        return statistics.median(each.load.rate for each in self.rounds)

    @property
    def requests(self) -> int:
        """Of all rounds together."""
        return sum(each.load.requests for each in self.rounds)

    def latency_ms(self, percentile: int) -> float:
        return statistics.median(each.load.latency_ms[percentile] for each in self.rounds)

    def cpu_ms(self, process: str) -> float:
        """CPU milliseconds per request of one process tree; 0 when it takes no part."""
        return statistics.median(
            each.cpu_ms_per_request(process) if process in each.cpu_seconds else 0.0 for each in self.rounds
        )

    @property
    def generator_cpu_ms(self) -> float:
        return statistics.median(
            each.load.generator_cpu_seconds / each.load.requests * 1000 for each in self.rounds
        )

    @property
    def spread(self) -> float:
        """How far the rounds lie apart: (fastest - slowest) / median of the rates."""
        rates = [each.load.rate for each in self.rounds]
        return (max(rates) - min(rates)) / statistics.median(rates)


def paired_ratio(ours: Result, peer: Result, of: Callable[[Round], float]) -> float:
    """Median over the rounds of ours / peer, each round with the one measured next to it.

    Neighbours share the machine's mood: a slow half minute changes both sides of a pair and leaves its ratio.
    """
    if len(ours.rounds) != len(peer.rounds):
        raise NoResult(f"{ours.name} has {len(ours.rounds)} rounds, {peer.name} {len(peer.rounds)}")
    return statistics.median(
        ratio(of(mine), of(theirs)) for mine, theirs in zip(ours.rounds, peer.rounds, strict=True)
    )


def paired_difference(ours: Result, peer: Result, of: Callable[[Round], float]) -> float:
    """Median over the rounds of ours - peer, paired in the same way."""
    if len(ours.rounds) != len(peer.rounds):
        raise NoResult(f"{ours.name} has {len(ours.rounds)} rounds, {peer.name} {len(peer.rounds)}")
    return statistics.median(
        of(mine) - of(theirs) for mine, theirs in zip(ours.rounds, peer.rounds, strict=True)
    )


def ratio(ours: float, peer: float) -> float:
    """ours / peer; :class:`NoResult` where the peer's figure is no divisor."""
    if peer <= 0:
        raise NoResult(f"nothing to compare with: the peer's figure is {peer:g}")
    return ours / peer


def rate_of(round_: Round) -> float:
    return round_.load.rate


def median_latency_of(round_: Round) -> float:
    return round_.load.latency_ms[50]


class Bound(Enum):
    """On which side of its bound a figure has to be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


_HOLDS: Mapping[Bound, Callable[[float, float], bool]] = {
    Bound.AT_LEAST: operator.ge,
    Bound.AT_MOST: operator.le,
}


@dataclass(frozen=True, slots=True)
class Aim:
    """A promise in figures and what was measured; ``measured`` None: this run was told to leave it out."""

    text: str
    bound: Bound
    limit: float
    measured: float | None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return _HOLDS[self.bound](self.measured, self.limit)

    @property
    def verdict(self) -> str:
        return {True: "met", False: "**not met**", None: "not measured"}[self.met]
