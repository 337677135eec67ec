"""Records to rows and back. No IO; what a column holds is decided here and nowhere else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from aikeys.storage.barrier import Barrier
from aikeys.storage.records import (
    EndedLease,
    IntentRecord,
    IntentState,
    LeaseRecord,
    LeaseState,
    MountRecord,
    WrappedRecord,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Exact, unlike a float of seconds."""
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def _to_micros_or_none(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


def _from_micros_or_none(value: int | None) -> datetime | None:
    return None if value is None else from_micros(value)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def mount_row(record: MountRecord, barrier: Barrier) -> dict[str, Any]:
    return {
        "uuid": record.uuid,
        "path": record.path,
        "namespace": record.namespace,
        "accessor": record.accessor,
        "instance": record.instance,
        "default_lease_ttl": record.default_lease_ttl,
        "max_lease_ttl": record.max_lease_ttl,
        "sealed_marker_key": barrier.seal(record.marker_key.encode(), "mounts", record.uuid, "marker_key"),
        "description": record.description,
        "options": None if record.options is None else _compact(record.options),
        "tainted": record.tainted,
    }


def mount_record(row: Row[Any], barrier: Barrier) -> MountRecord:
    return MountRecord(
        uuid=row.uuid,
        path=row.path,
        accessor=row.accessor,
        instance=row.instance,
        default_lease_ttl=row.default_lease_ttl,
        max_lease_ttl=row.max_lease_ttl,
        marker_key=barrier.open(row.sealed_marker_key, "mounts", row.uuid, "marker_key").decode(),
        namespace=row.namespace,
        description=row.description,
        options=None if row.options is None else json.loads(row.options),
        tainted=row.tainted,
    )


def intent_row(record: IntentRecord) -> dict[str, Any]:
    return {
        "intent_id": record.intent_id,
        "mount_uuid": record.mount_uuid,
        "role": record.role,
        "name": record.name,
        "order_json": _compact(record.order),
        "state": record.state.value,
        "created_at": to_micros(record.created_at),
        "deadline": to_micros(record.deadline),
        "due_at": to_micros(record.due_at),
        "claimed": False,
        "attempts": record.attempts,
        "looks": record.looks,
        "first_look": _to_micros_or_none(record.first_look),
        "key_ref": None if record.key_ref is None else _compact(record.key_ref),
        "last_error": record.last_error,
        "serial": record.serial,
    }


def intent_record(row: Row[Any]) -> IntentRecord:
    return IntentRecord(
        intent_id=row.intent_id,
        mount_uuid=row.mount_uuid,
        role=row.role,
        name=row.name,
        order=json.loads(row.order_json),
        state=IntentState(row.state),
        created_at=from_micros(row.created_at),
        deadline=from_micros(row.deadline),
        due_at=from_micros(row.due_at),
        attempts=row.attempts,
        looks=row.looks,
        first_look=_from_micros_or_none(row.first_look),
        key_ref=None if row.key_ref is None else json.loads(row.key_ref),
        last_error=row.last_error,
        serial=row.serial,
    )


def lease_row(record: LeaseRecord, barrier: Barrier) -> dict[str, Any]:
    active = record.state is LeaseState.ACTIVE
    return {
        "lease_id": record.lease_id,
        "mount_uuid": record.mount_uuid,
        "path": record.path,
        "secret_type": record.secret_type,
        "sealed_internal": barrier.seal_json(record.internal, "leases", record.lease_id, "internal"),
        "key_name": str(record.internal.get("ref", {}).get("name", "")),
        "role": record.role,
        "issue_time": to_micros(record.issue_time),
        "expire_time": to_micros(record.expire_time),
        "last_renewal": _to_micros_or_none(record.last_renewal),
        "ttl": record.ttl,
        "max_ttl": record.max_ttl,
        "renewable": record.renewable,
        "namespace": record.namespace,
        "token_accessor": record.token_accessor,
        "token_type": record.token_type,
        "token_orphan": record.token_orphan,
        "token_expire_time": _to_micros_or_none(record.token_expire_time),
        "parent_accessor": record.parent_accessor,
        "entity_id": record.entity_id,
        "state": record.state.value,
        # The only thing an active lease waits for is its end.
        "due_at": to_micros(record.expire_time if active else record.due_at),
        "claimed": False,
        "attempts": record.attempts,
        "last_error": record.last_error,
        "deleted_at": _to_micros_or_none(record.deleted_at),
        "effective_by": _to_micros_or_none(record.effective_by),
        "login_path": record.login_path,
        "login_role": record.login_role,
        "key_hash": record.key_hash,
        "prefix_hash": record.prefix_hash,
    }


def lease_record(row: Row[Any], barrier: Barrier) -> LeaseRecord:
    return LeaseRecord(
        lease_id=row.lease_id,
        mount_uuid=row.mount_uuid,
        path=row.path,
        secret_type=row.secret_type,
        internal=barrier.open_json(row.sealed_internal, "leases", row.lease_id, "internal"),
        issue_time=from_micros(row.issue_time),
        expire_time=from_micros(row.expire_time),
        due_at=from_micros(row.due_at),
        role=row.role,
        last_renewal=_from_micros_or_none(row.last_renewal),
        ttl=row.ttl,
        max_ttl=row.max_ttl,
        renewable=row.renewable,
        namespace=row.namespace,
        token_accessor=row.token_accessor,
        token_type=row.token_type,
        token_orphan=row.token_orphan,
        token_expire_time=_from_micros_or_none(row.token_expire_time),
        parent_accessor=row.parent_accessor,
        entity_id=row.entity_id,
        state=LeaseState(row.state),
        attempts=row.attempts,
        last_error=row.last_error,
        deleted_at=_from_micros_or_none(row.deleted_at),
        effective_by=_from_micros_or_none(row.effective_by),
        login_path=row.login_path,
        login_role=row.login_role,
        key_hash=row.key_hash,
        prefix_hash=row.prefix_hash,
    )


def ended_row(record: EndedLease, barrier: Barrier) -> dict[str, Any]:
    details = {
        "lease_id": record.lease_id,
        "role": record.role,
        "issue_time": to_micros(record.issue_time),
        "expire_time": to_micros(record.expire_time),
        "token_accessor": record.token_accessor,
        "entity_id": record.entity_id,
        "login_path": record.login_path,
        "login_role": record.login_role,
        "key_ref": record.key_ref,
        "cause": record.cause,
        "forced": record.forced,
        "key_ends": _to_micros_or_none(record.key_ends),
        "lag": record.lag,
        "effective_by": _to_micros_or_none(record.effective_by),
    }
    return {
        "mount_uuid": record.mount_uuid,
        "key_hash": record.key_hash,
        "prefix_hash": record.prefix_hash,
        "ended_at": to_micros(record.ended_at),
        "sealed_details": barrier.seal_json(details, "ended_leases", record.key_hash, "details"),
    }


def ended_lease(row: Row[Any], barrier: Barrier) -> EndedLease:
    details = barrier.open_json(row.sealed_details, "ended_leases", row.key_hash, "details")
    moments = {name: details.pop(name) for name in ("issue_time", "expire_time", "key_ends", "effective_by")}
    return EndedLease(
        mount_uuid=row.mount_uuid,
        key_hash=row.key_hash,
        prefix_hash=row.prefix_hash,
        ended_at=from_micros(row.ended_at),
        issue_time=from_micros(moments["issue_time"]),
        expire_time=from_micros(moments["expire_time"]),
        key_ends=_from_micros_or_none(moments["key_ends"]),
        effective_by=_from_micros_or_none(moments["effective_by"]),
        **details,
    )


def wrapped_row(record: WrappedRecord, barrier: Barrier) -> dict[str, Any]:
    return {
        "token_hash": record.token_hash,
        "accessor_hash": record.accessor_hash,
        "sealed_envelope": barrier.seal_json(record.envelope, "wrapped", record.token_hash, "envelope"),
        "lease_id": record.lease_id,
        "expires_at": to_micros(record.expires_at),
    }


def wrapped_record(row: Row[Any], barrier: Barrier) -> WrappedRecord:
    return WrappedRecord(
        token_hash=row.token_hash,
        accessor_hash=row.accessor_hash,
        envelope=barrier.open_json(row.sealed_envelope, "wrapped", row.token_hash, "envelope"),
        lease_id=row.lease_id,
        expires_at=from_micros(row.expires_at),
    )
