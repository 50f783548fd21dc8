"""Models: the chat model, answers in a schema, embeddings.

Read in this order: `chat_model` (which one, and how it is reached), `structured_output` (an answer that fits a schema,
or goes back once), `embeddings` (from a text to a vector, on this computer or by an API).
"""

from lib.llm.embeddings import Embedder, default_embedder
from lib.llm.structured_output import ask

__all__ = [
    "Embedder",
    "ask",
    "default_embedder",
]
