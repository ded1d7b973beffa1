"""Features to tokens: which places deserve work, and context between them."""
