# What the aikeys sidecar itself may do at the Vault or OpenBao behind it. Give it to the AppRole (or Kubernetes role,
# or token) that the sidecar logs in with, and to nothing else. It grants no access to anybody's secrets: no token can
# be made, used or revoked with it, and the only paths it may write are those of its own mount.

# Its own mount, "ai-keys/": the shadow whose entries prove what a caller may do. Repeat this block for every other
# path that the engine is mounted at.
path "ai-keys/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Who the caller is, without spending a use of the caller's token.
path "auth/token/lookup" {
  capabilities = ["update"]
}

# Whether a token that holds leases still lives.
path "auth/token/lookup-accessor" {
  capabilities = ["update"]
}

# What the caller may do where trying it out would change something.
path "sys/capabilities" {
  capabilities = ["update"]
}

# Its mounts as the upstream shows them: uuid, accessor and lease TTLs.
path "sys/mounts" {
  capabilities = ["read"]
}
path "sys/mounts/ai-keys/tune" {
  capabilities = ["read"]
}

# To wrap answers about leases that a client asks to have wrapped. The policy "default" grants it too.
path "sys/wrapping/wrap" {
  capabilities = ["update"]
}

# Its own token: look-up, renewal, and its end when the sidecar stops. The policy "default" grants them too; a token without it needs these.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}

# Optional: the entry in a KV engine that "management_key_ref" in the config names, when it does. Give read on exactly
# that path, as the API knows it: with "data/" after the mount where the KV engine is version 2.
#
# path "secret/data/aikeys/relay" {
#   capabilities = ["read"]
# }
