output "name" {
  description = "Name of the role."
  value       = var.name
}

output "creds_path" {
  description = "Path that an app reads to have a key."
  value       = "${var.mount}/creds/${trimprefix(vault_generic_endpoint.role.path, "${var.mount}/roles/")}"
}

output "policy_name" {
  description = "Name of the policy that lets its holder read the keys."
  value       = vault_policy.reader.name
}

output "role_id" {
  description = "The AppRole's role id, null without one."
  value       = module.login.role_id
}

output "logins" {
  description = "Paths at which to log in, by kind."
  value       = module.login.logins
}
