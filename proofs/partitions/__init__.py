"""Trees of input splits whose leaves are looked at by the kernel, and what follows from them."""
