"""The gate's inputs: the fixed texts that the tasks make their suites of, and the user's own suite file.

The long text is the beginning of Lewis Carroll's "Alice's Adventures in Wonderland" (1865), in the public domain.
"""

from typing import Any, NamedTuple, Protocol

import msgspec

from images.inside.errors import InputError
from images.inside.records import Struct

MASK = "[mask]"
"""Stands in the texts of `MASKED` for a tokenizer's own mask token."""

LONG = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or "
    "twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it, 'and "
    "what is the use of a book,' thought Alice 'without pictures or conversations?' So she was considering in her own "
    "mind (as well as she could, for the hot day made her feel very sleepy and stupid), whether the pleasure of making "
    "a daisy-chain would be worth the trouble of getting up and picking the daisies, when suddenly a White Rabbit with "
    "pink eyes ran close by her. There was nothing so very remarkable in that; nor did Alice think it so very much out "
    "of the way to hear the Rabbit say to itself, 'Oh dear! Oh dear! I shall be late!' (when she thought it over "
    "afterwards, it occurred to her that she ought to have wondered at this, but at the time it all seemed quite "
    "natural); but when the Rabbit actually took a watch out of its waistcoat-pocket, and looked at it, and then "
    "hurried on, Alice started to her feet, for it flashed across her mind that she had never before seen a rabbit "
    "with either a waistcoat-pocket, or a watch to take out of it, and burning with curiosity, she ran across the "
    "field after it, and fortunately was just in time to see it pop down a large rabbit-hole under the hedge. In "
    "another moment down went Alice after it, never once considering how in the world she was to get out again. The "
    "rabbit-hole went straight on like a tunnel for some way, and then dipped suddenly down, so suddenly that Alice "
    "had not a moment to think about stopping herself before she found herself falling down a very deep well. Either "
    "the well was very deep, or she fell very slowly, for she had plenty of time as she went down to look about her "
    "and to wonder what was going to happen next. First, she tried to look down and make out what she was coming to, "
    "but it was too dark to see anything; then she looked at the sides of the well, and noticed that they were filled "
    "with cupboards and book-shelves; here and there she saw maps and pictures hung upon pegs. She took down a jar "
    "from one of the shelves as she passed; it was labelled 'ORANGE MARMALADE', but to her great disappointment it was "
    "empty: she did not like to drop the jar for fear of killing somebody, so managed to put it into one of the "
    "cupboards as she fell past it. 'Well!' thought Alice to herself, 'after such a fall as this, I shall think "
    "nothing of tumbling down stairs! How brave they'll all think me at home! Why, I wouldn't say anything about it, "
    "even if I fell off the top of the house!' (Which was very likely true.) Down, down, down. Would the fall never "
    "come to an end! 'I wonder how many miles I've fallen by this time?' she said aloud. 'I must be getting somewhere "
    "near the centre of the earth. Let me see: that would be four thousand miles down, I think--' (for, you see, Alice "
    "had learnt several things of this sort in her lessons in the schoolroom, and though this was not a very good "
    "opportunity for showing off her knowledge, as there was no one to listen to her, still it was good practice to "
    "say it over)."
)

_MEDIUM = (
    "The harbour of Trieste was closed on Tuesday after a storm tore two barges from their moorings. Captain Elena "
    "Marchetti of the coast guard said that nobody was hurt, and that the ferries to Muggia would run again by Friday."
)

FILLED_TEXTS: dict[str, str | list[str]] = {
    "short": "Berlin is the capital of Germany.",
    "long": LONG,
    "unicode": "Zoë naïvely paid 20 € in Kraków; 東京は日本の首都です。 北京很大 🙂👩‍🚀 مرحبا بالعالم שלום עולם",
    "padding": ["Yes.", _MEDIUM],
    "batch": ["It rains.", "Anna Smith works for Siemens in Munich.", _MEDIUM, "Why not? Because it was too late."],
    "names": "Ada Lovelace wrote to Charles Babbage from Ockham Park, Surrey, in the summer of 1843.",
    "symbols": "  3.14159 -- (1,000.50 EUR/m²) = 50%?!\t#42 @home:\n\n \u00a0 e-mail: a.b+c@example.org ...  ",
    "mixed": "iPhone 15 Pro vs. Galaxy S24: l'été à Montréal, Straße 7, x==1.0 && echo \"done\"; we won't, they can't.",
}
"""Texts of every kind, by name; none is empty."""

