"""The question: models, properties and how they are read.  See ``query.Query``."""
