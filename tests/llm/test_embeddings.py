"""Embedders: one text has one vector in any batch; vectors are kept, shared by threads; errors say what is wrong."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from embedding_server import MODEL, EmbeddingServer, embedding_server
from word_embedder import WordEmbedder

from lib.errors import InvalidInput, ModelUnavailable
from lib.llm import _cached_embedder, _local_model
from lib.llm._cached_embedder import CachedEmbedder
from lib.llm.embeddings import LocalEmbedder, OpenAIEmbedder, default_embedder

TEXTS = ["Zoë drinks no coffee after two", "a", "", "東京タワー 🎉", "the exam is on Friday, " * 30]


@pytest.fixture(scope="module")
def local() -> LocalEmbedder:
    return LocalEmbedder()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


def openai_embedder(server: EmbeddingServer, **options: Any) -> OpenAIEmbedder:
    options = {"dimensions": 64, "max_retries": 0} | options
    return OpenAIEmbedder(MODEL, base_url=server.url, api_key="none", **options)


# --- the local model ------------------------------------------------------------------------------


def test_a_text_has_the_same_vector_in_every_batch(local: LocalEmbedder) -> None:
    together = local.embed(TEXTS)

    for text, vector in zip(TEXTS, together, strict=True):
        [same] = LocalEmbedder().embed([text])
        assert np.abs(same - vector).max() < 1e-5


def test_vectors_are_float32_of_length_one_in_the_order_of_the_texts(local: LocalEmbedder) -> None:
    vectors = local.embed(TEXTS)

    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), local.dimensions)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert np.array_equal(local.embed(TEXTS[::-1]), vectors[::-1])


def test_texts_that_mean_the_same_are_nearer_than_texts_that_do_not(local: LocalEmbedder) -> None:
    question, answer, other = local.embed(["When is my test?", "The exam is on Friday", "Likes to sail at night"])

    assert question @ answer > question @ other


def test_of_a_very_long_text_the_beginning_counts_and_the_rest_takes_no_time(local: LocalEmbedder) -> None:
    beginning = "sailing " * 400
    local.embed([beginning])
    start = time.perf_counter()

    long, short = local.embed([beginning + "coffee " * 300_000, beginning])

    assert time.perf_counter() - start < 2
    assert np.array_equal(long, short)


def test_two_threads_load_the_model_once_and_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, together, loaded = LocalEmbedder(), Barrier(2), []
    load = _local_model._loaded.__wrapped__
    monkeypatch.setattr(_local_model, "_loaded", cache(lambda: loaded.append(1) or load()))

    def embed(_: int) -> np.ndarray:
        together.wait(10)
        return embedder.embed(TEXTS)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(embed, range(2))

    assert np.allclose(first, second, atol=1e-5)
    assert len(loaded) == 1


@pytest.mark.parametrize("missing", ["package", "file"])
def test_without_its_file_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (package, name), other = _local_model._FILES
    wrong = ("nosuchpackage", name) if missing == "package" else (package, "gone.onnx")
    monkeypatch.setattr(_local_model, "_FILES", (wrong, other))
    monkeypatch.setattr(_local_model, "_loaded", _local_model._loaded.__wrapped__)  # as in a new process

    with pytest.raises(ModelUnavailable, match=rf"{wrong[1]} is missing. Install the package {wrong[0][:6]}"):
        LocalEmbedder().embed(["text"])


def test_importing_the_module_loads_neither_numpy_nor_the_model() -> None:
    code = (
        "import sys, lib.llm.embeddings\nprint(not {'numpy', 'onnxruntime', 'tokenizers', 'openai'} & set(sys.modules))"
    )

    told = subprocess.check_output([sys.executable, "-c", code], cwd=Path(__file__).parents[2], text=True)

    assert told.strip() == "True"


# --- what is kept ---------------------------------------------------------------------------------


def test_each_text_is_embedded_once() -> None:
    embedder = WordEmbedder()

    first = embedder.embed(["tea", "coffee", "tea"])
    second = embedder.embed(["coffee", "milk", "tea"])

    assert sorted(embedder.embedded) == ["coffee", "milk", "tea"]
    assert np.array_equal(first[0], first[2])
    assert np.array_equal(second[0], first[1]) and np.array_equal(second[2], first[0])


def test_texts_come_in_batches_of_like_length() -> None:
    embedder = WordEmbedder()
    embedder.batch = 2

    embedder.embed(["four", "a", "three", "bb"])

    assert embedder.batches == [["a", "bb"], ["four", "three"]]


def test_only_the_texts_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cached_embedder, "KEPT_VECTORS", 2)
    embedder = WordEmbedder()

    embedder.embed(["tea", "coffee"])
    embedder.embed(["tea"])  # now coffee is the oldest
    embedder.embed(["milk"])
    embedder.embed(["tea"])
    embedder.embed(["coffee"])

    assert embedder.embedded == ["tea", "coffee", "milk", "coffee"]


def test_a_call_with_more_texts_than_are_kept_gives_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cached_embedder, "KEPT_VECTORS", 2)
    embedder = WordEmbedder()

    vectors = embedder.embed([f"text {number}" for number in range(20)])

    assert len(np.unique(vectors, axis=0)) == 20


def test_what_a_caller_does_with_a_vector_does_not_change_what_is_kept() -> None:
    embedder = WordEmbedder()
    first = embedder.embed(["tea"])
    before = first.copy()

    first += 1

    assert np.array_equal(embedder.embed(["tea"]), before)


def test_many_threads_may_share_an_embedder() -> None:
    embedder = WordEmbedder()
    texts = [f"text {number % 10}" for number in range(100)]
    expected = WordEmbedder().embed(texts)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: embedder.embed(texts), range(16)))

    assert all(np.array_equal(answer, expected) for answer in answers)


def test_no_texts_make_no_vectors() -> None:
    assert WordEmbedder().embed([]).shape == (0, 64)
    assert LocalEmbedder().embed([]).shape == (0, 384)


def test_texts_may_come_one_by_one() -> None:
    assert WordEmbedder().embed(text for text in ("tea", "coffee")).shape == (2, 64)


@pytest.mark.parametrize("wrong", ["tea", None, 5, ["tea", None], [["tea"]], [b"tea"]], ids=repr)
def test_what_is_no_list_of_texts_is_refused_by_its_value(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="embed takes a list of texts, not ") as refused:
        WordEmbedder().embed(wrong)

    assert repr(wrong) in str(refused.value)


@pytest.mark.parametrize("kind", [WordEmbedder, LocalEmbedder])
def test_half_of_an_emoji_is_refused_by_the_text(kind: type[CachedEmbedder]) -> None:
    with pytest.raises(InvalidInput, match="lone surrogate"):
        kind().embed(["cut \ud83d"])


# --- an endpoint ----------------------------------------------------------------------------------


def test_the_endpoint_gives_vectors_like_the_local_model(server: EmbeddingServer) -> None:
    embedder = openai_embedder(server)

    cars, car, tea = embedder.embed(["red cars", "a red car", "tea"])

    assert embedder.name == MODEL
    assert (cars.dtype, cars.shape) == (np.float32, (64,))
    assert np.linalg.norm(cars) == pytest.approx(1, abs=1e-5)
    assert cars @ car > 0.5 > cars @ tea


def test_the_endpoint_is_asked_in_batches_and_once_for_each_text(server: EmbeddingServer) -> None:
    embedder = openai_embedder(server)
    server.requests.clear()

    embedder.embed([f"text {number}" for number in range(300)])
    embedder.embed([f"text {number}" for number in range(100, 200)])

    assert len(server.requests) == 2


def test_other_dimensions_than_were_promised_are_an_error_that_says_which(server: EmbeddingServer) -> None:
    with pytest.raises(InvalidInput, match="vectors of 64 numbers, not 1536: pass dimensions=64"):
        openai_embedder(server, dimensions=1536).embed(["tea"])


def test_an_endpoint_that_fails_is_a_model_unavailable_and_may_be_asked_again(server: EmbeddingServer) -> None:
    embedder = openai_embedder(server)
    server.fail_next = True

    with pytest.raises(ModelUnavailable, match=MODEL):
        embedder.embed(["tea"])

    assert embedder.embed(["tea"]).shape == (1, 64)


def test_without_a_key_the_endpoint_is_a_model_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(ModelUnavailable, match="OPENAI_API_KEY"):
        OpenAIEmbedder()


# --- the choice -----------------------------------------------------------------------------------


def test_the_local_model_is_taken_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no .env here or above
    monkeypatch.delenv("EMBEDDINGS", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    assert isinstance(default_embedder(), LocalEmbedder)
    assert default_embedder() is default_embedder()
    monkeypatch.setenv("EMBEDDINGS", "OpenAI")
    assert isinstance(default_embedder(), OpenAIEmbedder)


def test_each_choice_is_made_once_however_often_it_is_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    embedders = []
    for choice in ("local", "openai", "LOCAL", "", "OpenAI"):
        monkeypatch.setenv("EMBEDDINGS", choice)
        embedders.append(default_embedder())

    assert embedders[0] is embedders[2] is embedders[3]
    assert embedders[1] is embedders[4] is not embedders[0]


def test_the_default_is_asked_for_at_next_to_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDINGS", "local")
    default_embedder()
    start = time.process_time()

    for _ in range(1000):
        default_embedder()

    assert time.process_time() - start < 0.1


def test_an_unknown_choice_is_refused_by_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDINGS", "magic")

    with pytest.raises(InvalidInput, match="EMBEDDINGS must be one of local, openai, not 'magic'"):
        default_embedder()
