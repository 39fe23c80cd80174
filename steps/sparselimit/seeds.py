"""Random numbers that depend on what a run is, never on where it stands in a batch or a queue."""

import hashlib

import numpy as np


def generator(*identity: str | int | tuple[int, ...]) -> np.random.Generator:
    """The random generator of one run, keyed by its identity.

    `identity` names the purpose and everything that tells the run from others, for example
    `("init", (2, 16, 16, 16, 1), 3)`. Its digest is the key of a counter-based generator (Philox,
    Salmon et al. 2011), so two identities give independent streams and one identity gives the same
    stream alone, in any batch, shard or order.
    """
    digest = hashlib.blake2b(repr(identity).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def generators(purpose: str, seed: int, n: int) -> list[np.random.Generator]:
    """One for each of `n` draws for a purpose; more of them begin with the same."""
    return [generator(purpose, seed, i) for i in range(n)]
