"""What happens by itself when a memory's value changes: the earlier one is kept, and the search index forgets it.

By triggers and not by code of the store: an update then can't forget it, a plain insert never pays for it, and the
store's upsert stays one statement that needn't know what it replaces.
"""

# The user is named wherever the id would do, because the tables may be partitioned by user (lib.postgres.partitioning).

# The columns of a version: it was the memory's value since the version before it ended, or else since the memory
# came. Not `old.updated_at`: a put of an equal value moves that, and there would be a gap between two versions.
_KEEP = """
    INSERT INTO memory_versions (memory_id, user_id, value, written_at, replaced_at) VALUES (
        old.id, old.user_id, old.value,
        coalesce(
            (
                SELECT replaced_at FROM memory_versions
                WHERE memory_id = old.id AND user_id = old.user_id ORDER BY id DESC LIMIT 1
            ),
            old.created_at
        ),
        new.updated_at
    );
"""

# It is indexed anew when somebody searches next: see lib.retrieval._index.
_UNINDEX = "DELETE FROM memory_index WHERE memory_id = old.id AND user_id = old.user_id;"

# Of a deleted turn, the words stand in the index rows of its neighbours, too: the whole conversation is indexed anew.
_ITS_SESSION = "SELECT session FROM memory_index WHERE memory_id = old.id AND user_id = old.user_id"
_OF_SESSION = "FROM memory_index WHERE user_id = old.user_id AND session = ({session})"

# json() takes the spacing out, in case somebody writes JSON in another layout than the store's. It refuses what is no
# JSON, and a value like that must be free to be mended.
_SQLITE_CHANGED = """
    old.value IS NOT new.value AND CASE
        WHEN json_valid(old.value) AND json_valid(new.value) THEN json(old.value) <> json(new.value) ELSE TRUE
    END
"""

# Statements that may be executed again and again.
TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER IF NOT EXISTS memory_keeps_version AFTER UPDATE OF value ON memories WHEN {_SQLITE_CHANGED} "
        f"BEGIN {_KEEP} END",
        f"CREATE TRIGGER IF NOT EXISTS memory_leaves_index AFTER UPDATE OF value ON memories WHEN {_SQLITE_CHANGED} "
        f"BEGIN {_UNINDEX} END",
        "CREATE TRIGGER IF NOT EXISTS memory_leaves_neighbours BEFORE DELETE ON memories "
        f"BEGIN DELETE {_OF_SESSION.format(session=_ITS_SESSION)}; END",
        # The tokens of each memory, found by FTS5; detail=none: we ask which rows hold one, never where.
        "CREATE VIRTUAL TABLE IF NOT EXISTS memory_terms USING fts5(tokens, detail=none, columnsize=0, tokenize=ascii)",
        "CREATE VIRTUAL TABLE IF NOT EXISTS memory_vocabulary USING fts5vocab(memory_terms, row)",
        "CREATE TRIGGER IF NOT EXISTS index_leaves_terms AFTER DELETE ON memory_index "
        "BEGIN DELETE FROM memory_terms WHERE rowid = old.id; END",
    ],
    "postgresql": [
        # fastupdate would leave new entries in a list that every search has to read.
        "CREATE INDEX IF NOT EXISTS ix_memory_index_tokens ON memory_index USING gin (tokens) WITH (fastupdate = off)",
        # The function keeps the path that it was made with, so that it finds our table whoever's path it runs under.
        # Not `"$user", public` as it may stand there, which would mean another schema to another role.
        "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)",
        "CREATE OR REPLACE FUNCTION keep_memory_version() RETURNS trigger LANGUAGE plpgsql "
        f"SET search_path FROM CURRENT AS $$ BEGIN {_KEEP} {_UNINDEX} RETURN NULL; END $$",
        # Locked in one order first: two who delete neighbouring turns would else wait for each other.
        "CREATE OR REPLACE FUNCTION unindex_neighbours() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT "
        f"AS $$ DECLARE its text; BEGIN its := ({_ITS_SESSION}); IF its IS NOT NULL THEN "
        f"PERFORM id {_OF_SESSION.format(session='its')} ORDER BY id FOR UPDATE; "
        f"DELETE {_OF_SESSION.format(session='its')}; END IF; RETURN old; END $$",
        # CREATE OR REPLACE TRIGGER would wait for all who are writing just now, each time that it is said.
        # As texts, because to JSONB 1 and 1.0 are one value, and to SQLite two.
        """
        DO $$ BEGIN
            IF NOT EXISTS (
                SELECT FROM pg_trigger WHERE tgrelid = 'memories'::regclass AND tgname = 'memory_keeps_version'
            ) THEN
                CREATE TRIGGER memory_keeps_version AFTER UPDATE OF value ON memories FOR EACH ROW
                WHEN (old.value::text <> new.value::text) EXECUTE FUNCTION keep_memory_version();
            END IF;
            IF NOT EXISTS (
                SELECT FROM pg_trigger WHERE tgrelid = 'memories'::regclass AND tgname = 'memory_leaves_neighbours'
            ) THEN
                CREATE TRIGGER memory_leaves_neighbours BEFORE DELETE ON memories FOR EACH ROW
                EXECUTE FUNCTION unindex_neighbours();
            END IF;
        END $$
        """,
    ],
}
