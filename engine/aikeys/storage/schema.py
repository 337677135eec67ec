"""The tables, and how a database of an older release becomes one of this release.

Times are integers, microseconds since 1970 in UTC: they compare without a time zone in sight. Columns named
`sealed_*` hold boxes of `aikeys.storage.barrier`. `claimed` marks work that a process has taken; its `due_at` is
then the moment at which the claim lapses, so the work of a dead process comes back by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    insert,
    inspect,
    select,
    update,
)

from aikeys.errors import StorageError

metadata = MetaData()

# Lease ids are searched by prefix, as ranges: the order must be that of the bytes.
_Ordered = Text(collation="BINARY").with_variant(Text(collation="C"), "postgresql")

# SQLite counts by itself only in a column of this very type.
_Number = BigInteger().with_variant(Integer(), "sqlite")

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

# One row. Rises with every change to mounts and entries, so that caches know when to look again.
generation = Table("generation", metadata, Column("value", BigInteger, nullable=False))

data_keys = Table(
    "data_keys",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("seal", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

mounts = Table(
    "mounts",
    metadata,
    Column("uuid", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("accessor", Text, nullable=False),
    Column("instance", Text, nullable=False),
    Column("default_lease_ttl", Integer, nullable=False),
    Column("max_lease_ttl", Integer, nullable=False),
    Column("sealed_marker_key", LargeBinary, nullable=False),
    Column("description", Text, nullable=False),
    Column("options", Text),
    Column("tainted", Boolean, nullable=False),
    UniqueConstraint("namespace", "path"),
)

entries = Table(
    "entries",
    metadata,
    Column("mount_uuid", ForeignKey("mounts.uuid", ondelete="CASCADE"), primary_key=True),
    Column("key", _Ordered, primary_key=True),
    Column("sealed_value", LargeBinary, nullable=False),
)

# Mounts that the upstream was asked for and that are not among `mounts` yet.
enablings = Table(
    "enablings",
    metadata,
    Column("mark", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
)

intents = Table(
    "intents",
    metadata,
    Column("intent_id", Text, primary_key=True),
    Column("mount_uuid", ForeignKey("mounts.uuid"), nullable=False),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("order_json", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("claimed", Boolean, nullable=False, server_default=false()),
    Column("attempts", Integer, nullable=False),
    Column("looks", Integer, nullable=False),
    Column("first_look", BigInteger),
    Column("key_ref", Text),
    Column("last_error", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Index("intents_due", "due_at"),
)

# Which serials were given to mint intents: of each series the last number.
serials = Table(
    "serials",
    metadata,
    Column("series", Text, primary_key=True),
    Column("given", BigInteger, nullable=False),
)

# Work that one of all processes does from time to time, and when it is due.
chores = Table(
    "chores",
    metadata,
    Column("name", Text, primary_key=True),
    Column("due_at", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("lease_id", _Ordered, primary_key=True),
    Column("mount_uuid", ForeignKey("mounts.uuid"), nullable=False),
    Column("path", Text, nullable=False),
    Column("secret_type", Text, nullable=False),
    Column("sealed_internal", LargeBinary, nullable=False),
    # In clear, so that a row that cannot be opened does not make a stranger of its key.
    Column("key_name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("issue_time", BigInteger, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
    Column("last_renewal", BigInteger),
    Column("ttl", Integer, nullable=False),
    Column("max_ttl", Integer, nullable=False),
    Column("renewable", Boolean, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("token_accessor", Text, nullable=False),
    Column("token_type", Text, nullable=False),
    Column("token_orphan", Boolean, nullable=False),
    Column("token_expire_time", BigInteger),
    Column("parent_accessor", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("login_path", Text, nullable=False),
    Column("login_role", Text, nullable=False),
    # By these a key that turns up somewhere is found. Without an index: the question is rare, a lease is not.
    Column("key_hash", Text, nullable=False),
    Column("prefix_hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("claimed", Boolean, nullable=False, server_default=false()),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("deleted_at", BigInteger),
    Column("effective_by", BigInteger),
    Index("leases_due", "mount_uuid", "due_at"),
    Index("leases_role", "mount_uuid", "role"),
)
# Few leases hold the exceptional values, so these indexes cost an ordinary issue nothing or one entry.
Index(
    "leases_accessor",
    leases.c.token_accessor,
    sqlite_where=leases.c.token_accessor != "",
    postgresql_where=leases.c.token_accessor != "",
)
Index(
    "leases_parent",
    leases.c.parent_accessor,
    sqlite_where=leases.c.parent_accessor != "",
    postgresql_where=leases.c.parent_accessor != "",
)
Index(
    "leases_failing",
    leases.c.mount_uuid,
    sqlite_where=leases.c.attempts > 0,
    postgresql_where=leases.c.attempts > 0,
)

# The tokens that hold leases. `seen_at` is when the upstream last let one through or told of it, `due_at` when to look again.
tokens = Table(
    "tokens",
    metadata,
    Column("accessor", Text, primary_key=True),
    Column("orphan", Boolean, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Index("tokens_due", "due_at"),
)

# Whose children batch tokens are, which nobody tells afterwards. A token is found by its keyed hash.
batch_parents = Table(
    "batch_parents",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("accessor", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("batch_parents_expires", "expires_at"),
)

# One row or none: the number last written to the upstream, by which it is known that it has not been set back.
witness = Table(
    "witness",
    metadata,
    Column("number", BigInteger, nullable=False),
    Column("mounts", Text, nullable=False),
    Column("restored_at", BigInteger),
)

# Keys whose leases were revoked by force. They hold up no mount: with its config goes the credential to revoke them.
forced_keys = Table(
    "forced_keys",
    metadata,
    Column("lease_id", _Ordered, primary_key=True),
    Column("mount_uuid", ForeignKey("mounts.uuid", ondelete="CASCADE"), nullable=False),
    Column("secret_type", Text, nullable=False),
    Column("sealed_internal", LargeBinary, nullable=False),
    Column("role", Text, nullable=False),
    Column("forced_at", BigInteger, nullable=False),
    Column("key_ends", BigInteger),
    Column("due_at", BigInteger, nullable=False),
    Column("claimed", Boolean, nullable=False, server_default=false()),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("deleted_at", BigInteger),
    Index("forced_keys_due", "due_at"),
)

# What is remembered of a lease after its end. Rows are only appended, and taken away at the other end.
ended_leases = Table(
    "ended_leases",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("mount_uuid", ForeignKey("mounts.uuid", ondelete="CASCADE"), nullable=False),
    Column("key_hash", Text, nullable=False),
    Column("prefix_hash", Text, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("sealed_details", LargeBinary, nullable=False),
    Index("ended_leases_at", "ended_at"),
)

# The latest issues of roles whose rate is limited, as many of each as its limit.
issues = Table(
    "issues",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("mount_uuid", ForeignKey("mounts.uuid", ondelete="CASCADE"), nullable=False),
    Column("role", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("issues_role", "mount_uuid", "role", "at"),
)

wrapped = Table(
    "wrapped",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("accessor_hash", Text, nullable=False, unique=True),
    Column("sealed_envelope", LargeBinary, nullable=False),
    Column("lease_id", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("wrapped_expires", "expires_at"),
)


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.execute(insert(generation).values(value=1))


# The n-th function makes version n+1 out of version n. Never change one that was released; append.
MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_create,)
VERSION = len(MIGRATIONS)


def migrate(connection: Connection) -> None:
    """Bring the database to this release's version, inside the caller's transaction.

    StorageError when a newer release wrote it: going back could lose what that release keeps.
    """
    found = 0
    if inspect(connection).has_table(schema_version.name):
        found = connection.execute(select(schema_version.c.version)).scalar_one()
    if found > VERSION:
        raise StorageError(
            f"the database has schema version {found}, this release knows up to {VERSION}: "
            "start the release that wrote it, or a newer one"
        )
    for step in MIGRATIONS[found:]:
        step(connection)
    if found == 0:
        connection.execute(insert(schema_version).values(version=VERSION))
    elif found < VERSION:
        connection.execute(update(schema_version).values(version=VERSION))
