"""A remote swap file: swap in the memory of other machines, on Redis or Valkey."""
