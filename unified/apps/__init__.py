"""Applications: the assistant and its verbs, chat, rollouts, the command line, the demo. May import
everything."""
