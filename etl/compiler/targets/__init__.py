"""What the primitives become: one module per target, each with RULES and compile(graph)."""
