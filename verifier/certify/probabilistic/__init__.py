"""The section ``[probabilistic]``: what is measured around samples, with intervals."""
