/* Which pages of one range of addresses are in use: two bits a page, searched first fit. No locks, no system calls.

   Pages are of the hardware's size. usmd's own page, the unit, may be several of them: pages are given out from the
   beginning of a unit that is free as a whole, so that each unit belongs to one mapping. */

#ifndef USM_SPACE_H
#define USM_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USM_NOWHERE ((size_t)-1)

struct usm_space {
    uint64_t *used;    /* a bit a page */
    uint64_t *starts;  /* a bit for the first page of each mapping */
    uint64_t *foreign; /* a bit for each used page at whose address something else is mapped, for good */
    uint64_t *guarded; /* a bit for each used page whose protection was changed */
    size_t pages, unit;
    size_t lowest; /* no page below it is free */
};

/* Bytes of memory of zeros that a space of so many pages takes. */
size_t usm_space_bytes(size_t pages);
void usm_space_make(struct usm_space *space, void *memory, size_t pages, size_t unit);
/* Takes pages, from a multiple of `align` on if there is room, else from any unit; returns the first, or
   USM_NOWHERE. */
size_t usm_space_take(struct usm_space *space, size_t pages, size_t align);
/* Takes pages from `first` on, if they and the rest of their units are free. */
bool usm_space_take_at(struct usm_space *space, size_t first, size_t pages);
/* As usm_space_take_at, but the pages go on with the mapping before them. */
bool usm_space_grow(struct usm_space *space, size_t first, size_t pages);
void usm_space_free(struct usm_space *space, size_t first, size_t pages);
/* The next run within `first` to `end` whose pages have `bits` all set (`set`) or all clear; returns its pages, and 0
   if there is none. */
size_t usm_space_run(const uint64_t *bits, bool set, size_t *first, size_t end);
void usm_space_set(uint64_t *bits, size_t first, size_t pages, bool set);
/* The end of the mapping that a used page is in, and its first page. */
size_t usm_space_mapping(const struct usm_space *space, size_t page, size_t *first);

#endif
