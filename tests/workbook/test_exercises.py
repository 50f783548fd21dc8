"""Every exercise: the untouched stub is told "not yet", the solution passes, plausible wrong answers are refused."""

import hashlib
import json
import linecache
import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lib import SHARED, content_hash, for_user, unordered
from lib.agent.prompt_quoting import quote_memories
from lib.formation.extraction import extract_pending
from lib.workbook.exercises import CHECKS, check, verdict
from lib.workbook.lesson import load_sessions

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def always(answer):
    return lambda *arguments: answer


def destructive_rename(store, user_id, namespace, old, new):
    value = store.get(user_id, namespace, old)
    store.delete(user_id, namespace, old)
    store.put(user_id, namespace, new, value)
    return True


def overwriting_rename(store, user_id, namespace, old, new):
    value = store.get(user_id, namespace, old)
    if value is None:
        return False
    store.delete(user_id, namespace, old)
    store.put(user_id, namespace, new, value)
    return True


def ten_only(store, user_id):
    found = {}
    for item in store.search(user_id):
        found.setdefault(item.namespace, {})[item.key] = item.value
    for namespace in store.list_namespaces(user_id):
        found[namespace] = {item.key: item.value for item in store.search(user_id, namespace)}
    return found


def flat_export(store, user_id):
    return {item.key: item.value for item in store.search(user_id, limit=None)}


def any_newest(store, user_id):
    found = store.search(user_id, limit=1)
    return found[0].value["content"] if found else None


def newest_episode(store, user_id, namespace="episodes", **conditions):
    found = store.search(user_id, namespace, limit=1, **conditions)
    return found[0].value["content"] if found else None


def counts_the_list(store, user_id, key):
    return len((store.get(user_id, "procedures", key) or {"evidence": []})["evidence"]) >= 2


def wants_all_evidence(store, user_id, key):
    rule = store.get(user_id, "procedures", key)
    return rule is not None and all(store.get(user_id, "episodes", episode) for episode in rule["evidence"])


def exclusive_as_of(store, user_id, namespace, key, moment):
    for version in store.history(user_id, namespace, key):
        if version.written_at < moment and (version.replaced_at is None or moment <= version.replaced_at):
            return version.value
    return None


def pool_in_fractions(max_connections, reserved, machines, processes):
    each = (max_connections - reserved) / (machines * processes)
    return each / 3, each * 2 / 3


