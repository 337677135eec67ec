"""The driver of relays that speak the holysheep key API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relays import holysheep_keys as keys
from aikeys.relays.classify import Call, Verdicts, clean, key_id_of, protocol_error
from aikeys.relays.client import RelayClient
from aikeys.relays.holysheep_keys import Unusable
from aikeys.relays.interface import (
    Capabilities,
    DriverError,
    KeyInfo,
    KeyRef,
    KeyStatus,
    Kind,
    Minted,
    MintIntent,
    Outcome,
    Probe,
    RelayConfig,
    RevokeResult,
    Scopes,
)
from aikeys.transport import RawResponse

VERDICTS: Verdicts = {
    (404, "key_not_found"): (Kind.NOT_FOUND, Outcome.NOT_APPLIED),
    # Names are this engine's own and random, so whoever holds ours was made by an earlier attempt of this intent.
    (409, "name_conflict"): (Kind.CONFLICT, Outcome.UNKNOWN),
    (409, "already_rotated"): (Kind.CONFLICT, Outcome.NOT_APPLIED),
    (409, "key_revoked"): (Kind.CONFLICT, Outcome.NOT_APPLIED),
    (409, "idempotency_in_progress"): (Kind.UNAVAILABLE, Outcome.UNKNOWN),
    # This call did nothing, but an earlier one with the same idempotency key did something else.
    (422, "idempotency_key_reused"): (Kind.CONFLICT, Outcome.UNKNOWN),
    (422, "account_key_limit"): (Kind.QUOTA, Outcome.NOT_APPLIED),
}
_EVERY_STATE = ",".join(KeyStatus)
# Of `KeyRef.parent_ids`: who is bound to another team does not see the key.
_TEAM = "team_id"
# As every key of ours does (`MintIntent.name`).
NAME_BEGINS = "vlt-"
_PAGE = 100
# A list that is longer is taken for one that never ends: the relay keeps 90 days of dead keys.
_MAX_PAGES = 2000


class HolySheepDriver:
    """One relay account, one management key. Safe for many threads; keeps nothing but connections."""

    name = keys.RELAY

    def __init__(self, config: RelayConfig) -> None:
        self._client = RelayClient(config, VERDICTS)

    def capabilities(self) -> Capabilities:
        return keys.CAPABILITIES

    def validate_role(self, scopes: Scopes, ttl: int, max_ttl: int) -> list[str]:
        """What the relay cannot honour, as sentences. `max_ttl` 0 counts as `ttl`."""
        return keys.role_problems(scopes, max(ttl, max_ttl))

    def check(self, deadline: Deadline) -> None:
        """The management key is one, is accepted, and may read and write keys; signed when signing is configured."""
        self._learn_key_id(deadline)
        answer = self._verify(deadline, signed=True)
        if answer.get("kind") != "management":
            raise _insufficient("the key in management_key is not a management key")
        scopes = answer.get("scopes")
        missing = keys.MANAGEMENT_SCOPES - set(scopes if isinstance(scopes, list) else ())
        if missing:
            raise _insufficient(f"the management key lacks the scopes {', '.join(sorted(missing))}")
        prefix = answer.get("name_prefix")
        if isinstance(prefix, str) and not _may_begin(NAME_BEGINS, prefix):
            raise _insufficient(
                f"the management key is bound to names that begin with {clean(prefix)}, and ours begin with {NAME_BEGINS}"
            )
        if self._client.signs and answer.get("id") not in (None, self._client.signing_key_id):
            raise DriverError(
                Kind.CONFIG,
                Outcome.NOT_APPLIED,
                "signing_key_id is not the id of the management key",
            )

    def mint(self, intent: MintIntent, deadline: Deadline) -> Minted:
        """One attempt. Nothing is sent for scopes that the relay cannot enforce."""
        if problems := keys.scope_problems(intent.scopes):
            raise DriverError(Kind.SCOPE_UNSUPPORTED, Outcome.NOT_APPLIED, clean("; ".join(problems)))
        self._learn_key_id(deadline)
        response = self._client.ask(
            Call.MINT,
            "POST",
            "/keys",
            deadline,
            body=keys.mint_body(intent),
            idempotency_key=intent.idempotency_key,
        )
        answer = self._client.object_of(response, Call.MINT, 201, 200)
        return self._minted(response, answer, intent)

    def find(self, intent: MintIntent, deadline: Deadline) -> list[KeyInfo]:
        """Every key of the intent's name: the live one, and dead ones, which leave the name free."""
        self._learn_key_id(deadline)
        found: dict[str, KeyInfo] = {}
        response = self._client.ask(Call.READ, "GET", _path(intent.name), deadline)
        try:
            info = self._info(response, self._client.object_of(response, Call.READ, 200))
            found[info.ref.key_id] = info
        except DriverError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
        for info in self._pages(intent.name, _EVERY_STATE, deadline):
            found.setdefault(info.ref.key_id, info)
        return [info for info in found.values() if info.ref.name == intent.name]

    def revoke(self, ref: KeyRef, deadline: Deadline) -> RevokeResult:
        """Asks the relay of the config, not the one that `ref` names: the key's id is the same at no other."""
        path = self._path_of(ref)
        self._learn_key_id(deadline)
        response = self._client.ask(Call.REVOKE, "DELETE", path, deadline)
        try:
            answer = self._client.object_of(response, Call.REVOKE, 200)
        except DriverError as error:
            if error.kind is Kind.NOT_FOUND:
                self._confirm_absent(ref, deadline)
            raise
        if answer.get("deleted") is not True or answer.get("id") != ref.key_id:
            raise protocol_error(response, Call.REVOKE, "it does not say that this key is deleted")
        try:
            within = keys.effective_within(answer)
        except Unusable as error:
            raise protocol_error(response, Call.REVOKE, str(error)) from None
        return RevokeResult(answer.get("already_revoked") is True, within)

    def extend(self, ref: KeyRef, expires_at: datetime, deadline: Deadline) -> None:
        path = self._path_of(ref)
        self._learn_key_id(deadline)
        response = self._client.ask(Call.EXTEND, "PATCH", path, deadline, body=keys.extend_body(expires_at))
        answer = self._client.object_of(response, Call.EXTEND, 200)
        if answer.get("id") != ref.key_id or answer.get("expires_at") != int(expires_at.timestamp()):
            raise protocol_error(response, Call.EXTEND, "the key's end is not the one that was asked for")

    def probe(self, secret: SecretString, deadline: Deadline) -> Probe:
        """Only the relay's own words count: what some proxy says of the key is unknown."""
        try:
            response = self._client.ask(Call.READ, "GET", "/keys/validate", deadline, bearer=secret)
            if response.status == 401:
                refused = self._client.refusal(response, Call.READ).upstream_code == "invalid_api_key"
                return Probe.REJECTED if refused else Probe.UNKNOWN
            valid = self._client.object_of(response, Call.READ, 200).get("valid")
        except DriverError:
            return Probe.UNKNOWN
        if valid is True:
            return Probe.ACCEPTED
        return Probe.REJECTED if valid is False else Probe.UNKNOWN

    def list(
        self, name_prefix: str, deadline: Deadline, *, created_after: datetime | None = None
    ) -> Iterator[KeyInfo]:
        """Ends with `DriverError` (protocol) when the relay's pages go in circles: a list cut short would hide keys."""
        self._learn_key_id(deadline)
        for info in self._pages(name_prefix, "", deadline, created_after):
            if info.status.live:
                yield info

    def close(self) -> None:
        self._client.close()

    def _minted(self, response: RawResponse, answer: Mapping[str, Any], intent: MintIntent) -> Minted:
        key_id = ""
        try:
            # First of all: from here on the key is known to the redactor, and no id can be the key itself.
            secret = keys.secret_of(answer)
            key_id = key_id_of(answer.get("id"))
            if not key_id:
                raise Unusable("it names no usable key id")
            keys.check_minted(answer, intent)
            expires_at = keys.moment(answer.get("expires_at"))
        except Unusable as error:
            key_id = key_id or key_id_of(answer.get("id"))
            raise protocol_error(response, Call.MINT, str(error), key_id=key_id) from None
        if secret is None:
            if answer.get("key_available") is not False:
                raise protocol_error(response, Call.MINT, "it holds no key", key_id=key_id)
            raise DriverError(
                Kind.CONFLICT,
                Outcome.APPLIED,
                "the key was made by an earlier attempt and the relay shows it no more: it has to be revoked",
                http_status=response.status,
                key_id=key_id,
            )
        team = key_id_of(answer.get("team_id"))
        ref = KeyRef(self.name, self._client.base_url, key_id, intent.name, {_TEAM: team} if team else {})
        return Minted(ref, secret, expires_at, self._client.base_url)

    def _pages(
        self, name_prefix: str, status: str, deadline: Deadline, created_after: datetime | None = None
    ) -> Iterator[KeyInfo]:
        """Every key whose name starts so. Each page must bring new keys, and there is a last one."""
        query = {"limit": str(_PAGE), "name_prefix": name_prefix} | ({"status": status} if status else {})
        if created_after is not None:
            query["created_after"] = str(int(created_after.timestamp()))
        seen: set[str] = set()
        for _ in range(_MAX_PAGES):
            response = self._client.ask(Call.READ, "GET", "/keys", deadline, query=query)
            answer = self._client.object_of(response, Call.READ, 200)
            data, more = answer.get("data"), answer.get("has_more")
            if not isinstance(data, list) or not isinstance(more, bool):
                raise protocol_error(response, Call.READ, "it is no page of a list")
            page = [self._info(response, item) for item in data]
            ids = {info.ref.key_id for info in page}
            if len(ids) != len(page) or ids & seen:
                raise protocol_error(response, Call.READ, "its list repeats itself")
            if more and not page:
                raise protocol_error(response, Call.READ, "its list goes on without a key")
            # A relay that ignores the filter must not make us touch what is not ours.
            yield from (info for info in page if info.ref.name.startswith(name_prefix))
            if not more:
                return
            seen |= ids
            query["after"] = page[-1].ref.key_id
        raise DriverError(Kind.PROTOCOL, Outcome.NOT_APPLIED, "the relay's list of keys does not end")

    def _confirm_absent(self, ref: KeyRef, deadline: Deadline) -> None:
        """Return when the relay shows no such key that lives, and would show it to this management key.

        To one of another team or name prefix it answers as if the key had never been.
        """
        response = self._client.ask(Call.READ, "GET", _path(ref.key_id), deadline)
        try:
            shown = self._info(response, self._client.object_of(response, Call.READ, 200))
        except DriverError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
        else:
            if shown.status.live:
                raise protocol_error(response, Call.READ, "it shows as alive a key that it did not know")
        answer = self._verify(deadline, signed=True)
        prefix, team = answer.get("name_prefix"), answer.get("team_id")
        other_names = isinstance(prefix, str) and not ref.name.startswith(prefix)
        if other_names or (isinstance(team, str) and ref.parent_ids.get(_TEAM, team) != team):
            raise _insufficient(
                "the management key does not see keys of this name and team, so that it finds none says nothing"
            )

    def _info(self, response: RawResponse, data: Any) -> KeyInfo:
        try:
            return keys.key_info(data, self._client.base_url)
        except Unusable as error:
            raise protocol_error(response, Call.READ, str(error)) from None

    def _path_of(self, ref: KeyRef) -> str:
        if ref.relay != self.name or not key_id_of(ref.key_id):
            raise DriverError(
                Kind.CONFIG, Outcome.NOT_APPLIED, "the key was minted by another relay than config names"
            )
        return _path(ref.key_id)

    def _verify(self, deadline: Deadline, *, signed: bool) -> dict[str, Any]:
        response = self._client.ask(Call.READ, "GET", "/auth/verify", deadline, signed=signed)
        if response.status == 404:
            # Whatever it says is not found, it is no key that was looked for.
            said = self._client.refusal(response, Call.READ)
            raise DriverError(Kind.CONFIG, said.outcome, said.safe_message, http_status=said.http_status)
        return self._client.object_of(response, Call.READ, 200)

    def _learn_key_id(self, deadline: Deadline) -> None:
        """A signature names the management key's id; where config does not, the relay tells it, unsigned."""
        if not self._client.signs or self._client.signing_key_id:
            return
        answer = self._verify(deadline, signed=False)
        self._client.signing_key_id = key_id_of(answer.get("id"))
        if not self._client.signing_key_id:
            raise DriverError(
                Kind.CONFIG,
                Outcome.NOT_APPLIED,
                "the relay does not tell the management key's id: set signing_key_id",
            )


def _path(key: str) -> str:
    return f"/keys/{quote(key, safe='')}"


def _may_begin(name: str, prefix: str) -> bool:
    """Whether a name that begins with `name` can begin with `prefix`."""
    return name.startswith(prefix) or prefix.startswith(name)


def _insufficient(sentence: str) -> DriverError:
    return DriverError(Kind.FORBIDDEN, Outcome.NOT_APPLIED, sentence)
