"""The agent's side: tools to remember and recall, memories in the prompt, a conversation.

Read in this order: `tools` (remember, recall), `agents` (an agent that has them), `prompt_quoting` (memories
are data, not instructions), `system_prompt` (at the start, within a budget; unasked), `conversation` (all patterns).
"""

from lib.agent._budget import approximate_tokens
from lib.agent.agents import memory_agent
from lib.agent.conversation import Conversation
from lib.agent.system_prompt import adapt, build_system_prompt, proactive_memories
from lib.agent.tools import memory_tools, recall_on_demand

__all__ = [
    "Conversation",
    "adapt",
    "approximate_tokens",
    "build_system_prompt",
    "memory_agent",
    "memory_tools",
    "proactive_memories",
    "recall_on_demand",
]
