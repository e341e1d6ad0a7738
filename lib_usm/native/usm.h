/* libusm: memory of usmd for programs in C and C++. docs/native.md describes each call.

   Functions that return int return 0, or -1 with errno set; usm_error() then says in words what was wrong. All may be
   called by any thread, and none from a signal handler. */

#ifndef USM_H
#define USM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Begins the session of this process. The other calls do it themselves, with NULL for both arguments.
   `address`: unix:PATH or a path; NULL: $USM_ADDRESS, else the daemon in the user's runtime folder.
   `name`: of the session, 1 to 64 printable characters; NULL: $USM_NAME, else the name of the program. */
int usm_connect(const char *address, const char *name);

/* `length` bytes of zeros, at a multiple of the page size, whose pages usmd brings in when they are touched, and takes
   back when other pages need the memory. NULL with errno set if there are none. */
void *usm_mmap(size_t length);

/* Gives back `length` bytes from `pointer` on, a multiple of the page size: all that usm_mmap returned, or a part. */
int usm_munmap(void *pointer, size_t length);

/* Says something about `length` bytes from `pointer` on, in the words of docs/hints.md: "PRIORITY=HIGH; EVICTION=DENY".
   `length` 0: all of the mapping that `pointer` is in. An empty text removes what was said. */
int usm_hint(const void *pointer, size_t length, const char *text);

/* Brings pages in; `length` as for usm_hint. It returns when each of them was in memory, or with ENOMEM or EIO if one
   cannot be brought in, where a touch of it would be SIGBUS. */
int usm_ensure(const void *pointer, size_t length);

/* Asks for the eviction of pages, and does not wait for it; `length` as for usm_hint. No byte is lost. */
int usm_evict(const void *pointer, size_t length);

/* Why the last call of this thread failed; empty if none did. Valid until its next call. */
const char *usm_error(void);

#ifdef __cplusplus
}
#endif

#endif
