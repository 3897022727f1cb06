"""Messages to a prompt, by the model's own Jinja template: what transformers' `apply_chat_template` gives.

The template comes with the model, so it runs in Jinja's sandbox.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from images.inside.errors import ArtifactError, InputError

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes
    from jinja2.parser import Parser

Message = Mapping[str, Any]
OURS = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
"""Variables of every template that a request cannot set by name."""
_HERE = "\ue000the message goes on here\ue000"
"""Put behind a message that the answer continues, to find its end in the prompt."""


class ChatTemplate:
    """A model's chat template. Raises `ArtifactError` when it is no template.

    Args:
        source: the template's text.
        specials: the tokenizer's special tokens by name, such as `bos_token`: templates write them out.

    """

    def __init__(self, source: str, specials: Mapping[str, str]) -> None:
        import jinja2

        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ArtifactError(f"the chat template cannot be read: {error}") from error
        self._specials = dict(specials)
        self._words = {*re.findall(r"\w+", source), *self._template.environment.globals}

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text, special tokens included: encode it without adding any.

        Args:
            messages: as OpenAI's API has them; contents in parts are joined, if all are text.
            tools: functions that the model may call, as JSON schemas.
            add_generation_prompt: end with what comes before an answer.
            continue_final_message: the answer goes on from the last message instead.
            variables: what else the template knows, such as `enable_thinking`.

        Raises:
            InputError: the template refuses the messages, fails on them, or would not show the model what is given.

        """
        self._check(messages, tools or (), variables or {})
        shown = [_shown(message, at) for at, message in enumerate(messages)]
        if not shown:
            raise InputError("expected at least one message - at `$.messages`")
        if continue_final_message:
            return self._continued(shown, tools, variables or {})
        return self._rendered(shown, tools, variables or {}, add_generation_prompt=add_generation_prompt)

    def _check(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> None:
        """Raise `InputError` for what the template never speaks of: the model would answer as if it were not there."""
        if tools and "tools" not in self._words:
            raise InputError("this model's chat template does not show it tools: leave them out - at `$.tools`")
        for at, message in enumerate(messages):
            if message.get("tool_calls") and "tool_calls" not in self._words:
                why = "this model's chat template does not show it calls of tools"
                raise InputError(f"{why} - at `$.messages[{at}].tool_calls`")
        if strange := [name for name in variables if name in OURS or name not in self._words]:
            why = "is not the request's to set" if strange[0] in OURS else "is nothing that this model's template knows"
            raise InputError(f"{why} - at `$.chat_template_kwargs.{strange[0]}`")

    def _rendered(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
        *,
        add_generation_prompt: bool,
    ) -> str:
        known = {**self._specials, **variables, "documents": None, "add_generation_prompt": add_generation_prompt}
        try:
            return self._template.render(**known, messages=messages, tools=list(tools) if tools else None)
        except RecursionError as error:
            raise InputError("the messages are nested too deeply - at `$.messages`") from error
        except Exception as error:  # a template's error may be any: it adds, indexes and calls what it is given
            raise InputError(f"the model's chat template does not take them: {error} - at `$.messages`") from error

    def _continued(
        self, messages: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]] | None, variables: Mapping[str, Any]
    ) -> str:
        last = messages[-1].get("content")
        if not isinstance(last, str):
            raise InputError("the last message has no text to continue - at `$.messages`")
        messages[-1]["content"] = last + _HERE + " "
        rendered = self._rendered(messages, tools, variables, add_generation_prompt=False)
        text, found, rest = rendered.rpartition(_HERE)
        if not found:
            raise InputError("the model's chat template leaves out the message to continue - at `$.messages`")
        return text if rest.startswith(" ") else text.rstrip()  # a template that trims would have trimmed the text


def _shown(message: Message, at: int) -> dict[str, Any]:
    """A message as templates know it: its content one text, the arguments of its tool calls objects."""
    shown = copy.deepcopy(dict(message))
    if isinstance(shown.get("content"), list):
        shown["content"] = "\n".join(_text(part, at) for part in shown["content"])
    for call in shown.get("tool_calls") or ():
        function = call.get("function", {})
        function["arguments"] = _arguments(function.get("arguments"))
    return shown


def _text(part: Any, at: int) -> str:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise InputError(f"this model reads text only, not {kind} - at `$.messages[{at}].content`")


def _arguments(given: Any) -> Any:
    """Templates write arguments out as JSON; OpenAI's API has them as JSON text already."""
    try:
        return json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return given


def _environment() -> "jinja2.Environment":
    import jinja2.ext
    import jinja2.nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}`: marks what a model is trained on; its content stands as it is."""

        tags = {"generation"}

        def parse(self, parser: "Parser") -> "nodes.Node":
            line = next(parser.stream).lineno
            return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    extensions = [Generation, jinja2.ext.loopcontrols]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
