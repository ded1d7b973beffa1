"""The command line: thin verbs over the library. Nothing here imports torch before a verb needs it."""
