"""Stop strings: text goes out as soon as it cannot become one, and not before."""

from collections.abc import Sequence


class Stops:
    """Watches one answer's text for stop strings, however it is cut into pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._matchers = [Matcher(stop) for stop in stops]
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that may go out, and whether a stop string is complete: it and what follows it never go out."""
        if not self._matchers:
            return text, False
        whole, before = self._held + text, len(self._held)
        for at, character in enumerate(text, before + 1):
            if found := max(matcher.push(character) for matcher in self._matchers):
                return whole[: at - found], True
        free = len(whole) - max(matcher.matched for matcher in self._matchers)
        self._held = whole[free:]
        return whole[:free], False

    def flush(self) -> str:
        """What was held back and became no stop string."""
        held, self._held = self._held, ""
        return held


class Matcher:
    """Finds one string in a text that comes character by character, at a constant cost each (Knuth-Morris-Pratt).

    Attributes:
        matched: how many characters of the string the text ends in.

    """

    def __init__(self, stop: str) -> None:
        self._stop, self.matched = stop, 0
        self._borders = [0]  # of each beginning of the string: the longest shorter beginning that it ends in
        for character in stop[1:]:
            self._borders.append(self._next(self._borders[-1], character))

    def push(self, character: str) -> int:
        """The string's length when the character completes it, else 0."""
        self.matched = self._next(self.matched, character)
        return len(self._stop) if self.matched == len(self._stop) else 0

    def _next(self, matched: int, character: str) -> int:
        while matched and self._stop[matched] != character:
            matched = self._borders[matched - 1]
        return matched + (self._stop[matched] == character)
