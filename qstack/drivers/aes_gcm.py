"""AES-256-GCM of the package `cryptography` (the extra ``qstack[keys]``), as a Cipher.

NIST SP 800-38D. The nonce is longer than 96 bits, so GCM hashes it (section 7.1); that it is
never used twice follows from :func:`qstack.drivers.keys.nonce_of`.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qstack.codec import Forged


class AesGcm:
    """See :class:`qstack.drivers.keys.Cipher`; the tag has 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, nonce: bytes, frames: bytes, associated: bytes) -> bytes:
        """Return the sealed frames, followed by their tag."""
        return self._cipher.encrypt(nonce, frames, associated)

    def open(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        """Return the frames; Forged where the tag does not fit."""
        try:
            return self._cipher.decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise Forged("the tag does not fit: another key, or a forgery") from None
