"""How good a model's answers are: metrics, likeness to the float model, collapse."""
