output "policy_name" {
  description = "Name of the bot's policy."
  value       = vault_policy.bot.name
}

output "role_id" {
  description = "The AppRole's role id, null without one."
  value       = module.login.role_id
}

output "logins" {
  description = "Paths at which to log in, by kind."
  value       = module.login.logins
}
