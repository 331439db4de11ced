"""What talks to an exchange: REST, rate limits, server time, lists of contracts; and what talks to FadeMoe: Client."""

from fademoe.client.frames import Client, ClientError

__all__ = ["Client", "ClientError"]
