"""usmd: a daemon that owns physical memory, swap devices and policies, in user space."""

from usmd.compiled import BUILD as BUILD
