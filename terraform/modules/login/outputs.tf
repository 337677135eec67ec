output "role_id" {
  description = "The AppRole's role id, null without one. Not a secret by itself; the secret id is."
  value       = one(vault_approle_auth_backend_role.this[*].role_id)
}

output "logins" {
  description = "Paths at which to log in, by kind."
  value = merge(
    { for role in vault_approle_auth_backend_role.this : "approle" => "auth/${role.backend}/login" },
    { for role in vault_kubernetes_auth_backend_role.this : "kubernetes" => "auth/${role.backend}/login" },
    { for role in vault_jwt_auth_backend_role.this : "jwt" => "auth/${role.backend}/login" },
  )
}
