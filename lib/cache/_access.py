"""What an engine may do with the contents of a scope: one of `as_user` reads what is shared, and writes its user's."""

from sqlalchemy import Engine

from lib.cache.scope import Scope
from lib.database import bound
from lib.errors import InvalidInput, NotYourRows, shown


def check_access(engine: Engine, scope: Scope, *, writes: bool) -> None:
    """Raise InvalidInput if this is no scope, and NotYourRows if the engine is bound to a user who may not use it so.

    What is SHARED they may read. If they could write it, one user's request would put words into the answers of all.
    """
    if not isinstance(scope, Scope):
        user_id = shown(scope) if isinstance(scope, str) else '"zoe"'
        raise InvalidInput(
            f"scope must be a Scope, not {shown(scope)}. Write scope=for_user({user_id}) for what was made from one "
            "user's data, or scope=SHARED for what was made from nobody's, and may be served to all."
        )
    user = bound(engine)
    if user is None or scope.user_id == user.user_id or (scope.user_id is None and not writes):
        return
    raise NotYourRows(
        f"this engine is bound to the user {user.user_id!r}, and the scope is {scope!r}. Use "
        f"scope=for_user({user.user_id!r}). Contents that all users share are generated, deleted and evicted with the "
        "engine that as_user was given, and from nobody's data: ContentCache(engine)."
    )
