# The key and what it may do as JSON, for an app that reads the file again when a key is refused or the file changes.
# AIKEYS_ROLE, in the agent's environment, names the role.
template_config {
  # Whatever started the agent should see when the role is gone or forbidden.
  exit_on_retry_failure = true
}

template {
  destination          = "app.json"
  perms                = "0600"
  error_on_missing_key = true

  contents = <<-EOT
    {{- with secret (printf "ai-keys/creds/%s" (mustEnv "AIKEYS_ROLE")) -}}
    {{ .Data | toJSONPretty }}
    {{ end -}}
    EOT
}