def pool_without_an_error(max_connections, reserved, machines, processes):
    each = (max_connections - reserved) // (machines * processes)
    return -(-each // 3), each - -(-each // 3)


def remind_marking_first(job_id, user_id, text, send, done):
    if job_id not in done:
        done.add(job_id)
        send(user_id, text)


def remind_by_text(job_id, user_id, text, send, done):
    if text not in done:
        send(user_id, text)
        done.add(text)


def drains_all(log, store, model, calls):
    extract_pending(log, store, model)
    return log.counts()["pending"]


INSERT = "INSERT INTO notes VALUES (:user_id, :key, :value, :now, :now)"
VALUE = {"content": "Built a VPC, and it worked", "type": "episodic", "topics": ["labs"], "confidence": 1.0}


# Exercise, a wrong answer that a reader might well give, and what the message must name.
def multiplying_rank(memories):
    return sorted(memories, key=lambda m: m["relevance"] * 0.5 ** (m["age_days"] / 30), reverse=True)


def ungated_rank(memories):
    return sorted(memories, key=lambda m: m["relevance"] + 0.1 * 0.5 ** (m["age_days"] / 30), reverse=True)


def contents(memories):
    return [memory["content"] for memory in memories]


def newest_by_numbers(memories):
    newest = {re.sub(r"\d+$", "", memory["key"]): memory["content"] for memory in memories}
    return list(newest.values())


def superseded_within_the_list_so_far(memories):
    current = {}
    for memory in memories:
        current.pop(memory.get("supersedes"), None)
        current[memory["key"]] = memory["content"]
    return list(current.values())


def stopping_fit(memories, budget):
    taken = []
    for text, tokens in memories:
        if tokens > budget:
            break
        taken.append(text)
        budget -= tokens
    return taken


def mean_of_turns(turns):
    precisions = [len(up & wanted) / len(up) if up else 1.0 for up, wanted in turns]
    recalls = [len(up & wanted) / len(wanted) if wanted else 1.0 for up, wanted in turns]
    return sum(precisions) / len(turns), sum(recalls) / len(turns)


def first_of_equals(curve, least):
    return max((point for point in curve if point[1] >= least), key=lambda point: point[2])[0]


def unquoted_prompt(role, rules, memories):
    return "\n".join([role, *rules, *(item.value["content"] for item in memories)])


KEY_FIELDS = ("topic", "level", "sources", "model", "temperature", "prompt_version")


def key_of_joined_parts(request):
    parts = [str(request[name]) for name in KEY_FIELDS if name != "sources"] + sorted(request["sources"])
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def key_without_names(request):
    rest = {name: request[name] for name in ("model", "temperature", "prompt_version")}
    return content_hash(unordered([request["topic"], request["level"], *request["sources"]]), **rest)


def key_of_joined_sources(request):
    rest = {name: request[name] for name in KEY_FIELDS if name != "sources"}
    return content_hash(sources="|".join(sorted(request["sources"])), **rest)


def look_then_store(cache, user_id, transcript, prompt, extract):
    where = {"key": content_hash(transcript, prompt), "content_type": "extraction", "scope": for_user(user_id)}
    if found := cache.get(**where):
        return found.content
    made = extract(transcript)
    cache.put(generated=made, **where)
    return made


def always_zoes_scope(parts, user_id):
    return SHARED if parts <= {"instructions", "topic", "level", "public_documents"} else for_user("zoe")


def scope_by_what_is_forbidden(parts, user_id):
    return for_user(user_id) if parts & {"transcript", "memories"} else SHARED


def extraction(key, scope):
    def answer(cache, user_id, transcript, prompt, extract):
        given = {"user_id": user_id, "transcript": transcript, "prompt": prompt}
        return cache.get_or_generate(
            content_hash(**{name: given[name] for name in key}),
            lambda: extract(transcript),
            content_type="extraction",
            scope=scope(user_id),
        ).content

    return answer


extraction_for_all = extraction(("transcript", "prompt"), always(SHARED))
extraction_with_the_user_in_the_key = extraction(("user_id", "transcript", "prompt"), always(SHARED))
extraction_without_the_prompt = extraction(("transcript",), for_user)


def extraction_that_hides_errors(cache, user_id, transcript, prompt, extract):
    def careful(transcript):
        try:
            return extract(transcript)
        except ConnectionError:
            return {}

    return extraction(("transcript", "prompt"), for_user)(cache, user_id, transcript, prompt, careful)


WRONG = [
    ("0.1", 14, "number of sessions"),
    ("0.1", sum(len(session["turns"]) for session in load_sessions()), "all three people"),
    ("0.1", "many", "not the number"),
    ("1.1", datetime.fromisoformat, "UTC"),
    ("1.1", lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC), "astimezone"),
    ("1.1", lambda text: text, "return a datetime"),
    ("1.2", "Built a VPC", "a value is a dict"),
    ("1.2", {**VALUE, "type": "episode"}, "episodic"),
    ("1.2", {**VALUE, "topics": "labs"}, "list"),
    ("1.2", {**VALUE, "confidence": 100}, "confidence"),
    ("1.3", lambda memory: (memory["namespace"], memory["id"], memory), "id as the key"),
    ("1.3", lambda memory: (memory["namespace"], memory["key"], {"content": memory["content"]}), "lost"),
    ("1.3", lambda memory: (memory["namespace"], memory["key"], memory), "column already"),
    ("1.4", ["updated_at"], "doesn't lead"),
    ("1.4", ["user_id", "namespace"], "sorted by hand"),
    ("1.4", ["user_id", "updated_at", "namespace"], "doesn't lead"),
    ("1.4", ["user", "namespace"], "refuses"),
    ("2.1", INSERT.replace("INSERT", "INSERT OR REPLACE"), "created_at has moved"),
    ("2.1", INSERT, "ON CONFLICT"),
    ("2.1", INSERT + " ON CONFLICT (user_id, key) DO NOTHING", "newer value"),
    ("2.1", INSERT + " ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value", "updated_at has not moved"),
    ("2.2", lambda store, user, namespace: (store.search(user, namespace) or [None])[0], "content"),
    ("2.2", lambda store, user, space: any_newest(store, user), "another namespace"),
    ("2.2", always(None), "content"),
    ("2.3", destructive_rename, "your code stopped"),
    ("2.3", overwriting_rename, "wrote over|taken"),
    ("2.3", always(True), "return False"),
    ("2.4", ten_only, "stops at 10"),
    ("2.4", flat_export, "one entry a namespace"),
    ("3.1", ["episodic"] * 6, "a dict with the letters"),
    ("3.1", dict.fromkeys("abcdef", "semantic"), "it happened at some time"),
    ("3.1", {**dict.fromkeys("bdf", "semantic"), "a": "episodic", "c": "semantic", "e": "episodic"}, "what to do"),
    ("3.1", dict.fromkeys("abcdef", "fact"), "yours is 'fact'"),
    ("3.2", lambda moment: moment.strftime("%Y-%m-%d"), "two different seconds"),
    ("3.2", lambda moment: moment.strftime("%d.%m.%Y %H:%M:%S"), "Begin with the year"),
    ("3.2", lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S"), "convert to UTC"),
    ("3.2", lambda moment: moment, "a key is a text"),
    ("3.3", lambda store, user, topic: newest_episode(store, user), "by `topics`"),
    ("3.3", lambda store, user, topic: newest_episode(store, user, None, topics=[topic]), 'the namespace "episodes"'),
    ("3.3", always(""), "return None"),
    ("3.4", always(True), "isn't there"),
    ("3.4", counts_the_list, "Look each of them up"),
    ("3.4", wants_all_evidence, "two are enough"),
    ("4.1", lambda text: "remember" in text, "a capital letter"),
    ("4.1", lambda text: "remember" in text.lower() or "deadline" in text.lower(), "it asks; it doesn't tell"),
    ("4.1", lambda text: "remember" in text.lower() and "?" not in text, "a deadline can't wait"),
    ("4.1", lambda text: text.find("remember"), "Right is True, and yours is 7"),
    ("4.2", lambda store, *address: len(store.history(*address)), "written, not replaced"),
    ("4.2", lambda store, *address: len(store.history(*address)) - 1, "never replaced"),
    ("4.2", always(0), "the second version replaced the first"),
    ("4.3", lambda store, user, namespace, key, moment: store.get(user, namespace, key), "0 days after"),
    ("4.3", exclusive_as_of, "from the moment when it was written"),
    ("4.4", drains_all, "has a `limit`"),
    (
        "4.4",
        lambda log, store, model, calls: extract_pending(log, store, model, limit=calls).extracted,
        "still waiting",
    ),
    ("5.1", lambda age, weight: age * math.log2(1 / weight), "divide by their number"),
    ("5.1", lambda age, weight: age * weight, "half is left after one half-life"),
    ("5.2", lambda found, wanted, k: len(set(found[:k]) & set(wanted)) / k, "not by k"),
    ("5.2", lambda found, wanted, k: len(set(found) & set(wanted)) / len(wanted), "first k"),
    ("5.3", multiplying_rank, "multiply with age"),
    ("5.3", lambda memories: sorted(memories, key=lambda m: m["relevance"], reverse=True), "gets a bonus"),
    ("5.3", ungated_rank, "at least half"),
    ("5.4", contents, "isn't the `supersedes` of another one"),
    ("5.4", newest_by_numbers, "isn't the `supersedes` of another one"),
    ("5.4", superseded_within_the_list_so_far, "isn't the `supersedes` of another one"),
    ("5.4", lambda ms: contents([m for m in ms if not m.get("supersedes")]), "whatever it supersedes itself"),
    ("5.4", lambda ms: sorted(contents([m for m in ms if m["key"] not in ("k1", "k7")])), "of another one"),
    ("6.1", stopping_fit, "c behind it fits"),
    (
        "6.1",
        lambda memories, budget: [text for text, tokens in memories if tokens <= budget],
        "counts against the budget",
    ),
    ("6.2", mean_of_turns, "one of two is right"),
    ("6.2", always((1.0, 1.0)), "one of two is right"),
    ("6.3", lambda curve, least: max(curve, key=lambda point: point[2])[0], "those that are precise enough"),
    ("6.3", lambda curve, least: max(curve, key=lambda point: point[1])[0], "the highest recall"),
    ("6.3", first_of_equals, "of equals the highest"),
    ("6.4", unquoted_prompt, "quoted block"),
    ("6.4", lambda role, rules, memories: quote_memories(memories) + "\n".join([role, *rules]), "role first"),
    ("6.4", lambda role, rules, memories: "\n".join([role, *rules, quote_memories(memories)]), "Put RULE"),
    ("7.1", lambda url: url.replace("postgres://", "postgresql+psycopg://", 1), "yours is 'postgresql://zoe"),
    ("7.1", lambda url: url.replace("postgres", "postgresql+psycopg", 1), "yours is 'postgresql+psycopgql:"),
    (
        "7.1",
        lambda url: url.replace("postgres://", "postgresql+psycopg://").replace("postgresql://", "x"),
        "yours is 'xzoe",
    ),
    ("7.2", lambda limit, reserved, machines, processes: (5, 10), "round down what each process gets"),
    ("7.2", pool_in_fractions, "round down what each process gets"),
    ("7.2", pool_without_an_error, "raise a ValueError"),
    ("7.3", always("CREATE INDEX i ON sessions (user_id, state)"), "still sorted"),
    ("7.3", always("CREATE INDEX i ON sessions (ended_at)"), "doesn't use it|doesn't lead to"),
    ("7.3", always("CREATE INDEX i ON sessions (user_id, ended_at DESC)"), "throws away"),
    ("7.3", always("CREATE INDEX i ON session (user_id)"), "the database refuses it"),
    ("7.3", always("CREATE INDEX i ON sessions (user_id, ended_at) WHERE user_id IS NOT NULL"), "throws away"),
    ("7.4", lambda job_id, user_id, text, send, done: send(user_id, text), "yours is 3"),
    ("7.4", remind_marking_first, "a job that failed is tried again"),
    ("7.4", remind_by_text, "tell them apart by the job's id"),
    ("7.5", lambda user_id, shards: hash(user_id) % shards, "another one in each process"),
    ("7.5", lambda user_id, shards: abs(hash(f"user {user_id}")) % shards, "another one in each process"),
    ("7.5", lambda user_id, shards: ord(user_id[0]) % shards, "spread them evenly"),
    ("7.5", lambda user_id, shards: user_id, "return a whole number"),
    ("8.1", lambda request: content_hash(request), "a new with each request|request_id"),
    ("8.1", key_of_joined_parts, "0 and 0.0 are one temperature"),
    ("8.1", lambda request: content_hash(request["topic"], request["level"], unordered(request["sources"])), "model-2"),
    ("8.1", lambda request: content_hash(**{name: request[name] for name in KEY_FIELDS}), "in another order"),
    ("8.1", lambda request: f"{request['topic']}-{request['level']}", "64 digits"),
    ("8.1", key_without_names, "by its own name"),
    ("8.1", key_of_joined_sources, "by its own name"),
    ("8.2", always_zoes_scope, "user_id that you are given"),
    ("8.2", lambda parts, user_id: SHARED, "served to everybody"),
    ("8.2", lambda parts, user_id: for_user(user_id), "every learner would pay"),
    ("8.2", scope_by_what_is_forbidden, "calendar"),
    ("8.2", lambda parts, user_id: user_id, "Right is SHARED"),
    ("8.3", lambda generation, storage, lookup: (lookup + storage) / generation, "Right is 0.2"),
    ("8.3", lambda generation, storage, lookup: lookup / generation, "Right is 0.2"),
    ("8.3", lambda generation, storage, lookup: (lookup + storage) / (generation + storage), "return None"),
    ("8.4", lambda cache, user_id, transcript, prompt, extract: extract(transcript), "from the cache"),
    ("8.4", extraction_for_all, "another user"),
    ("8.4", extraction_with_the_user_in_the_key, "still there"),
    ("8.4", extraction_without_the_prompt, "another prompt"),
    ("8.4", look_then_store, "four workers"),
    ("8.4", extraction_that_hides_errors, "nobody was told"),
]


def stubs_and_solutions():
    stubs: dict[str, list] = {}
    for path in sorted((NOTEBOOKS / "solutions").glob("*.ipynb")):
        chapter = json.loads((NOTEBOOKS / path.name).read_text(encoding="utf-8"))
        found = [cell for cell in chapter["cells"] if "exercise" in cell["metadata"].get("tags", [])]
        stubs[path.stem[:2]] = stubs.get(path.stem[:2], []) + found  # 07 goes on in 07b
    return stubs.items()


def test_every_check_has_at_least_two_wrong_answers_and_a_stub():
    check_all_chapters_are_loaded()

    for number in CHECKS:
        assert sum(number == exercise for exercise, *_ in WRONG) >= 2, number
    stubs = {f"{int(chapter)}.{n}" for chapter, cells in stubs_and_solutions() for n, _ in enumerate(cells, 1)}
    assert stubs == set(CHECKS)


def check_all_chapters_are_loaded():
    check("0.1", ...)


@pytest.mark.parametrize(
    ("number", "answer", "named"), WRONG, ids=[f"{number}-{n}" for n, (number, *_) in enumerate(WRONG)]
)
def test_a_wrong_answer_is_refused_and_the_fault_named(number, answer, named):
    check_all_chapters_are_loaded()

    said = verdict(number, answer)

    assert said.startswith("not right yet: ")
    assert any(part in said for part in named.split("|")), said


def test_what_only_postgresql_knows_is_accepted_for_an_index():
    check_all_chapters_are_loaded()
    answers = [
        "CREATE INDEX CONCURRENTLY ON sessions (user_id, state, ended_at DESC)",
        "create index ON sessions USING btree (user_id, state, ended_at) INCLUDE (id)",
        "CREATE INDEX i ON sessions (user_id, ended_at) WHERE state = 'failed'",
    ]

    assert {verdict("7.3", always(answer)) for answer in answers} == {"passed. Well done."}


def test_untouched_stubs_are_told_not_yet():
    check_all_chapters_are_loaded()
    for chapter, stubs in stubs_and_solutions():
        for number, stub in enumerate(stubs, 1):
            namespace: dict = {}
            lines = [*stub["source"], "\n"]
            linecache.cache["<stub>"] = (len(lines), None, lines, "<stub>")  # as a notebook remembers its cells
            exec(compile("".join(lines), "<stub>", "exec"), namespace)
            (answer,) = (value for name, value in namespace.items() if not name.startswith("__"))

            assert verdict(f"{int(chapter)}.{number}", answer).startswith("not yet"), stub


def test_solutions_print_passed():
    for path in sorted((NOTEBOOKS / "solutions").glob("*.ipynb")):
        outputs = json.dumps(json.loads(path.read_text(encoding="utf-8"))["cells"])

        assert "passed. Well done." in outputs
        assert "not right yet" not in outputs and "not yet" not in outputs


def test_a_check_never_raises_whatever_the_answer_does(capsys):
    def broken(*arguments):
        raise SystemError("of the reader's own making")

    for number in ("1.1", "1.3", "2.2", "2.3", "2.4"):
        check(number, broken)

    assert capsys.readouterr().out.count("not right yet: your code stopped") == 5
