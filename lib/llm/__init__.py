"""Models: the chat model, answers in a schema, embeddings.

Read in this order: `chat` (which model, and how it is reached), `structured_output` (an answer that fits a schema,
or goes back once), `embeddings` (from a text to a vector, on this computer or by an API).
"""

from lib.llm._endpoints import practice_model
from lib.llm._prices import DEFAULT_MODEL, PRICES, cost_usd
from lib.llm.chat import chat_model
from lib.llm.embeddings import Embedder, default_embedder
from lib.llm.structured_output import ask

__all__ = [
    "DEFAULT_MODEL",
    "PRICES",
    "Embedder",
    "ask",
    "chat_model",
    "cost_usd",
    "default_embedder",
    "practice_model",
]
