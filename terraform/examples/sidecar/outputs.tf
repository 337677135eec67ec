output "role_id" {
  description = "For AIKEYS_AUTH_ROLE_ID."
  value       = module.identity.role_id
}

output "auth_mount" {
  description = "For AIKEYS_AUTH_MOUNT."
  value       = vault_auth_backend.sidecars.path
}
