output "paths" {
  description = "Paths of the audit devices."
  value       = sort(keys(vault_audit.this))
}

output "auditor_policy_name" {
  description = "Name of the auditors' policy, null without one."
  value       = one(vault_policy.auditor[*].name)
}
