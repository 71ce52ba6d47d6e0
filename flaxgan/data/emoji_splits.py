"""Which emoji are withheld, which are tested: functions of the characters alone."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

SKIN_TONES = {
    "\U0001f3fb": "light",
    "\U0001f3fc": "medium-light",
    "\U0001f3fd": "medium",
    "\U0001f3fe": "medium-dark",
    "\U0001f3ff": "dark",
}
_JOINER, _VARIATION = "\u200d", "\ufe0f"
_FACING_RIGHT = _JOINER + "\u27a1"
_HEADS = {"\U0001f468": "man", "\U0001f469": "woman", "\U0001f9d1": "person"}
_SIGNS = {"\u2642": "man", "\u2640": "woman"}
GENDERS = tuple(_HEADS.values())

PERSONS_PER_ROLE = len(SKIN_TONES) * len(GENDERS)
WITHHELD_PER_ROLE = 2  # of those 15; below the 3 genders, so every pair of attributes is still seen


class Person(NamedTuple):
    """What a person emoji shows.

    Attributes:
      skin_tone: one of the values of SKIN_TONES.
      gender: one of GENDERS.
      role: what makes the person an astronaut, a runner …, as characters; which way the person
        faces is no part of it.
    """

    skin_tone: str
    gender: str
    role: str


def codepoints(character: str) -> str:
    """An emoji in hexadecimal: "1f468-1f3fd-200d-1f680"."""
    return "-".join(f"{ord(point):04x}" for point in character)


def rank(text: str) -> int:
    """A fixed pseudo-random number in [0, 2**64)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def parse_person(character: str) -> Person | None:
    """Reads skin tone, gender and role; None unless there is exactly one skin tone.

    Hands and other single figures parse too, as a "person": only `complete_roles` tells which
    characters are roles of men, women and persons.
    """
    tones = [point for point in character if point in SKIN_TONES]
    if len(tones) != 1:
        return None
    bare = character.replace(_VARIATION, "").replace(tones[0], "").removesuffix(_FACING_RIGHT)
    head, *tail = bare.split(_JOINER)
    if head in _HEADS:
        return Person(SKIN_TONES[tones[0]], _HEADS[head], _JOINER.join(tail))
    gender = _SIGNS.get("".join(tail), "person")
    return Person(SKIN_TONES[tones[0]], gender, head)


def complete_roles(characters: Iterable[str]) -> list[str]:
    """The roles that come in all 5 skin tones for man, woman and person, in a fixed order."""
    seen = defaultdict(set)
    for person in filter(None, map(parse_person, characters)):
        seen[person.role].add((person.skin_tone, person.gender))
    complete = (role for role, pairs in seen.items() if len(pairs) == PERSONS_PER_ROLE)
    return sorted(complete, key=rank)


def withheld_people(roles: Iterable[str]) -> frozenset[Person]:
    """The combinations that neither `train` nor `test` may show, for complete roles.

    Two of the 15 of each role: every pair (skin tone, gender), (skin tone, role) and (gender,
    role) stays in `train`, so the triple is new and nothing else is.
    """
    return frozenset(
        person
        for role in roles
        for person in sorted(
            itertools.starmap(Person, itertools.product(SKIN_TONES.values(), GENDERS, [role])),
            key=lambda person: rank("/".join(person)),
        )[:WITHHELD_PER_ROLE]
    )