TEXTS: dict[str, str | list[str]] = {
    **{name: texts for name, texts in FILLED_TEXTS.items() if name != "names"},
    "empty": "",
}
"""Texts for the tasks that take an empty one."""

MASKED: dict[str, str | list[str]] = {
    "short": f"Paris is the {MASK} of France.",
    "long": f"A girl sat on the {MASK} of a river. {LONG}",
    "unicode": f"Zoë paid 20 € for the {MASK} in Kraków; 東京は日本の首都です。 🙂 مرحبا שלום",
    "padding": [f"{MASK}.", f"It was the worst {MASK} for years. {_MEDIUM}"],
    "batch": [f"It {MASK}.", f"Anna works for a {MASK} in Munich.", f"The {MASK} was cold. {_MEDIUM}", f"Why {MASK}?"],
    "several": f"The {MASK} barked at the {MASK} all night.",
    "symbols": f"  3.14159 -- (1,000.50 {MASK}/m²) = 50%?!\t#42\n\n ...  ",
    "mixed": f"iPhone 15 Pro vs. {MASK} S24: l'été à Montréal, Straße 7; we won't, they can't, it 's \"done\".",
}
"""Texts with masks, by name."""

QUESTIONS: dict[str, dict[str, str] | list[dict[str, str]]] = {
    "short": {"question": "What is the capital of Germany?", "context": "Berlin is the capital of Germany."},
    "long": {"question": "What did the Rabbit take out of its waistcoat-pocket?", "context": LONG},
    "unicode": {
        "question": "Où Zoë habite-t-elle ? 東京?",
        "context": "Zoë habite à Kraków. 東京は日本の首都です。 北京很大 🙂👩‍🚀 مرحبا بالعالم שלום עולם",
    },
    "padding": [
        {"question": "Who?", "context": "Anna."},
        {"question": "When will the ferries run again?", "context": _MEDIUM},
    ],
    "batch": [
        {"question": "Where does Anna work?", "context": "Anna Smith works for Siemens in Munich."},
        {"question": "Who spoke for the coast guard?", "context": _MEDIUM},
        {"question": "What was the jar labelled?", "context": LONG},
    ],
    "unanswerable": {"question": "How many moons has Jupiter?", "context": _MEDIUM},
    "symbols": {
        "question": "How much is it per m²?",
        "context": "  3.14 -- (1,000.50 EUR/m²) = 50%?!\t#42 :\n\n \u00a0 ...  ",
    },
    "mixed": {
        "question": "Which phone costs 999.99?",
        "context": "iPhone 15 Pro (999.99) vs. Galaxy S24 (899.00): l'été à Montréal, Straße 7; won't, can't.",
    },
}
"""Questions with their contexts, by name."""


class Input(NamedTuple):
    """One input of a suite: its name, unique in the suite, and the JSON body that `/predict` takes."""

    name: str
    payload: dict[str, Any]


class Payloads(Protocol):
    """What takes payloads: a task."""

    payload_type: type[Struct]


def read(content: bytes, task: Payloads) -> list[Input]:
    """The user's own inputs, from a file with one JSON payload a line. Empty lines are skipped.

    Returns:
        The inputs in order, named `line-` and the line's number.

    Raises:
        InputError: with the line's number, when a line is no payload of the task, or when there is none.

    """
    lines = enumerate(content.split(b"\n"), start=1)
    inputs = [Input(f"line-{number}", _payload(line, number, task)) for number, line in lines if line.strip()]
    if not inputs:
        raise InputError("the file is empty; one JSON payload a line is expected")
    return inputs


def _payload(line: bytes, number: int, task: Payloads) -> dict[str, Any]:
    try:
        payload = msgspec.json.decode(line)
        msgspec.convert(payload, task.payload_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"line {number}: {error}") from error
    return dict(payload)
