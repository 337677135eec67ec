# The key as an env file, for an app that is restarted or told when the file changes (and for systemd's EnvironmentFile).
# AIKEYS_ROLE, in the agent's environment, names the role.
template_config {
  # Whatever started the agent should see when the role is gone or forbidden.
  exit_on_retry_failure = true
}

template {
  destination          = "app.env"
  perms                = "0600"
  error_on_missing_key = true

  contents = <<-EOT
    {{- with secret (printf "ai-keys/creds/%s" (mustEnv "AIKEYS_ROLE")) -}}
    OPENAI_API_KEY={{ .Data.api_key }}
    OPENAI_BASE_URL={{ .Data.base_url }}
    {{ end -}}
    EOT

  # To tell the app after each writing:
  #
  # exec {
  #   command = ["systemctl", "try-reload-or-restart", "app.service"]
  # }
}
