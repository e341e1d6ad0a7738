"""What lib_usm and usmd must agree on, and all that they have in common; it knows neither of them.

`pb` is generated from proto/. The other modules say what the proto files cannot: where sockets are, names of metadata,
the layout of a residency map, and the kernel's userfaultfd.
"""
