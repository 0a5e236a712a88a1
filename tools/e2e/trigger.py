"""The neighbour's trigger: waits for a word, and writes down every second that it lives."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class Word(BaseTrigger):
    """Fires when the word is given."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Say how to make it again."""
        return "tools.e2e.trigger.Word", {"word": self.word}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every second; a word is a file, and a look at it blocks nobody."""
        words = Path(os.environ["E2E_WORDS"])
        while not (words / self.word).exists():
            with (words / "beats").open("a") as beats:
                beats.write(f"{time.time()}\n")
            await asyncio.sleep(1)
        yield TriggerEvent(self.word)
