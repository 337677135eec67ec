output "creds_path" {
  description = "What the app reads."
  value       = module.chatbot.creds_path
}

output "role_id" {
  description = "What the app logs in with, together with a secret id."
  value       = module.chatbot.role_id
}
