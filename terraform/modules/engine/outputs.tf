output "path" {
  description = "Where the engine is mounted, once it has its config: roles that take it wait for that."
  value       = trimsuffix(vault_generic_endpoint.config.path, "/config")
}

output "accessor" {
  description = "Accessor of the mount."
  value       = vault_mount.this.accessor
}

output "management_key_path" {
  description = "API path of the KV entry that holds the management key: what the sidecar must be allowed to read."
  value       = local.key_path
}
