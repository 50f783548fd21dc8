"""A small chat for the notebook, which tells under each answer which memories the model saw, and why these."""

from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets

from lib.agent.conversation import PATTERNS, Answer, Conversation
from lib.llm.chat import chat_model
from lib.store.memory_store import MemoryStore

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_BUBBLE = "margin:0.3em 0;padding:0.4em 0.7em;border-radius:0.5em;white-space:pre-wrap;color:#000;background-color:"
_USER, _ASSISTANT, _PROBLEM = "#dbeafe", "#eeeeee", "#fde2e2"


class Chat:
    """A conversation with one user's memories, and a view of it: as the last line of a cell it shows with a text box
    and a switch. `say` works without the view.

    model: None takes `chat_model()`.
    """

    def __init__(self, store: MemoryStore, user_id: str, *, model: "BaseChatModel | None" = None):
        self.conversation = Conversation(model or chat_model(), store, user_id, pattern="at the start")
        self.turns: list[tuple[str, Answer]] = []  # what the user said, and the answer
        self._talk, self._problem = widgets.HTML(), widgets.HTML()
        self._switch = widgets.ToggleButtons(options=list(PATTERNS), value="at the start")
        self._switch.tooltips = list(PATTERNS.values())
        self._box = widgets.Textarea(
            placeholder="Say something", rows=2, layout=widgets.Layout(width="100%"), description="You:"
        )
        self._button = widgets.Button(description="Send", button_style="primary")
        self._button.on_click(lambda _: self._send())
        self.view = widgets.VBox([self._switch, self._talk, self._box, self._button, self._problem])

    def say(self, text: str, *, pattern: str | None = None) -> Answer:
        """Say something and get the answer: its `text`, and the `memories` that the model saw.

        pattern: as for `Conversation.say`. Errors: as there.
        """
        answer = self.conversation.say(text, pattern=pattern)
        self.turns.append((text, answer))
        self._talk.value = self.as_html()
        self._switch.value = self.conversation.pattern
        return answer

    def as_html(self) -> str:
        """The conversation so far, with the memories behind each answer folded away."""
        return "".join(_turn_as_html(text, answer) for text, answer in self.turns)

    def _send(self) -> None:
        self._problem.value, self._button.disabled = "", True
        try:
            self.say(self._box.value, pattern=self._switch.value)
            self._box.value = ""
        except Exception as error:  # whatever it is: an error in a widget's callback is shown nowhere else
            self._problem.value = f'<div role="alert" style="{_BUBBLE}{_PROBLEM}">{escape(str(error))}</div>'
        finally:
            self._button.disabled = False

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)


def _turn_as_html(text: str, answer: Answer) -> str:
    seen = f"memories seen: {len(answer.memories)}, calls of the model: {answer.calls}"
    summary = f"{answer.pattern}: {seen}, tokens of the prompt: {answer.prompt_tokens:,}"
    inside = answer.memories._repr_html_() + answer.memories.explain()._repr_html_() if answer.memories else ""
    if answer.left_out:
        inside += f"<p>Left out, for the budget: {len(answer.left_out)}</p>{answer.left_out._repr_html_()}"
    folded = (
        f"<details><summary>{escape(summary)}</summary>{inside}</details>" if inside else f"<p>{escape(summary)}</p>"
    )
    return (
        f'<div style="{_BUBBLE}{_USER}"><b>You:</b> {escape(text)}</div>'
        f'<div style="{_BUBBLE}{_ASSISTANT}"><b>Assistant:</b> {escape(answer.text)}</div>{folded}'
    )
