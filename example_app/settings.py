import os
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What Acme Analytics itself needs; the MARKETPLACE_ settings are read by starlette_marketplace."""

    session_secret: str = field(repr=False)
    session_https_only: bool = True
    database_url: str = "sqlite:///acme.db"
    network_tries_per_minute: int = 20  # signups and logins of one network, in one process
    tries_per_minute: int = 300  # those of all networks together
    passwords_at_once: int = 4  # hashed at the same time; each takes 64 MB
    plan_patience: float = 5.0  # seconds that a page waits for AWS to say what was bought

    @classmethod
    def from_env(cls) -> Self:
        # A secret of its own: whoever learns one of the two must not be able to forge the other cookie.
        session_secret = os.environ.get("SESSION_SECRET", "")
        if len(session_secret) < 32:
            raise RuntimeError(
                "Set SESSION_SECRET to at least 32 random characters, for example from: "
                "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        return cls(
            session_secret=session_secret,
            session_https_only=os.environ.get("SESSION_HTTPS_ONLY", "true").lower() not in {"0", "false", "no", "off"},
            database_url=os.environ.get("DATABASE_URL", cls.database_url),
            network_tries_per_minute=int(os.environ.get("NETWORK_TRIES_PER_MINUTE", cls.network_tries_per_minute)),
            tries_per_minute=int(os.environ.get("TRIES_PER_MINUTE", cls.tries_per_minute)),
            passwords_at_once=int(os.environ.get("PASSWORDS_AT_ONCE", cls.passwords_at_once)),
            plan_patience=float(os.environ.get("PLAN_PATIENCE", cls.plan_patience)),
        )
