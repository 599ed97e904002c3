"""The keys of an issuer that publishes them: which one a token is checked with."""

from __future__ import annotations

from collections.abc import Callable

from gateway.clock import Clock
from gateway.errors import KeySetError, KeysUnknownError, SettingsError, TokenError
from gateway.identity.jwk import PublicJwk
from gateway.identity.key_freshness import Freshness
from gateway.identity.public_key import jwk_verifier
from gateway.identity.token import MAX_TOKEN_BYTES, Claims, Verify, header_of


class KeyRing:
    """Replaced as a whole by every good answer of the endpoint: what is not in it is gone at once."""

    def __init__(self, freshness: Freshness, clock: Clock) -> None:
        self.freshness = freshness
        self._clock = clock
        self._keys: dict[tuple[str, str], tuple[PublicJwk, Verify]] = {}
        self.unknown = 0
        # Called when the set should be read soon.
        self.on_unknown: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def names(self) -> set[str]:
        """The `kid` of each key."""
        return {kid for kid, _ in self._keys}

    def ready(self) -> bool:
        """Whether any token can be checked."""
        return bool(self._keys) and self.freshness.counts(self._clock.monotonic_s())

    def replace(self, keys: tuple[PublicJwk, ...]) -> int:
        """These keys count from now on; how many of them turned out to be none.

        Raises KeySetError when all did: those from before stay.
        """
        made: dict[tuple[str, str], tuple[PublicJwk, Verify]] = {}
        for key in keys:
            name = key.kid, key.algorithm
            known = self._keys.get(name)
            try:
                made[name] = known if known is not None and known[0] == key else (key, jwk_verifier(key))
            except SettingsError:
                continue
        # An issuer's mistake: one answer must not shut out the whole fleet.
        if not made:
            raise KeySetError("the key set holds no key that can be used")
        self._keys = made
        return len(keys) - len(made)

    def verify(self, token: str) -> Claims:
        """Check the signature with the key that the token names. Raises TokenError, KeysUnknownError among them."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        header = header_of(token)
        if not self.freshness.counts(self._clock.monotonic_s()):
            raise KeysUnknownError("the keys of the issuer are not known at the moment; try again")
        return self._choose(header.alg, header.kid)(token)

    def _choose(self, algorithm: str, kid: str) -> Verify:
        if kid:
            found = self._keys.get((kid, algorithm))
            if found is not None:
                return found[1]
            if any(name == kid for name, _ in self._keys):
                raise TokenError("the token is not signed with the algorithm of its key")
            self.unknown += 1
            self.on_unknown()
            raise TokenError("the token names a key that the issuer does not publish")
        # RFC 7515, 4.1.4: kid is a hint and may be left out; then there must be no choice.
        fitting = [verify for (_, used), (_, verify) in self._keys.items() if used == algorithm]
        if len(fitting) != 1:
            raise TokenError("the token names no key (kid), and not exactly one fits")
        return fitting[0]
