# The agent as the app's supervisor: it starts the app with the key in its environment, and again with each new key.
# Nothing is written to a disk. AIKEYS_ROLE, in the agent's environment, names the role.
template_config {
  # Whatever started the agent should see when the role is gone or forbidden.
  exit_on_retry_failure = true
}

env_template "OPENAI_API_KEY" {
  contents             = "{{ with secret (printf \"ai-keys/creds/%s\" (mustEnv \"AIKEYS_ROLE\")) }}{{ .Data.api_key }}{{ end }}"
  error_on_missing_key = true
}

env_template "OPENAI_BASE_URL" {
  contents             = "{{ with secret (printf \"ai-keys/creds/%s\" (mustEnv \"AIKEYS_ROLE\")) }}{{ .Data.base_url }}{{ end }}"
  error_on_missing_key = true
}

exec {
  command = ["./app"]

  # A new key means a new process: the old one has this signal and some seconds to finish what it does.
  restart_on_secret_changes = "always"
  restart_stop_signal       = "SIGTERM"
}
