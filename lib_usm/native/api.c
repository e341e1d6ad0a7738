/* The calls of usm.h. */

#define _GNU_SOURCE
#include "usm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "session.h"
#include "wire.h"

#define EXPORTED __attribute__((visibility("default")))

static __thread char words[USM_ERROR_TEXT];

static int failed(int error, const char *why) {
    snprintf(words, sizeof words, "%s", why);
    errno = error;
    return -1;
}

/* Takes the lock and has a session, else fails and holds no lock. */
static int enter(struct usm_mask *saved, const char *address, const char *name) {
    if (usm.state != USM_UNTRIED && !usm_is_owner()) {
        return failed(ECHILD, "the session is that of the parent process; memory of usmd is not inherited");
    }
    usm_lock(saved);
    if (usm.state == USM_FAILED) {
        usm.state = USM_UNTRIED; /* usmd may be there by now */
    }
    if (usm_begin(address, name)) {
        *words = 0;
        return 0;
    }
    failed(usm.state == USM_GONE ? ECONNRESET : usm.error, usm.words);
    int error = errno;
    usm_unlock(saved);
    errno = error;
    return -1;
}

static int leave(const struct usm_mask *saved, bool good) {
    int result = good ? 0 : failed(usm.error, usm.words), error = errno;
    usm_unlock(saved);
    if (!good) {
        errno = error;
    }
    return result;
}

EXPORTED int usm_connect(const char *address, const char *name) {
    struct usm_mask saved;
    if (enter(&saved, address, name) != 0) {
        return -1;
    }
    return leave(&saved, true);
}

EXPORTED void *usm_mmap(size_t length) {
    struct usm_mask saved;
    if (enter(&saved, NULL, NULL) != 0) {
        return NULL;
    }
    void *taken = length == 0 ? NULL : usm_take(length, NULL);
    if (taken == NULL) {
        usm.error = length == 0 ? EINVAL : ENOMEM;
        snprintf(usm.words, sizeof usm.words, "a mapping of %zu bytes; the region has %zu, of which others are in use",
                 length, usm.length);
    }
    return leave(&saved, taken != NULL) == 0 ? taken : NULL;
}

/* The bytes that a call is about, as offset and length in the region; false if they are not one mapping's. */
static bool find(const void *pointer, size_t length, size_t *offset, size_t *count) {
    size_t hardware = usm_hardware_page(), first = 0, at;
    *offset = (size_t)((const char *)pointer - usm.base);
    *count = length;
    if (usm_inside(pointer, length == 0 ? 1 : length)) {
        at = *offset / hardware;
        if (usm_space_run(usm.space.used, true, &at, at + 1) > 0) {
            size_t end = usm_space_mapping(&usm.space, at, &first);
            if (length == 0) {
                *offset = first * hardware;
                *count = (end - first) * hardware;
            }
            at = *offset / hardware;
            end = (*offset + *count + hardware - 1) / hardware;
            size_t used = usm_space_run(usm.space.used, true, &at, end);
            if (used == end - *offset / hardware) {
                return true;
            }
        }
    }
    usm.error = EINVAL;
    snprintf(usm.words, sizeof usm.words, "%p, %zu bytes: not all of that is memory of usmd's in use", pointer, length);
    return false;
}

EXPORTED int usm_munmap(void *pointer, size_t length) {
    struct usm_mask saved;
    size_t hardware = usm_hardware_page(), offset, count;
    if (enter(&saved, NULL, NULL) != 0) {
        return -1;
    }
    bool good = length > 0 && find(pointer, length, &offset, &count);
    if (length == 0 || (good && offset % hardware != 0)) {
        good = false;
        usm.error = EINVAL;
        snprintf(usm.words, sizeof usm.words, "%p, %zu bytes: give back at least a byte, from a multiple of %zu on",
                 pointer, length, hardware);
    }
    if (good) {
        usm_give_back(pointer, (length + hardware - 1) / hardware * hardware);
        good = usm.state == USM_READY;
    }
    return leave(&saved, good);
}

EXPORTED int usm_hint(const void *pointer, size_t length, const char *text) {
    struct usm_mask saved;
    size_t offset, count;
    if (enter(&saved, NULL, NULL) != 0) {
        return -1;
    }
    return leave(&saved, find(pointer, length, &offset, &count) && usm_ask_hint(offset, count, text, NULL, 0));
}

EXPORTED int usm_ensure(const void *pointer, size_t length) {
    struct usm_mask saved;
    size_t offset, count;
    if (enter(&saved, NULL, NULL) != 0) {
        return -1;
    }
    if (leave(&saved, find(pointer, length, &offset, &count) && usm_open_stream()) != 0) {
        return -1;
    }
    size_t page = offset / usm.page_size, end = (offset + count + usm.page_size - 1) / usm.page_size;
    int before = errno, error = usm_ensure_pages(page, end - page, words, sizeof words);
    errno = error != 0 ? error : before;
    return error != 0 ? -1 : 0;
}

EXPORTED int usm_evict(const void *pointer, size_t length) {
    return usm_hint(pointer, length, "DONTNEED");
}

EXPORTED const char *usm_error(void) {
    return words;
}
