"""Tokens to queries: how many (budget), where (selection) and what (content) the decoder is asked."""
