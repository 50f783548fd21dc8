"""Whom a cached content may be served to: everybody, or one user. There is no third, and no default."""

from dataclasses import dataclass
from typing import cast

from lib.database.tables import USER_ID_LENGTH
from lib.errors import InvalidInput, shown
from lib.store.values import check_name


@dataclass(frozen=True, slots=True)
class Scope:
    """Write `SHARED`, or `for_user("zoe")`. Nothing that was made from a user's data belongs in SHARED."""

    kind: str  # "shared" or "user"
    user_id: str | None = None

    def __post_init__(self) -> None:
        # So that a user_id which happens to be None can't make anything shared.
        if self.kind == "user":
            check_name(cast(str, self.user_id), "user_id", USER_ID_LENGTH)
        elif self.kind != "shared" or self.user_id is not None:
            raise InvalidInput(f'there is no scope {shown(self.kind)}. Write SHARED, or for_user("zoe").')

    def __repr__(self) -> str:
        return "SHARED" if self.user_id is None else f"for_user({self.user_id!r})"


SHARED = Scope("shared")


def for_user(user_id: str) -> Scope:
    """The scope of one user: what is cached in it is found for nobody else, and goes when they are forgotten.

    >>> for_user("zoe")
    for_user('zoe')
    """
    return Scope("user", user_id)
