"""A table that is filled by decorators: rules by operator name, or by primitive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from etl.errors import MewsError

Rule = TypeVar("Rule")


class Registry(Generic[Rule]):
    """Rules by key. A second rule for a key is refused; a miss raises MewsError, which names what is known."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._rules: dict[object, Rule] = {}

    def register(self, *keys: object) -> Callable[[Rule], Rule]:
        """Return a decorator that makes a rule the one for `keys`."""

        def add(rule: Rule) -> Rule:
            for key in keys:
                if key in self._rules:
                    raise ValueError(f"two rules for {self.kind} {key!r}")
                self._rules[key] = rule
            return rule

        return add

    def __getitem__(self, key: object) -> Rule:
        if key not in self._rules:
            raise MewsError(f"{self.kind} {key!r}", expected=f"one of: {', '.join(sorted(map(str, self._rules)))}")
        return self._rules[key]

    def __contains__(self, key: object) -> bool:
        return key in self._rules

    def __iter__(self) -> Iterator[object]:
        return iter(self._rules)
