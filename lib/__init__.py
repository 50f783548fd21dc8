"""The workbook's package: a memory store for LLM agents, floor by floor. See the README."""

from lib.database import connect, create_tables
from lib.errors import (
    DatabaseUnavailable,
    InvalidDatabaseURL,
    InvalidInput,
    ServerStartError,
    TablesMissing,
    WorkbookError,
)
from lib.items import Forgotten, MemoryItem, MemoryList
from lib.models import Base, CachedContent, ConversationSession, Memory, User, utcnow
from lib.store import MemoryStore

__all__ = [
    "Base",
    "CachedContent",
    "ConversationSession",
    "DatabaseUnavailable",
    "Forgotten",
    "InvalidDatabaseURL",
    "InvalidInput",
    "Memory",
    "MemoryItem",
    "MemoryList",
    "MemoryStore",
    "ServerStartError",
    "TablesMissing",
    "User",
    "WorkbookError",
    "connect",
    "create_tables",
    "utcnow",
]
