"""Secrets that do not print themselves, and the last net that keeps them out of text.

By known value first: what a living `SecretString` holds is replaced wherever it stands, plain or in the
encodings in which error texts repeat it. By pattern second, for secrets of others that we never knew.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import os
import re
import threading
import urllib.parse
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn, Self

REDACTED = "<redacted>"
# Shorter values would match ordinary words: replacing every "x" destroys a text and protects nothing.
MIN_KNOWN_LENGTH = 8

# The look-ahead names every first character there is: it makes the scan four times as fast.
_PATTERN = re.compile(
    r"(?=[AaBbfghprsx-])(?:"
    + "|".join(
        (
            # Keys of AI relays and providers: sk-..., sk-ant-..., sk-proj-..., hs-sign-..., gw-..., AIza...
            r"\b(?:sk|rk|pk|hs-sign|gw|fgw|xai|gsk)[-_][A-Za-z0-9][A-Za-z0-9_-]{14,}",
            r"\bAIza[A-Za-z0-9_-]{30,}",
            # Tokens of Vault (hvs., hvb., hvr.) and OpenBao (s., b., r.).
            r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}",
            r"\b[sbr]\.[A-Za-z0-9]{24,}",
            r"(?P<kept>\b(?i:bearer) )[A-Za-z0-9._~+/=-]{8,}",
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        )
    )
    + ")"
)
# What URL-safe texts, tokens and base64 are made of: nearly every secret stands inside one such run.
_RUN = re.compile(rf"[A-Za-z0-9._~+/-]{{{MIN_KNOWN_LENGTH},}}")
# Coming and going is written down and worked in when somebody redacts, or when this much has gathered.
_JOURNAL_LIMIT = 4096


class Redactor:
    """Replaces what it knows and what looks like a secret. Safe for many threads.

    It costs what the text is long, however many secrets are known: each form of a secret is found by its last
    characters. (Its first would not do: all keys of a relay begin alike.) A secret that comes and goes between
    two texts is never worked in at all, so learning and forgetting are one append each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._journal: deque[tuple[int, str]] = deque()
        self._holders: dict[str, int] = {}
        self._by_tail: dict[str, tuple[str, ...]] = {}
        self._elsewhere: dict[str, int] = {}
        os.register_at_fork(after_in_child=self._renew_lock)

    def learn(self, value: str) -> None:
        """`value` is a secret until it is forgotten as often as it was learnt."""
        if len(value) < MIN_KNOWN_LENGTH:
            return
        self._journal.append((1, value))
        if len(self._journal) >= _JOURNAL_LIMIT and self._lock.acquire(blocking=False):
            try:
                self._work_in()
            finally:
                self._lock.release()

    def forget(self, value: str) -> None:
        """Only appends: it is called by the collector, at any moment, perhaps while our own lock is held."""
        if len(value) >= MIN_KNOWN_LENGTH:
            self._journal.append((-1, value))

    def redact(self, text: str, also: Iterable[str] = ()) -> str:
        """`text` without the secrets known, without `also`, and without what looks like one."""
        with self._lock:
            self._work_in()
            spans = self._known_in(text)
        for value in also:
            if len(value) >= MIN_KNOWN_LENGTH:
                for form in _forms(value):
                    spans += _occurrences(form, text)
        return _PATTERN.sub(rf"\g<kept>{REDACTED}", _without(spans, text) if spans else text)

    def redact_value(self, value: Any) -> Any:
        """The same for every string inside a JSON-like value, names included."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, dict):
            return {self.redact_value(key): self.redact_value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.redact_value(item) for item in value]
        return value

    def _renew_lock(self) -> None:
        # Held by a thread that a forked child does not have, it would never be released there.
        self._lock = threading.Lock()

    def _work_in(self) -> None:
        journal = self._journal
        changes: dict[str, int] = {}
        for _ in range(len(journal)):
            step, value = journal.popleft()
            changes[value] = changes.get(value, 0) + step
        for value, change in changes.items():
            before = self._holders.get(value, 0)
            after = before + change
            if after > 0:
                self._holders[value] = after
            else:
                self._holders.pop(value, None)
            if before <= 0 < after:
                self._add(value)
            elif after <= 0 < before:
                self._remove(value)

    def _add(self, value: str) -> None:
        for form in _forms(value):
            if _RUN.fullmatch(form):
                tail = form[-MIN_KNOWN_LENGTH:]
                self._by_tail[tail] = (*self._by_tail.get(tail, ()), form)
            else:
                self._elsewhere[form] = self._elsewhere.get(form, 0) + 1

    def _remove(self, value: str) -> None:
        for form in _forms(value):
            if _RUN.fullmatch(form):
                tail = form[-MIN_KNOWN_LENGTH:]
                left = list(self._by_tail[tail])
                left.remove(form)
                if left:
                    self._by_tail[tail] = tuple(left)
                else:
                    del self._by_tail[tail]
            elif self._elsewhere[form] > 1:
                self._elsewhere[form] -= 1
            else:
                del self._elsewhere[form]

    def _known_in(self, text: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        by_tail = self._by_tail
        if by_tail:
            for run in _RUN.finditer(text):
                start, end = run.span()
                for stop in range(start + MIN_KNOWN_LENGTH, end + 1):
                    forms = by_tail.get(text[stop - MIN_KNOWN_LENGTH : stop])
                    if forms is not None:
                        spans += [
                            (stop - len(form), stop) for form in forms if text.endswith(form, start, stop)
                        ]
        for form in self._elsewhere:
            spans += _occurrences(form, text)
        return spans


def _forms(value: str) -> set[str]:
    """The shapes in which a value is likely to turn up in somebody's text. All at least as long as is known."""
    raw = value.encode(errors="surrogatepass")
    forms = {value, *_base64_forms(raw)}
    if not _RUN.fullmatch(value) or "/" in value or "+" in value:
        quoted = urllib.parse.quote(raw, safe="")
        plus = urllib.parse.quote_plus(raw)
        forms |= {quoted, plus, re.sub("%..", lambda code: code[0].lower(), quoted), html.escape(value)}
        forms |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    return {form for form in forms if len(form) >= MIN_KNOWN_LENGTH}


