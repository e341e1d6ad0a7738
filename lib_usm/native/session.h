/* The one session of this process, its one region, and the mappings in it. All functions but those of the lock want
   the lock, and leave errno undefined. Nothing here calls malloc, or any function that may; memory is mapped by system
   calls, so nothing here is interposed. Large buffers are static, because a stack may be small. */

#ifndef USM_SESSION_H
#define USM_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "space.h"

#define USM_ERROR_TEXT 1280

enum usm_state {
    USM_UNTRIED, /* no session was begun */
    USM_READY,
    USM_FAILED, /* no session could be begun */
    USM_GONE,   /* usmd is gone or has ended the session: what is resident stays usable */
};

struct usm_session {
    enum usm_state state;
    pid_t owner; /* the process that began it: forked children have a copy of this, and vforked ones share it */
    int connection, userfaultfd, stream, touches; /* -1: not open; touches: see taking_out.h */
    uint64_t process_id, region_id;
    size_t page_size; /* of usmd */
    char *base;
    size_t length;
    const volatile unsigned char *residency; /* one byte a page of usmd */
    struct usm_space space;
    int error;                 /* errno of the last failure */
    char words[USM_ERROR_TEXT]; /* the last failure in words */
};

extern struct usm_session usm;

struct usm_mask {
    uint64_t bits[16];
};

/* Blocks all signals of this thread and takes the lock, so that no handler finds its own thread in here. */
void usm_lock_of(int *lock, struct usm_mask *saved);
void usm_unlock_of(int *lock, const struct usm_mask *saved);
extern int usm_session_lock;
static inline void usm_lock(struct usm_mask *saved) {
    usm_lock_of(&usm_session_lock, saved);
}
static inline void usm_unlock(const struct usm_mask *saved) {
    usm_unlock_of(&usm_session_lock, saved);
}

/* Writes one line to stderr. */
void usm_say(const char *text);

/* Whether this is the process that began the session: not a child of it by fork or vfork. */
bool usm_is_owner(void);

/* In a child by fork: another thread of the parent may have been beginning the session, with the lock. */
void usm_in_child(void);

/* Begins the session, and maps and registers the region, if that was not tried before; returns whether it is ready.
   What is NULL or 0 comes from the environment. */
bool usm_begin(const char *address, const char *name);

size_t usm_hardware_page(void);
static inline bool usm_inside(const void *address, size_t length) {
    uintptr_t start = (uintptr_t)address, base = (uintptr_t)usm.base;
    return usm.base != NULL && start >= base && start - base < usm.length && length <= usm.length - (start - base);
}
static inline bool usm_overlaps(const void *address, size_t length) {
    uintptr_t start = (uintptr_t)address, base = (uintptr_t)usm.base;
    return usm.base != NULL && start < base + usm.length && length > 0 && (start >= base || base - start < length);
}

/* A new mapping of zeros, at `hint` if that is free; NULL if there is no room, or no session. */
void *usm_take(size_t length, const void *hint);
/* Gives back what is used within a range of whole pages. Those that usmd cannot take back are not used again. */
void usm_give_back(char *address, size_t length);
/* Makes the used bytes of a range zeros; false if usmd cannot. */
bool usm_clear(char *address, size_t length);
/* Something else was mapped over a range. */
void usm_give_up(char *address, size_t length);

/* New zeros at addresses in the region that may be in use (MAP_FIXED); false if that cannot be. */
bool usm_renew(char *address, size_t length, int protection);
/* Makes a mapping longer if what is behind it is free. */
bool usm_grow(char *address, size_t before, size_t after);
/* The rights of a range were changed, which ends with the mapping. */
void usm_note_protection(char *address, size_t length, int protection);

/* `unheeded`: room for the keys that no policy acts on; NULL: they are not wanted. */
bool usm_ask_hint(size_t offset, size_t length, const char *text, char *unheeded, size_t room);

/* Opens the stream of faults, with the lock; false if there is none. */
bool usm_open_stream(void);
/* Brings pages of usmd in, without the lock. Returns 0, or an errno and the reason in `words`. */
int usm_ensure_pages(size_t page, size_t pages, char *words, size_t room);

#endif
