"""What lib_usm and usmd must agree on. It imports neither of them.

`pb` is generated from proto/. The other modules define what the proto files cannot: where sockets are, names of
metadata, the layout of a residency map, and how a userfaultfd is opened.
"""
