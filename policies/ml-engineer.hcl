# Engineers and services of one team that builds with models. The team is whose metadata says so
# (`vault write identity/entity/... metadata=team=search`; `aikeys provision` writes it for an AppRole), and the engine's
# roles of a team are named "<team>.<purpose>". The dot matters: with "search-*" the team "search" would also reach
# the roles of a team "search-ads".

# Keys of the team's own roles, plain or with parameters of its own (ttl, limits below the role's).
path "ai-keys/creds/{{identity.entity.metadata.team}}.*" {
  capabilities = ["read", "create", "update"]
}

# Which roles there are, and what the team's own allow.
path "ai-keys/roles/" {
  capabilities = ["list"]
}
path "ai-keys/roles/{{identity.entity.metadata.team}}.*" {
  capabilities = ["read"]
}

# Its own leases, by their path: longer, or over. The policy "default" grants renewal by lease id alone.
path "sys/leases/renew/ai-keys/creds/{{identity.entity.metadata.team}}.*" {
  capabilities = ["update"]
}
path "sys/leases/revoke/ai-keys/creds/{{identity.entity.metadata.team}}.*" {
  capabilities = ["update"]
}
