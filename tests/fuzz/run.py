"""Sends what the grammar and the sidecar's own OpenAPI document bring forth, and judges every answer.

Wrong is: a 5xx that is not the server's own to the same bytes; no answer to a well-formed request; a key at the relay that
no 200 handed out; a traceback or an error in a log. Each is reported with the bytes that were sent.
"""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from tests.fuzz import grammar
from tests.fuzz.grammar import LEASE, OWNED, SPARE, Asked, Edits
from tests.fuzz.wire import Answer, Client, Unanswered
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

# What lacks its end is waited for, so many are under way at once.
BATCH = 256
SENDERS = 24
#: Well above what the sidecar itself takes before it gives up on a server or a client.
PATIENCE = 60.0
ROUND = 4000
#: How many requests come of one that hypothesis made: making it costs more than sending it.
FAMILY = 8

#: Everything but what would end the run: the server's own life, logins and tokens of others, the mount that mints.
OPERATOR = f"""
path "*" {{ capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }}
path "{MOUNT}/config" {{ capabilities = ["read"] }}
path "{MOUNT}/roles/demo" {{ capabilities = ["read"] }}
path "sys/mounts/{MOUNT}" {{ capabilities = ["read"] }}
path "sys/mounts/{MOUNT}/" {{ capabilities = ["read"] }}
path "sys/mounts/{MOUNT}/tune" {{ capabilities = ["read"] }}
path "sys/remount" {{ capabilities = ["update", "sudo"] denied_parameters = {{ "from" = ["{MOUNT}", "{MOUNT}/"] }} allowed_parameters = {{ "*" = [] }} }}
path "auth/token/revoke*" {{ capabilities = ["deny"] }}
path "auth/token/revoke-self" {{ capabilities = ["deny"] }}
path "auth/+/+/+" {{ capabilities = ["deny"] }}
path "sys/auth*" {{ capabilities = ["read", "list"] }}
path "sys/policies*" {{ capabilities = ["read", "list"] }}
path "sys/policy*" {{ capabilities = ["read", "list"] }}
path "identity/*" {{ capabilities = ["read", "list"] }}
path "sys/namespaces*" {{ capabilities = ["read", "list"] }}
""" + "".join(
    f'path "sys/{name}" {{ capabilities = ["deny"] }}\n'
    for name in (
        "seal",
        "step-down",
        "rotate*",
        "rekey*",
        "audit*",
        "config/*",
        "quotas/*",
        *(
            f"{folder}revoke-{kind}{below}"
            for folder in ("", "leases/")
            for kind in ("prefix", "force")
            for below in ("", "/", "/auth*")
        ),
    )
)
MINTING = tuple(f"{mount}/creds/" for mount in (MOUNT, SPARE, grammar.MOVED))
#: The server's own words, where it does not get the same bytes or would not say them twice.
AS_THE_SERVER = {
    f'{{"errors":["{text}"]}}\n'
    for text in (
        # What only an engine with leases is asked (OpenBao: request_handling.go).
        "requests with inline authentication cannot generate leases",
        # To a token of another form than the server's.
        "error performing token check: failed to look up namespace from the token: no namespace",
        # To one of two clients that spend or end the same token at once. An internal error of ours is in the log.
        r"1 error occurred:\n\t* internal error\n\n",
        r"1 error occurred:\n\t* no token found\n\n",
        "cannot find token entry",
        r"1 error occurred:\n\t* error decrementing wrapping token's use-count: invalid token entry provided for use count decrementing\n\n",
    )
}
DYING = 'path "auth/token/revoke-self" { capabilities = ["update"] }\n'


@dataclass
class Report:
    sent: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    #: 5xx that were the server's own, by what it said.
    theirs: Counter[str] = field(default_factory=Counter)
    handed_out: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        listed = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))
        rate = self.sent / max(self.seconds, 1e-9)
        lines = [
            f"{self.sent:,} requests in {self.seconds:.0f} s ({rate:.0f}/s), {self.handed_out:,} keys; {listed}"
        ]
        lines += [f"  the server's own, {count:,} times: {what}" for what, count in self.theirs.most_common()]
        lines += [f"  WRONG: {what}" for what in self.wrong[:20]]
        return "\n".join(lines)


