output "names" {
  description = "Names of the quotas."
  value       = sort(concat(vault_quota_rate_limit.mount[*].name, [for quota in vault_quota_rate_limit.role : quota.name]))
}
