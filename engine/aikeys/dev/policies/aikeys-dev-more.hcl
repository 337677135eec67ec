# What the sidecar of `aikeys dev` may do besides policies/sidecar.hcl, which names one mount: in development the engine
# is tried at other paths too, by a name that begins so, and the relay's management key stands where Terraform puts it.
path "ai-keys-*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}
path "sys/mounts/ai-keys-*" {
  capabilities = ["read"]
}

path "secret/data/aikeys/*" {
  capabilities = ["read"]
}
