"""A user's vectors as one matrix in memory, for exact search; what is still right of it is not read again.

Of 100,000 memories the nearest are found in the time that an approximate index (pgvector's HNSW, chapter 07) takes,
and none is missed. The price: 1.5 kB of this process for each memory, and the first search reads them all.
"""

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, func, select

from lib.retrieval._index import INDEX, MEMORIES, VECTOR_TYPE

if TYPE_CHECKING:
    import numpy as np

    Matrix = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]  # row numbers, ascending; their vectors, float32

KEPT_BYTES = 256_000_000  # of all matrices of this process; 160,000 memories


@dataclass(frozen=True)
class IndexState:
    """A user's index as a whole."""

    memories: int  # of the user, indexed or not
    count: int  # indexed by this model
    average_length: float
    newest: int  # the largest row number
    checksum: int  # sum of the row numbers: any change of the index changes one of the three


def state_of(connection: Connection, user_id: str, model: str) -> IndexState:
    """Read it: one pass over an index of each table."""
    memories = select(func.count()).where(MEMORIES.c.user_id == user_id).scalar_subquery()
    columns = func.count(), func.sum(INDEX.c.length), func.max(INDEX.c.id), func.sum(INDEX.c.id)
    query = select(memories, *columns).where(INDEX.c.user_id == user_id, INDEX.c.model == model)
    total, count, length, newest, checksum = connection.execute(query).one()
    return IndexState(total, count, (length or 0.0) / count if count else 0.0, newest or 0, int(checksum or 0))


class Matrices:
    """The matrices that were used last. Threads may share it.

    Rows are never changed in place: an update is another row with a larger number. So row numbers tell what is missing.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES):
        self._kept: OrderedDict[Any, Matrix] = OrderedDict()
        self._lock = threading.Lock()
        self._kept_bytes = kept_bytes

    def get(
        self, engine: Engine | Connection, connection: Connection, user_id: str, model: str, state: IndexState
    ) -> "Matrix":
        """(row numbers, vectors) of the user's memories under this model, as of `state`."""
        address = (weakref.ref(engine.engine.pool), user_id, model)  # not its id(): those are given again
        with self._lock:
            matrix = self._kept.get(address)
            if matrix is not None:
                self._kept.move_to_end(address)
        if matrix is not None and _is_current(matrix, state):
            return matrix
        matrix = _read(connection, user_id, model, matrix)
        if not isinstance(engine, Connection):
            # A transaction that goes on may be undone; then SQLite gives its row numbers to other memories.
            self._keep(address, matrix)
        return matrix

    def _keep(self, address: Any, matrix: "Matrix") -> None:
        with self._lock:
            self._kept[address] = matrix
            self._kept.move_to_end(address)
            for gone in [key for key in self._kept if key[0]() is None]:
                del self._kept[gone]
            while len(self._kept) > 1 and sum(vectors.nbytes for _, vectors in self._kept.values()) > self._kept_bytes:
                self._kept.popitem(last=False)


def _is_current(matrix: "Matrix", state: IndexState) -> bool:
    ids, _ = matrix
    return len(ids) == state.count and int(ids.sum()) == state.checksum and (not len(ids) or ids[-1] == state.newest)


def _read(connection: Connection, user_id: str, model: str, kept: "Matrix | None") -> "Matrix":
    """The matrix as it is now: of what is kept all that is still there, and from the database what is new."""
    import numpy as np

    mine = (INDEX.c.user_id == user_id, INDEX.c.model == model)
    ids = np.array(connection.scalars(select(INDEX.c.id).where(*mine).order_by(INDEX.c.id)).all(), np.int64)
    if kept is not None and (stays := np.isin(kept[0], ids)).any():
        new = _vectors(connection, *mine, INDEX.c.id > int(kept[0][-1]))
        vectors = np.concatenate([kept[1][stays], new.reshape(len(new), kept[1].shape[1])])
        if len(vectors) == len(ids):  # else what is kept is of a later moment than this transaction
            return ids, vectors
    return ids, _vectors(connection, *mine)


def _vectors(connection: Connection, *conditions: Any) -> "np.ndarray[Any, Any]":
    import numpy as np

    stored = connection.scalars(select(INDEX.c.vector).where(*conditions).order_by(INDEX.c.id)).all()
    width = len(stored[0]) // np.dtype(VECTOR_TYPE).itemsize if stored else 0
    return np.frombuffer(b"".join(stored), VECTOR_TYPE).reshape(len(stored), width).astype(np.float32)
