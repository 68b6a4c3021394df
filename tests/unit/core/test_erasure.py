"""What the journal says of erased persons, by one key and by longer and longer lists of keys."""

import json

import pytest

from include.core.erasure import Erasures
from include.core.errors import ConfigError
from include.core.personal import HashKey

KEYS = [f"the key number {number} of the tests, which is long" for number in range(3)]
RINGS = [HashKey.of(KEYS[0]), HashKey.of(json.dumps(KEYS[:2])), HashKey.of(json.dumps(KEYS))]
PERSON = "Erika Mustermann"
HASHES = [ring.hashed(PERSON) for ring in RINGS]


def entered(ring: HashKey) -> Erasures:
    """Return what the journal says of the person when entry 7 was made with these keys."""
    return Erasures({ring.hashed(PERSON): 7}, {ring.hashed(PERSON): ring.fingerprint}, {"plan#1": 2})


@pytest.mark.parametrize("now", [0, 1, 2])
@pytest.mark.parametrize("then", [0, 1, 2])
def test_a_person_is_recognised_by_the_keys_of_then_and_those_added_since(then: int, now: int) -> None:
    erased = entered(RINGS[then])
    if now < then:
        with pytest.raises(ConfigError, match="Put the old key back"):
            erased.under(RINGS[now])
        return
    under = erased.under(RINGS[now])
    assert under == Erasures({HASHES[now]: 7}, {HASHES[now]: RINGS[now].fingerprint}, {"plan#1": 2})
    assert under.under(RINGS[-1]).hashes == {HASHES[-1]: 7}
    assert erased.ever(RINGS[now]) == HASHES[then : now + 1]


def test_a_person_who_was_entered_by_two_keys_keeps_the_first_entry() -> None:
    newer, older = HASHES[1], HASHES[0]
    erased = Erasures({newer: 9, older: 7}, {newer: RINGS[1].fingerprint, older: RINGS[0].fingerprint})
    assert erased.under(RINGS[2]).hashes == {HASHES[2]: 7}
    assert erased.ever(RINGS[2]) == [*HASHES[1:], *HASHES]


def test_each_hash_is_that_of_the_first_keys() -> None:
    assert RINGS[2].each_hash(PERSON) == HASHES
    assert RINGS[2].after(RINGS[0]).each_hash(HASHES[0]) == HASHES[1:]
    assert RINGS[2].after(RINGS[2]).each_hash(HASHES[2]) == []
