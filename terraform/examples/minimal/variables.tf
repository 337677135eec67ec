variable "relay_url" {
  type        = string
  description = "Address of the relay's API."
}

variable "mount" {
  type        = string
  description = "Where the engine is mounted."
  default     = "ai-keys"
}

variable "management_key" {
  type        = string
  description = "The relay's key for managing keys."
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "management_key_version" {
  type        = number
  description = "Raise it whenever management_key changes."
  default     = null
}

variable "ttl" {
  type        = number
  description = "Seconds that a key lives unless renewed."
  default     = 600

  validation {
    condition     = var.ttl >= 60 && var.ttl <= 3600
    error_message = "ttl must be from 60 to 3600 seconds."
  }
}