def _base64_forms(raw: bytes) -> Iterator[str]:
    """What is certain of the base64 of any text that holds `raw`, whatever stands before and behind it."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).rstrip(b"=").decode()
        # A character is certain when all of its six bits are ours.
        certain = encoded[(0, 2, 3)[before] : None if (before + len(raw)) % 3 == 0 else -1]
        yield certain
        yield certain.replace("+", "-").replace("/", "_")


def _occurrences(form: str, text: str) -> list[tuple[int, int]]:
    spans = []
    at = text.find(form)
    while at >= 0:
        spans.append((at, at + len(form)))
        at = text.find(form, at + 1)
    return spans


def _without(spans: list[tuple[int, int]], text: str) -> str:
    """`text` with every span replaced; spans that overlap, such as a value within a longer one, go as one."""
    parts: list[str] = []
    done = 0
    open_until = -1
    for start, end in sorted(spans):
        if start >= open_until or open_until < 0:
            parts += (text[done:start], REDACTED)
            open_until = done = end
        elif end > open_until:
            open_until = done = end
    return "".join((*parts, text[done:]))


redactor = Redactor()


class SecretString:
    """A text that shows itself only through `reveal()`; equal by value, never printable, never pickled."""

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        redactor.learn(value)

    def __del__(self, _forget: Any = redactor.forget) -> None:
        _forget(self._value)

    def reveal(self) -> str:
        return self._value

    def fingerprint(self) -> str:
        """The first 12 hex characters of the SHA-256: enough to tell two keys apart in a log."""
        return hashlib.sha256(self._value.encode(errors="surrogatepass")).hexdigest()[:12]

    def __repr__(self) -> str:
        return f"<secret fp={self.fingerprint()}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretString):
            return NotImplemented
        ours, theirs = (text.encode(errors="surrogatepass") for text in (self._value, other._value))
        return hmac.compare_digest(ours, theirs)

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
