/* The connection of the session, for the files that speak to usmd. */

#ifndef USM_CONNECTION_H
#define USM_CONNECTION_H

#include "session.h"
#include "wire.h"

#define USM_ALIGNMENT ((size_t)2 << 20) /* of the region, and of mappings of that size, for huge pages */

/* Notes why something failed; returns false. */
__attribute__((format(printf, 2, 3))) bool usm_fail(int error, const char *format, ...);
/* Connects to usmd, and makes a userfaultfd. */
bool usm_connect_to(const char *address);
bool usm_open_userfaultfd(void);
/* Sends a request, with a descriptor unless `send` is -1, and takes its answer and the `wanted` descriptors that come
   with it. False if it was refused (`reply->reason`), or if usmd is gone, which it notes and says. */
bool usm_ask(const struct usm_message *message, int send, struct usm_reply *reply, int *descriptors, size_t wanted);
/* As usm_ask to begin the session, with the userfaultfd; a socket that comes with the answer is in `usm.touches`. */
bool usm_ask_to_begin(const struct usm_message *message, struct usm_reply *reply);
/* Starts the thread that notices the end of usmd, if this machine has it; with the lock, when the session is ready. */
void usm_watch(void);
void usm_close_all(int *descriptors, size_t count);
int usm_errno_of(uint64_t reason);

#endif
