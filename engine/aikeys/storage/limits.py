"""What a role allows of its issues, looked at in the transaction that puts the mint intent on record.

Live leases are counted, not kept as a number: what counts is what is there, however it came and went. Rates are
judged by the moments of the latest issues themselves, so that no span of a period's length, wherever it begins, holds
more than the limit.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select

from aikeys.storage import schema
from aikeys.storage.records import IntentRecord, IssueLimits, LimitReached
from aikeys.storage.rows import to_micros

_MICROS = 1_000_000
_mount, _lease, _intent, _issue = schema.mounts.c, schema.leases.c, schema.intents.c, schema.issues.c
# Where several writers are at work at once, those that count for one mount come one after the other. SQLite has
# one writer anyway, and no such clause.
_LOCK = select(_mount.uuid).where(_mount.uuid == bindparam("b_mount")).with_for_update(key_share=True)
_OF_ROLE = (_lease.mount_uuid == bindparam("b_mount"), _lease.role == bindparam("b_role"))
# Never more rows are looked at than the limit has; mints under way are few.
_HELD = select(
    select(func.count())
    .select_from(select(_lease.role).where(*_OF_ROLE).limit(bindparam("b_limit")).subquery())
    .scalar_subquery()
    + select(func.count())
    .where(_intent.mount_uuid == bindparam("b_mount"), _intent.role == bindparam("b_role"))
    .scalar_subquery()
)
_ISSUES = (_issue.mount_uuid == bindparam("b_mount"), _issue.role == bindparam("b_role"))
_NTH_LATEST = (
    select(_issue.at)
    .where(*_ISSUES, _issue.at <= bindparam("b_latest"))
    .order_by(_issue.at.desc())
    .limit(1)
    .offset(bindparam("b_offset"))
)
_FORGET = delete(schema.issues).where(
    *_ISSUES, or_(_issue.at <= bindparam("b_before"), _issue.at > bindparam("b_latest"))
)
_NOTE = insert(schema.issues)


def admit(connection: Connection, intent: IntentRecord, limits: IssueLimits) -> None:
    """Note the issue, within the caller's transaction; `LimitReached` when the role has as much as it may."""
    role = {"b_mount": intent.mount_uuid, "b_role": intent.role}
    connection.execute(_LOCK, role)
    if limits.leases:
        held = connection.execute(_HELD, {**role, "b_limit": limits.leases}).scalar_one()
        if held >= limits.leases:
            raise LimitReached(limits)
    if limits.issues:
        now, period = to_micros(intent.created_at), limits.period * _MICROS
        # Later than this was noted under a clock that has been set back since: else nothing would be issued until
        # the clock is there again.
        bounds = {**role, "b_latest": now + period, "b_offset": limits.issues - 1}
        nth = connection.execute(_NTH_LATEST, bounds).scalar_one_or_none()
        if nth is not None and nth > now - period:
            raise LimitReached(limits, (nth + period - now) / _MICROS)
        if nth is not None:
            connection.execute(_FORGET, {**bounds, "b_before": nth})
        connection.execute(_NOTE, {"mount_uuid": intent.mount_uuid, "role": intent.role, "at": now})
