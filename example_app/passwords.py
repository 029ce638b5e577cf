from threading import BoundedSemaphore

from pwdlib import PasswordHash


class Passwords:
    """Hashes and verifies passwords, `at_once` of them at the same time.

    Argon2 takes 64 MB of memory for each hash, so without a limit 40 logins at once would take more than 2 GB.
    """

    def __init__(self, *, at_once: int) -> None:
        self.hasher = PasswordHash.recommended()
        self._slots = BoundedSemaphore(at_once)
        # Verified when the e-mail is unknown, so that the time of an answer does not tell who has an account.
        self._nobodys_hash = self.hasher.hash("nobody")

    def hash(self, password: str) -> str:
        with self._slots:
            return self.hasher.hash(password)

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Say whether the password is right; None, for a user who does not exist, takes as long and is False."""
        with self._slots:
            return self.hasher.verify(password, password_hash or self._nobodys_hash) and password_hash is not None
