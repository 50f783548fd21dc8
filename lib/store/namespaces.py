"""The standard namespaces: where which kind of memory goes. Others are allowed; these have a meaning for all of lib."""

PREFERENCES = "preferences"  # how the user wants to be treated: style, format, language
FACTS = "facts"  # what is true about the user and their world
GOALS = "goals"  # what they want to reach, and until when
STRUGGLES = "struggles"  # what they find hard
EPISODES = "episodes"  # what happened, when, and how it ended
SESSIONS = "sessions"  # summaries of conversations
PROCEDURES = "procedures"  # rules of behaviour for the agent

SEMANTIC, EPISODIC, PROCEDURAL = "semantic", "episodic", "procedural"

# The type of memory that each of them holds.
TYPES = {
    PREFERENCES: SEMANTIC,
    FACTS: SEMANTIC,
    GOALS: SEMANTIC,
    STRUGGLES: SEMANTIC,
    EPISODES: EPISODIC,
    SESSIONS: EPISODIC,
    PROCEDURES: PROCEDURAL,
}

# What a model is told about them.
MEANINGS = {
    PREFERENCES: "how the user wants to be treated: style, format, language",
    FACTS: "what is true about the user and their world",
    GOALS: "what they want to reach, and until when",
    STRUGGLES: "what they find hard",
    EPISODES: "what happened, when, and how it ended",
    PROCEDURES: "rules of behaviour that the user set for the assistant",
}
