"""`/v1/chat/completions`: a conversation goes on."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from images.inside.errors import InputError
from images.inside.generating import Generating, Wanted
from images.inside.generation.answer import Piece
from images.inside.openai.chat_objects import (
    AnswerMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChatRequest,
    FunctionSpec,
)
from images.inside.openai.chunks import ChoiceWriter, answered
from images.inside.openai.common import STRICT, Unsupported, check_model, head, read, refusal
from images.inside.openai.sampled import (
    ERRORS,
    PENALTIES,
    SAMPLING,
    UNSUPPORTED,
    Spelling,
    Whole,
    finish_reason,
    sampling,
)
from images.inside.prompts import Prompts
from images.inside.service import Service
from images.inside.web import Route

REFUSED = {
    **UNSUPPORTED,
    "audio": Unsupported("this model writes text"),
    "function_call": Unsupported("deprecated: use tools, with tool_choice auto or none", ("auto", "none")),
    "functions": Unsupported("deprecated: use tools"),
    "modalities": Unsupported("this model writes text", (["text"],)),
    "prediction": Unsupported("predicted outputs are not used here"),
    "reasoning_effort": Unsupported("there is no such dial here; chat_template_kwargs reaches the model's template"),
    "verbosity": Unsupported("there is no such dial here"),
    "web_search_options": Unsupported("there is no web search here"),
}
FORCED = "a model's calls are not read out of its text, so none can be forced: auto and none are taken"
STRICT_TOOLS = "arguments cannot be held to a schema here: leave it out"


class Chat:
    """The route and its handler."""

    def __init__(self, service: Service, model: Generating) -> None:
        self._service, self._model = service, model

    def routes(self) -> list[Route]:
        """What is served, if only to say that the model has no template."""
        words = [{"role": "user", "content": "Why is the sky blue?"}]
        return [
            Route(
                method="POST",
                path="/v1/chat/completions",
                handle=self.chat,
                api=STRICT,
                summary="Go on with a conversation",
                request=ChatRequest,
                response=ChatCompletion,
                event=ChatChunk,
                example={"model": self._service.manifest.model.id, "messages": words, "max_completion_tokens": 64},
                errors=ERRORS,
            )
        ]

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = await self._service.body(request)
        asked = read(body, ChatRequest, REFUSED, "messages")
        check_model(self._service, asked.model)
        _check(asked)
        prompt = await self._model.prompts(len(body), lambda prompts: _prompt(asked, prompts))
        answers = self._model.submit([prompt], _wanted(asked))
        writer = ChoiceWriter(
            ChatChoices(asked.n, Spelling(self._model.detokenizer) if asked.logprobs else None),
            head("chatcmpl-", self._service.manifest),
            body=ChatCompletion,
            chunk=ChatChunk,
            include_usage=asked.include_usage,
        )
        return await answered(self._model, request, answers, writer, stream=asked.stream)


class ChatChoices:
    """Answers as chat writes them; satisfies `images.inside.openai.chunks.Choices`."""

    def __init__(self, answers: int, spelling: Spelling | None) -> None:
        self._answers, self._spelling = answers, spelling

    def begin(self) -> Iterator[ChatChunkChoice]:
        """The role of each answer."""
        return (ChatChunkChoice(index, ChatDelta("assistant", "", None)) for index in range(self._answers))

    def piece(self, index: int, piece: Piece) -> Iterator[ChatChunkChoice]:
        """The text that a piece adds, and behind it, by itself, why the answer ended."""
        if piece.text or piece.tokens:
            yield ChatChunkChoice(index, ChatDelta(content=piece.text), self._logprobs(piece.tokens))
        if piece.finish:
            yield ChatChunkChoice(index, ChatDelta(), None, finish_reason(piece.finish))

    def whole(self, found: Sequence[Whole]) -> list[ChatChoice]:
        """Answers that have ended."""
        return [
            ChatChoice(index, AnswerMessage(one.text), self._logprobs(one.tokens), one.finish)
            for index, one in enumerate(found)
        ]

    def _logprobs(self, tokens: Sequence[Any]) -> ChatLogprobs | None:
        return ChatLogprobs(self._spelling.logprobs(tokens)) if self._spelling else None


def check_tools(tools: Sequence[FunctionSpec], choice: Any, *, parallel: bool) -> None:
    """Raise a 400 `ApiError` for what would need calls to be understood."""
    if choice not in ("auto", "none"):
        raise refusal("tool_choice", FORCED)
    if any(tool.strict for tool in tools):
        raise refusal("tools.strict", STRICT_TOOLS)
    if not parallel:
        raise refusal("parallel_tool_calls", "a model's calls are not read out of its text, so not counted either")


def check_format(kind: str, param: str) -> None:
    """Raise a 400 `ApiError` for a form that an answer cannot be held to."""
    if kind not in {"text", "json_object"}:
        raise refusal(param, f"an answer cannot be held to {kind!r} here; text and json_object are taken")


def _check(asked: ChatRequest) -> None:
    asked.check_stream()
    check_tools([tool.function for tool in asked.tools], asked.tool_choice, parallel=asked.parallel_tool_calls)
    check_format(asked.response_format.type, "response_format")
    if asked.top_logprobs and not asked.logprobs:
        raise refusal("top_logprobs", "they come with logprobs only: set it, too", "invalid_input")
    if asked.max_tokens and asked.max_completion_tokens:
        raise refusal("max_tokens", "it is the older name of max_completion_tokens: set one", "invalid_input")


def _wanted(asked: ChatRequest) -> Wanted:
    return Wanted(
        param="messages",
        n=asked.n,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        stop=asked.stops,
        sampling=sampling(asked, (*SAMPLING, *PENALTIES, "logprobs", "top_logprobs")),
        ignore_eos=asked.ignore_eos,
        json_object=asked.response_format.type == "json_object",
    )


def _prompt(asked: ChatRequest, prompts: Prompts) -> list[int]:
    messages = [shown(message, f"messages[{at}]") for at, message in enumerate(asked.messages)]
    tools = msgspec.to_builtins(asked.tools) if asked.tool_choice == "auto" else []
    return prompts.of_messages(messages, tools=tools, variables=asked.chat_template_kwargs)


def shown(message: ChatMessage, path: str) -> dict[str, Any]:
    """A message as templates know it. Raises `InputError` when it says nothing."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    fields["role"] = "system" if message.role == "developer" else message.role
    content = fields.get("content") or fields.pop("refusal", None)
    if content is None and not message.tool_calls and message.content is None:
        raise InputError(f"expected a text - at `$.{path}.content`")
    return fields | ({} if content is None else {"content": content})
