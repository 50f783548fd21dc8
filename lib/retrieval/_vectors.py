"""A user's vectors as one matrix in memory, for exact search; read again only as far as they have changed."""

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Engine, select

from lib.database import IndexedMemory
from lib.retrieval._index import VECTOR_TYPE

if TYPE_CHECKING:
    import numpy as np

KEPT_BYTES = 256_000_000  # of all matrices of this process; 160,000 memories

_index = IndexedMemory.__table__


class State(Protocol):
    """What tells whether the index has changed: see lib.retrieval._candidates.IndexState."""

    count: int
    newest: int
    checksum: int


@dataclass
class _Matrix:
    ids: "np.ndarray"  # row numbers, ascending
    vectors: "np.ndarray"  # float32, a row each
    checksum: int


class Matrices:
    """The matrices that were used last. Threads may share it.

    Rows are never changed in place (an update is another row with a larger number), so row numbers are enough to know
    what is missing: count, largest number and their sum are equal only if nothing has changed.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES):
        self._kept: OrderedDict[Any, _Matrix] = OrderedDict()
        self._lock = threading.Lock()
        self._kept_bytes = kept_bytes

    def get(
        self, engine: Engine | Connection, connection: Connection, user_id: str, model: str, state: State
    ) -> tuple["np.ndarray", "np.ndarray"]:
        """(row numbers, vectors) of the user's memories under this model, as of `state`."""
        pool = (engine.engine if isinstance(engine, Connection) else engine).pool
        address = (weakref.ref(pool), user_id, model)  # not its id(): those are given again
        with self._lock:
            kept = self._kept.get(address)
        if kept is None or not _same(kept, state):
            kept = self._read(connection, user_id, model, state, kept)
            if isinstance(engine, Connection):
                # A transaction that goes on may be undone; then SQLite gives its row numbers to other memories.
                return kept.ids, kept.vectors
            with self._lock:
                for gone in [key for key in self._kept if key[0]() is None]:
                    del self._kept[gone]
                self._kept[address] = kept
                while len(self._kept) > 1 and sum(m.vectors.nbytes for m in self._kept.values()) > self._kept_bytes:
                    self._kept.popitem(last=False)
        with self._lock:
            if address in self._kept:
                self._kept.move_to_end(address)
        return kept.ids, kept.vectors

    def _read(self, connection: Connection, user_id: str, model: str, state: State, kept: _Matrix | None) -> _Matrix:
        import numpy as np

        if kept is not None and len(kept.ids):
            new = _rows(connection, user_id, model, int(kept.ids[-1]))
            # Of another size: a model that was changed without changing its name, when all that was kept had gone.
            if new is not None and new.vectors.shape[1] == kept.vectors.shape[1]:
                grown = _Matrix(
                    np.concatenate([kept.ids, new.ids]),
                    np.concatenate([kept.vectors, new.vectors]),
                    kept.checksum + new.checksum,
                )
                if _same(grown, state):
                    return grown
        return _rows(connection, user_id, model, -1) or _Matrix(np.zeros(0, np.int64), np.zeros((0, 0), np.float32), 0)


def _same(matrix: _Matrix, state: State) -> bool:
    newest = int(matrix.ids[-1]) if len(matrix.ids) else 0
    return len(matrix.ids) == state.count and newest == state.newest and matrix.checksum == state.checksum


def _rows(connection: Connection, user_id: str, model: str, after: int) -> _Matrix | None:
    import numpy as np

    query = (
        select(_index.c.id, _index.c.vector)
        .where(_index.c.user_id == user_id, _index.c.model == model, _index.c.id > after)
        .order_by(_index.c.id)
    )
    rows = connection.execute(query).all()
    if not rows:
        return None
    ids = np.array([row[0] for row in rows], np.int64)
    vectors = np.frombuffer(b"".join([row[1] for row in rows]), VECTOR_TYPE).reshape(len(rows), -1)
    return _Matrix(ids, vectors.astype(np.float32), int(ids.sum()))
