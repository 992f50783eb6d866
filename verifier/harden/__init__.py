"""Range restrictions behind the activations of a model, and proofs that they change nothing."""
