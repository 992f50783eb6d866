"""Hardware faults: formats of stored words, fault models, and what each parameter can become."""
