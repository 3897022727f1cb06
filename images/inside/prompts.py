"""What an answer goes on from: texts and messages as token ids, by the tokenizer file and the model's own template."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from images.inside.errors import InputError
from images.inside.generation.chat import ChatTemplate
from images.inside.generation.detokenize import Detokenizer
from images.inside.records import GenerationFacts
from images.inside.text import read_backend

if TYPE_CHECKING:
    import tokenizers


class Prompts:
    """Makes prompts. All methods may be called from several threads.

    Args:
        backend: the tokenizer.
        facts: what the manifest says of the model.

    Attributes:
        detokenizer: the way back.

    """

    def __init__(self, backend: "tokenizers.Tokenizer", facts: GenerationFacts) -> None:
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self._first = [] if facts.bos is None else [facts.bos]
        self._template = ChatTemplate(facts.chat_template, facts.names) if facts.chat_template else None
        self.detokenizer = Detokenizer(backend, facts.special)

    @classmethod
    def load(cls, artifact: Path, facts: GenerationFacts) -> Self:
        """Read the artifact's tokenizer file. Raises `ArtifactError` when it or the template is damaged."""
        return cls(read_backend(artifact), facts)

    def of_text(self, text: str) -> list[int]:
        """The tokens of a plain text, with what the original's tokenizer puts before it."""
        return [*self._first, *self._encode(text)]

    def of_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The tokens of a conversation that the model is to go on with. Raises `InputError`, also without a template.

        Args:
            messages: as OpenAI's chat API has them.
            tools: functions that the model may call.
            variables: what else the template knows.

        """
        if self._template is None:
            raise InputError("this model has no chat template: send plain text to /v1/completions - at `$.messages`")
        return self._encode(self._template.render(messages, tools=tools, variables=variables))

    def _encode(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        except TypeError as error:  # what the library says of a lone surrogate
            raise InputError("the text is not valid Unicode") from error
        return ids
