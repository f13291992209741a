"""A `Progress` for tests."""


class RecordedProgress:
    """Keeps the messages and steps that it receives."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def step(self, task: str, done: int, total: int) -> None:
        self.steps.append((task, done, total))

    def message(self, text: str) -> None:
        self.messages.append(text)
