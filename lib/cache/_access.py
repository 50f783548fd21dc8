"""What an engine may do with the contents of a scope: one of `as_user` reads what is shared, and writes its user's."""

from sqlalchemy import Engine

from lib.cache.scope import Scope
from lib.database import bound
from lib.errors import InvalidInput, NotYourRows, shown


def check_readable(engine: Engine, scope: Scope) -> None:
    """Raise InvalidInput if this is no scope, and NotYourRows if it is another user's than the engine's."""
    if not isinstance(scope, Scope):
        user_id = shown(scope) if isinstance(scope, str) else '"zoe"'
        raise InvalidInput(
            f"scope must be a Scope, not {shown(scope)}. Write scope=for_user({user_id}) for what was made from one "
            "user's data, or scope=SHARED for what was made from nobody's, and may be served to all."
        )
    user = bound(engine)
    if user is not None and scope.user_id not in (None, user.user_id):
        raise NotYourRows(
            f"this engine is bound to the user {user.user_id!r}, and the scope is {scope!r}. Use "
            f"as_user(engine, {scope.user_id!r}), or scope=for_user({user.user_id!r})."
        )


def check_writable(engine: Engine, scope: Scope | None) -> None:
    """Raise the same, and NotYourRows if the engine is one user's and the contents SHARED or, without a scope, of all.

    One user's request could else put words into the answers of all.
    """
    if scope is not None:
        check_readable(engine, scope)
    user = bound(engine)
    if user is not None and (scope is None or scope.user_id is None):
        raise NotYourRows(
            f"this engine is bound to the user {user.user_id!r}, and contents that all users share are generated, "
            "deleted and evicted by the owner's: use ContentCache(engine), with the engine that as_user was given, "
            f"and nobody's data. For this user's own contents, write scope=for_user({user.user_id!r})."
        )
