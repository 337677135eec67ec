output "creds_paths" {
  description = "What the apps read, by role."
  value = {
    for role in [module.customer_service, module.analytics, module.evaluation] : role.name => role.creds_path
  }
}

output "rotation_bot_role_id" {
  description = "What the rotation bot logs in with, together with a secret id."
  value       = module.rotation_bot.role_id
}

output "analytics_role_id" {
  description = "What the nightly job logs in with, together with a secret id."
  value       = module.analytics.role_id
}
