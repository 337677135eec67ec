"""Short-lived AI API keys for people who already run Vault."""

__version__ = "0.1.0"
