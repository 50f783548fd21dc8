"""The workbook's package: a memory store for LLM agents, floor by floor. See the README."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.postgres.row_level_security import as_user, disable_row_level_security, enable_row_level_security

_missing = None
try:
    from lib.cache import unordered
    from lib.cache.cache_key import content_hash
    from lib.cache.content import Cached, Generated
    from lib.cache.content_cache import ContentCache
    from lib.cache.metrics import CacheMetrics
    from lib.cache.scope import SHARED, Scope, for_user
    from lib.database import ArchivedMemory, CachedContent
    from lib.database.engine import connect, create_tables
    from lib.database.tables import Base, ConversationSession, Memory, User, utcnow
    from lib.errors import (
        ClaimLost,
        DatabaseUnavailable,
        ExtractionFailed,
        InvalidDatabaseURL,
        InvalidInput,
        IsolationUnavailable,
        ModelUnavailable,
        NotYourRows,
        ServerStartError,
        TablesMissing,
        WorkbookError,
    )
    from lib.formation import FinishedSession
    from lib.formation.session_log import SessionLog
    from lib.retrieval.scored_memory import ScoredList, ScoredMemory
    from lib.retrieval.search import Weights, reembed, retrieve
    from lib.store import ArchivedItem, MemoryVersion
    from lib.store.items import Forgotten, MemoryItem, MemoryList
    from lib.store.memory_store import MemoryStore
except ModuleNotFoundError as error:
    if (error.name or "lib").split(".")[0] == "lib":
        raise
    _missing = error.name

_ROW_LEVEL_SECURITY = ("as_user", "disable_row_level_security", "enable_row_level_security")

if not TYPE_CHECKING:  # a type checker would take every name for one that is there

    def __getattr__(name: str) -> Any:
        # So that `workbook check`, which is in this package too, can still say what is missing.
        if _missing and name in __all__:
            raise ModuleNotFoundError(
                f"lib.{name} needs the package {_missing!r}, which isn't installed. In the workbook's folder, run "
                "`uv sync`, or `python -m pip install -e .`; `python -m lib check` lists all that is missing.",
                name=_missing,
            )
        # Imported when they are asked for, so that the wings of the core work in a product without this one.
        if name in _ROW_LEVEL_SECURITY:
            return getattr(import_module("lib.postgres.row_level_security"), name)
        raise AttributeError(f"module 'lib' has no attribute {name!r}")


__all__ = [
    "SHARED",
    "ArchivedItem",
    "ArchivedMemory",
    "Base",
    "CacheMetrics",
    "Cached",
    "CachedContent",
    "ClaimLost",
    "ContentCache",
    "ConversationSession",
    "DatabaseUnavailable",
    "ExtractionFailed",
    "FinishedSession",
    "Forgotten",
    "Generated",
    "InvalidDatabaseURL",
    "InvalidInput",
    "IsolationUnavailable",
    "Memory",
    "MemoryItem",
    "MemoryList",
    "MemoryStore",
    "MemoryVersion",
    "ModelUnavailable",
    "NotYourRows",
    "Scope",
    "ScoredList",
    "ScoredMemory",
    "ServerStartError",
    "SessionLog",
    "TablesMissing",
    "User",
    "Weights",
    "WorkbookError",
    "as_user",
    "connect",
    "content_hash",
    "create_tables",
    "disable_row_level_security",
    "enable_row_level_security",
    "for_user",
    "reembed",
    "retrieve",
    "unordered",
    "utcnow",
]
