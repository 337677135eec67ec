output "policy_name" {
  description = "Name of the sidecar's policy."
  value       = vault_policy.sidecar.name
}

output "role_id" {
  description = "The AppRole's role id, for AIKEYS_AUTH_ROLE_ID; null without one."
  value       = module.login.role_id
}
