"""Nearest vectors on PostgreSQL, exact and by pgvector's approximate index. Chapter 07 compares the two."""

import time
from typing import Any

from sqlalchemy import Engine, text

DIMENSIONS = 64
TABLE = "scratch_vectors"
ASKED_FOR = 10


class VectorTrial:
    """A scratch table of vectors of `users` users in turn, and questions whose true nearest ones are known.

    The vectors are drawn around a few hundred centres, as texts lie around topics; the same ones in every run.
    engine: of a PostgreSQL that is yours alone, with pgvector. Whatever of this name is there is replaced.
    """

    def __init__(self, engine: Engine, count: int = 20_000, users: int = 100, questions: int = 40):
        import numpy as np

        draw = np.random.default_rng(7)
        centres = draw.normal(size=(300, DIMENSIONS))

        def near_centres(number: int) -> np.ndarray:
            drawn = centres[draw.integers(0, len(centres), number)] + 2.5 * draw.normal(size=(number, DIMENSIONS))
            return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

        self._engine = engine
        vectors, self._questions = near_centres(count), near_centres(questions)
        self._owners = np.arange(count) % users
        self._nearness = self._questions @ vectors.T
        self._fill([{"id": n, "user": n % users, "vector": as_text(vector)} for n, vector in enumerate(vectors)])

    def build_index(self) -> float:
        """Build the approximate index; returns the seconds it took."""
        start = time.perf_counter()
        with self._engine.begin() as connection:
            connection.execute(text(f"CREATE INDEX ON {TABLE} USING hnsw (vector vector_cosine_ops)"))
        return time.perf_counter() - start

    def ask(self, *, ef: int = 40, users: int | None = None, iterative: bool = False) -> dict[str, Any]:
        """Ask all questions: {"recall": share of the true ten that came, "found": of how many rows, "ms": a question}.

        ef: entries that the approximate index keeps in view. users: only vectors of the first so many users.
        iterative: go on searching the index until there are ten, also after the filter.
        """
        import numpy as np

        condition = "" if users is None else "WHERE owner < :users"
        query = text(f"SELECT id FROM {TABLE} {condition} ORDER BY vector <=> CAST(:question AS vector) LIMIT :count")
        allowed = self._nearness if users is None else np.where(self._owners < users, self._nearness, -2)
        right = np.argsort(-allowed, axis=1)[:, :ASKED_FOR]
        settings = {"hnsw.ef_search": ef, "hnsw.iterative_scan": "relaxed_order" if iterative else "off"}
        hits = rows = 0
        with self._engine.begin() as connection:
            for name, value in settings.items():
                connection.execute(text(f"SET LOCAL {name} = {value}"))
            first = {"question": as_text(self._questions[0]), "count": ASKED_FOR, "users": users}
            connection.execute(query, first).all()  # so that what has to be read from the disk isn't timed
            start = time.perf_counter()
            for question, wanted in zip(self._questions, right, strict=True):
                parameters = {"question": as_text(question), "count": ASKED_FOR, "users": users}
                ids = list(connection.scalars(query, parameters))
                rows, hits = rows + len(ids), hits + len(set(ids) & set(wanted.tolist()))
            elapsed_ms = 1000 * (time.perf_counter() - start)
        number = len(self._questions)
        return {"recall": hits / number / ASKED_FOR, "found": rows / number, "ms": elapsed_ms / number}

    def _fill(self, rows: list[dict[str, Any]]) -> None:
        with self._engine.begin() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
            connection.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))
            connection.execute(
                text(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, owner int, vector vector({DIMENSIONS}))")
            )
            insert = text(f"INSERT INTO {TABLE} VALUES (:id, :user, CAST(:vector AS vector))")
            connection.execute(insert, rows)
            connection.execute(text(f"ANALYZE {TABLE}"))


def as_text(vector: Any) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(f"{number:.6g}" for number in vector.tolist()) + "]"
