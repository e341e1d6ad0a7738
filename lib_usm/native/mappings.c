/* The mappings in the region: which bytes are in use, and how those that are not go back to usmd. */

#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "connection.h"

#define AT_ONCE ((size_t)64 << 20) /* bytes of a request to discard, so that each answer comes in time */

/* Mappings */

static size_t page_of(const char *address) {
    return (size_t)(address - usm.base) / usm_hardware_page();
}

void *usm_take(size_t length, const void *hint) {
    if (usm.state != USM_READY || length > usm.length) {
        return NULL;
    }
    size_t hardware = usm_hardware_page(), pages = (length + hardware - 1) / hardware;
    if (hint != NULL && usm_inside(hint, length) && usm_space_take_at(&usm.space, page_of(hint), pages)) {
        return usm.base + page_of(hint) * hardware;
    }
    size_t first = usm_space_take(&usm.space, pages, length >= USM_ALIGNMENT ? USM_ALIGNMENT / hardware : 1);
    return first == USM_NOWHERE ? NULL : usm.base + first * hardware;
}

/* Discards all units that are within the pages; false if usmd cannot. */
static bool discard(size_t first, size_t pages) {
    size_t unit = usm.space.unit, end = (first + pages) / unit * unit;
    first = (first + unit - 1) / unit * unit;
    size_t step = AT_ONCE / usm_hardware_page();
    for (; first < end; first += step) {
        static struct usm_message message; /* of the lock: stacks may be small */
        static struct usm_reply reply;
        size_t count = end - first < step ? end - first : step;
        usm_encode_discard(&message, usm.region_id, first * usm_hardware_page(), count * usm_hardware_page());
        if (usm.state != USM_READY || !usm_ask(&message, -1, &reply, NULL, 0)) {
            return false;
        }
    }
    return true;
}

static void free_run(size_t first, size_t pages) {
    size_t hardware = usm_hardware_page(), unit = usm.space.unit;
    size_t at = first, count;
    while ((count = usm_space_run(usm.space.guarded, true, &at, first + pages)) > 0) {
        if (syscall(SYS_mprotect, usm.base + at * hardware, count * hardware, PROT_READ | PROT_WRITE) != 0) {
            return; /* it stays in use, or another mapping would be without its rights */
        }
        usm_space_set(usm.space.guarded, at, count, false);
        at += count;
    }
    /* The units at both ends are free too if nothing else in them is used. */
    size_t low = first / unit * unit, high = (first + pages + unit - 1) / unit * unit;
    if (unit > 1) {
        size_t before = low, behind = first + pages;
        low = usm_space_run(usm.space.used, true, &before, first) > 0 ? first : low;
        high = high > usm.space.pages || usm_space_run(usm.space.used, true, &behind, high) > 0 ? first + pages : high;
    }
    if (discard(low, high - low)) {
        usm_space_free(&usm.space, first, pages);
    }
}

void usm_give_back(char *address, size_t length) {
    size_t first = page_of(address), end = first + length / usm_hardware_page(), count;
    while ((count = usm_space_run(usm.space.used, true, &first, end)) > 0) {
        size_t at = first, stop = first + count, own;
        while ((own = usm_space_run(usm.space.foreign, false, &at, stop)) > 0) {
            free_run(at, own);
            at += own;
        }
        at = first;
        while ((own = usm_space_run(usm.space.foreign, true, &at, stop)) > 0) {
            syscall(SYS_munmap, usm.base + at * usm_hardware_page(), own * usm_hardware_page());
            at += own;
        }
        first = stop;
    }
}

bool usm_clear(char *address, size_t length) {
    size_t hardware = usm_hardware_page(), unit = usm.space.unit;
    size_t first = page_of(address), end = first + length / hardware;
    size_t low = (first + unit - 1) / unit * unit, high = end / unit * unit;
    if (low >= high) { /* no whole unit */
        memset(address, 0, length);
        return true;
    }
    memset(address, 0, (low - first) * hardware);
    memset(usm.base + high * hardware, 0, (end - high) * hardware);
    return discard(low, high - low);
}

void usm_give_up(char *address, size_t length) {
    size_t first = page_of(address), pages = length / usm_hardware_page();
    usm_space_set(usm.space.used, first, pages, true);
    usm_space_set(usm.space.foreign, first, pages, true);
    usm_space_set(usm.space.guarded, first, pages, false);
    discard(first, pages);
}

bool usm_renew(char *address, size_t length, int protection) {
    size_t first = page_of(address), pages = length / usm_hardware_page(), at = first;
    if (usm_space_run(usm.space.foreign, true, &at, first + pages) > 0 || !usm_clear(address, length) ||
        syscall(SYS_mprotect, address, length, protection) != 0) {
        return false;
    }
    usm_space_free(&usm.space, first, pages); /* what is in use behind it is a mapping of its own */
    usm_space_set(usm.space.used, first, pages, true);
    usm_space_set(usm.space.starts, first, 1, true);
    usm_note_protection(address, length, protection);
    return true;
}

bool usm_grow(char *address, size_t before, size_t after) {
    size_t hardware = usm_hardware_page();
    return usm.state == USM_READY &&
           usm_space_grow(&usm.space, page_of(address + before), (after - before) / hardware);
}

void usm_note_protection(char *address, size_t length, int protection) {
    usm_space_set(usm.space.guarded, page_of(address), length / usm_hardware_page(),
                  protection != (PROT_READ | PROT_WRITE));
}