class Fuzz:
    """In front of one server; `stack` has nobody else."""

    def __init__(self, stack: SidecarStack, first_seed: int) -> None:
        self._stack = stack
        self._seed = first_seed
        self._report = Report()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._clients: list[Client] = []
        self._batch: list[tuple[Asked, Edits | None]] = []
        self._rng = random.Random(first_seed)
        self._lease, self._wrapping = "none", "none"
        self._handed: set[str] = set()
        self._wrapped = 0
        stack.control.settings(max_live_keys=0)
        self._enable_spare()
        answer = stack.request("GET", "sys/internal/specs/openapi")
        assert answer.status_code == 200, answer.text
        self._document: dict[str, Any] = answer.json()
        self._fields = grammar.fields_of(self._document)
        self._operator = stack.token(OPERATOR, ttl="24h", renewable=True).token
        self._reader = stack.reader(ttl="24h").token
        self._nobody = stack.token([], ttl="24h").token
        self._dying = ""

    def run(self, count: int) -> Report:
        """Send at least `count` requests."""
        report, start = self._report, time.monotonic()
        minted_before = len(self._stack.key_ids())
        with ThreadPoolExecutor(SENDERS) as self._pool:
            for number in range(1_000_000):
                if report.sent >= count:
                    break
                self._round(max(200, min(ROUND, count - report.sent)), self._seed + number)
        for client in self._clients:
            client.close()
        report.seconds = time.monotonic() - start
        self._look_at_the_books(minted_before)
        self._look_at_the_logs()
        return report

    # -- what is sent -------------------------------------------------------------------------------------------

    def _round(self, count: int, number: int) -> None:
        """About `count` requests: 30 in 100 from the document, 15 good ones, 10 that are bytes rather than requests."""
        self._enable_spare()
        self._dying = self._stack.token(DYING, ttl="1h").token
        self._rng = random.Random(number)
        good, generated = grammar.good_requests(), grammar.requests(self._fields)
        for _ in range(count * 15 // 100):
            self._put(self._rng.choice(good))
        self._each(generated, count * 45 // 100 // FAMILY, number, self._put_family)
        mangled = st.tuples(
            st.one_of(generated, st.sampled_from(good)), st.lists(grammar.edits(), min_size=5, max_size=5)
        )
        self._each(mangled, count * 10 // 100 // 5, number, self._put_mangled)
        operations = list(self._operations())
        share = count * 30 // 100 // FAMILY / len(operations)
        for operation, mode in operations:
            # A share below one is a chance.
            examples = int(share) + (self._rng.random() < share % 1)
            self._each(operation.as_strategy(mode), examples, number, self._put_case)
        self._send()

    def _operations(self) -> Iterator[tuple[Any, GenerationMode]]:
        """Every operation of the document at a path that is ours or intercepted: as it should be asked, and not."""
        for found in schemathesis.openapi.from_dict(self._document).get_all_operations():
            assert isinstance(found, Ok), "our document is no OpenAPI"
            operation = found.ok()
            if operation.path.startswith((f"/{MOUNT}/", f"/{SPARE}/", *OWNED)):
                yield operation, GenerationMode.POSITIVE
                if len(operation.query) or len(operation.body):
                    yield operation, GenerationMode.NEGATIVE

    def _each(
        self, strategy: st.SearchStrategy[Any], count: int, number: int, use: Callable[[Any], None]
    ) -> None:
        if count <= 0:
            return

        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def example(value: Any) -> None:
            use(value)

        example()

    def _put_case(self, case: Any) -> None:
        given_ = case.as_transport_kwargs(base_url="http://vault.test/v1")
        given_.pop("cookies", None)
        try:
            prepared = requests.Request(**given_).prepare()
        except (requests.RequestException, UnicodeError, ValueError):
            return
        kept = {"content-type", "accept"}
        headers = [(name, value) for name, value in prepared.headers.items() if name.lower() in kept]
        body = prepared.body or b""
        self._put_family(
            Asked(
                str(prepared.method),
                prepared.path_url,
                (("X-Vault-Token", "%operator%"), *headers),
                body if isinstance(body, bytes) else body.encode(),
            )
        )

    def _put_family(self, asked: Asked) -> None:
        for member in grammar.family(asked, FAMILY, self._rng):
            self._put(member)

    def _put_mangled(self, given_: tuple[Asked, list[Edits]]) -> None:
        for edits in given_[1]:
            self._put(given_[0], edits)

    def _put(self, asked: Asked, edits: Edits | None = None) -> None:
        self._batch.append((asked, edits))
        if len(self._batch) >= BATCH:
            self._send()

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        together = [item for item in batch if not _rebuilds(item[0])]
        for done in [self._pool.submit(self._one, *item) for item in together]:
            done.result()
        for item in batch:
            if _rebuilds(item[0]):
                self._one(*item)

    # -- one request --------------------------------------------------------------------------------------------

    def _client(self) -> Client:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = Client(self._stack.address, PATIENCE)
            with self._lock:
                self._clients.append(client)
        return client

    def _one(self, asked: Asked, edits: Edits | None) -> None:
        raw = asked.fill(self._stand_ins())
        alone = edits is not None or not asked.whole
        if edits is not None:
            raw = grammar.mangle(raw, edits)
        client = self._client()
        if alone:
            client.close()
        try:
            answer = client.ask(raw, head_only=asked.method == "HEAD", last=alone)
        except Unanswered:
            answer = Answer()
            self._wrong("no answer in time", raw)
        if answer.status == 0 and not alone:
            self._wrong("the connection was closed without an answer", raw)
        theirs = answer.status >= 500 and (
            answer.text in AS_THE_SERVER or self._is_theirs(raw, asked, answer)
        )
        with self._lock:
            self._report.sent += 1
            self._report.statuses[answer.status] += 1
            if answer.status == 200:
                self._learn(asked, answer)
            elif theirs:
                self._report.theirs[f"{answer.status} {answer.text[:120]}"] += 1
        if answer.status >= 500 and not theirs:
            self._wrong(f"{answer.status} {answer.text}", raw)

    def _stand_ins(self) -> dict[str, str]:
        return {
            "%operator%": self._operator,
            "%reader%": self._reader,
            "%nobody%": self._nobody,
            "%wrapping%": self._wrapping,
            "%dying%": self._dying,
            LEASE: self._lease,
        }

    def _is_theirs(self, raw: bytes, asked: Asked, answer: Answer) -> bool:
        """Whether the server itself says the same to the same bytes, but for empty lines before them."""
        with Client(self._stack.upstream.address, PATIENCE) as client:
            try:
                real = client.ask(raw.lstrip(b"\r\n"), head_only=asked.method == "HEAD", last=True)
            except Unanswered:
                return False
        if real.status == 0:
            # Vault panics over some bodies, and closes the connection; here that is said.
            return answer.status == 503
        # In clear words where there are any: a coding that nobody knows is refused before there is JSON.
        return real.status == answer.status and (real.body == answer.body or real.status == 501)

    def _learn(self, asked: Asked, answer: Answer) -> None:
        """What a 200 handed out."""
        try:
            body = json.loads(answer.body)
        except ValueError:
            return
        if not isinstance(body, dict):
            return
        target = urllib.parse.unquote(asked.target)
        opened = "wrapping/" in target or "cubbyhole/" in target
        wrap_info, data = body.get("wrap_info"), body.get("data")
        if isinstance(wrap_info, dict):
            self._wrapping = wrap_info["token"]
            self._wrapped += not opened and wrap_info["creation_path"].startswith(MINTING)
        elif isinstance(data, dict) and "api_key" in data:
            self._lease = body["lease_id"]
            if not opened:
                self._handed.add(data["key_id"])

    def _wrong(self, what: str, raw: bytes) -> None:
        with self._lock:
            self._report.wrong.append(f"{what[:300]}\n    for {raw[:1500]!r}")

    # -- afterwards ---------------------------------------------------------------------------------------------

    def _look_at_the_books(self, minted_before: int) -> None:
        report = self._report
        report.handed_out = len(self._handed) + self._wrapped
        minted = len(self._stack.key_ids()) - minted_before
        if minted != report.handed_out:
            report.wrong.append(
                f"the relay made {minted} keys, and {report.handed_out} were handed out by a 200"
            )
        alive = self._stack.request("GET", "auth/token/lookup-self", token=self._operator)
        if alive.status_code != 200:
            report.wrong.append("the operator's token died on the way: what came after it was refused")

    def _look_at_the_logs(self) -> None:
        for path in sorted(self._stack.folder.rglob("*.log")):
            if path.name == "refusals.log":
                continue
            text = path.read_text(errors="replace")
            for sign in ("Traceback", "panic:", '"level": "error"'):
                if (at := text.find(sign)) >= 0:
                    self._report.wrong.append(f"{path.name} has {sign}: {text[max(0, at - 300) : at + 1500]}")

    def _enable_spare(self) -> None:
        """The mount that may be damaged, as new."""
        stack = self._stack
        for path in (SPARE, grammar.MOVED):
            asked = partial(stack.request, "DELETE", f"sys/mounts/{path}")
            eventually(partial(_answers, asked, 204), seconds=30, what=f"the end of {path}")
        made = stack.request("POST", f"sys/mounts/{SPARE}", {"type": "ai-keys"})
        assert made.status_code == 204, made.text
        config: Mapping[str, Any] = {
            "base_url": stack.relay.base_url,
            "management_key": stack.relay.management_key,
        }
        written = stack.request("POST", f"{SPARE}/config", dict(config))
        assert written.status_code in {200, 204}, written.text


def _answers(ask: Callable[[], Any], status: int) -> bool:
    return bool(ask().status_code == status)


def _rebuilds(asked: Asked) -> bool:
    """Whether the request may change mounts or roles: what others do there meanwhile is right to be refused for now."""
    target = urllib.parse.unquote(asked.target).lower()
    return asked.method not in {"GET", "LIST", "HEAD"} and any(
        part in target for part in ("mounts", "remount", "/roles/", "/config")
    )
