"""One module per subject. Every command is thin: it names stages, or calls one function, and prints what came back."""
