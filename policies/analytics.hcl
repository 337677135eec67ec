# Nightly reports and embeddings: keys of one role, never for longer than a run takes, and it may look up what is out.
path "ai-keys/creds/analytics" {
  capabilities = ["read", "create", "update"]
  allowed_parameters = {
    "ttl" = ["15m", "30m", "1h"]
  }
}

path "ai-keys/roles/" {
  capabilities = ["list"]
}
path "ai-keys/roles/analytics" {
  capabilities = ["read"]
}

path "sys/leases/lookup/ai-keys/creds/analytics/" {
  capabilities = ["list", "sudo"]
}
path "sys/leases/revoke/ai-keys/creds/analytics/*" {
  capabilities = ["update"]
}
