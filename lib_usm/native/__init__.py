"""libusm, the library for programs in C and C++ and for those that `usmctl run` starts: its sources, and what pip made.

`python -m lib_usm.native` prints the folder of usm.h, libusm.so and usm.pc.
"""
