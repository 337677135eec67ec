output "teams" {
  description = "By team: the policy of its people, and its roles."
  value       = { for name, team in module.team : name => { policy = team.policy_name, roles = team.roles } }
}
