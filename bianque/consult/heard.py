"""What is known of a round, as the knowledge base hears it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bianque.data.knowledge import Complaint


@dataclass(slots=True)
class Heard:
    """What is known of a round. `told` has None where an answer was given in words of its own.

    `x` names the complaint in the visitor's words, for the entry of complaints that have none of their own.
    """

    entry: Complaint | None = None
    x: str = ""
    asked: set[str] = field(default_factory=set)
    told: dict[str, str | None] = field(default_factory=dict)
    guessed: set[str] = field(default_factory=set)  # of them what was not said in known words and can be denied
    retracts: bool = False  # the newest message takes back what was heard: 我没跑步啊
    begun: bool = False  # the doctor has spoken
    advised: bool = False

    @property
    def known(self) -> dict[str, str]:
        return {key: value for key, value in self.told.items() if value is not None}

    @property
    def open(self) -> list[str]:
        """What could still be asked, in the entry's order."""
        known = self.asked | self.told.keys()
        return [slot.key for slot in self.entry.slots if slot.key not in known] if self.entry else []
