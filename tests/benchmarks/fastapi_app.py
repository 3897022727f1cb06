# mypy: ignore-errors
"""Sentence embeddings as they are commonly served: sentence-transformers behind FastAPI, run by uvicorn.

Its packages are in the benchmark's own environment only, so mypy knows none of them.
"""

import os
from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class EmbeddingRequest(BaseModel):
    """Texts to turn into vectors."""

    input: str | list[str]
    model: str = ""


class Embedding(BaseModel):
    """One vector."""

    index: int
    embedding: list[float]
    object: Literal["embedding"] = "embedding"


class EmbeddingResponse(BaseModel):
    """The vectors, in the inputs' order."""

    data: list[Embedding]
    object: Literal["list"] = "list"


app = FastAPI()
model = SentenceTransformer(os.environ["MODEL"], device="cpu")


@app.get("/health")
def health() -> str:
    """Whether it answers."""
    return "ok"


# Not `async`, as FastAPI advises for work that blocks: each request runs on a thread of its pool.
@app.post("/v1/embeddings")
def embeddings(request: EmbeddingRequest) -> EmbeddingResponse:
    """Vectors of texts."""
    texts = [request.input] if isinstance(request.input, str) else request.input
    vectors = model.encode(texts)
    return EmbeddingResponse(
        data=[Embedding(index=index, embedding=vector.tolist()) for index, vector in enumerate(vectors)]
    )
