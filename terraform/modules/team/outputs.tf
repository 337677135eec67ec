output "policy_name" {
  description = "Name of the policy for the team's people: give it to their group."
  value       = vault_policy.people.name
}

output "roles" {
  description = "By the roles' short names: `creds_path`, `policy_name`, `role_id` (of the AppRole) and `logins`."
  value = {
    for key, role in module.role : key => {
      creds_path  = role.creds_path
      policy_name = role.policy_name
      role_id     = role.role_id
      logins      = role.logins
    }
  }
}
