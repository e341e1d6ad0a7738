#include "space.h"

#include <string.h>

#define WORD 64

static bool get(const uint64_t *bits, size_t page) {
    return bits[page / WORD] >> page % WORD & 1;
}

void usm_space_set(uint64_t *bits, size_t first, size_t pages, bool set) {
    size_t end = first + pages;
    while (first < end) {
        size_t bit = first % WORD, count = WORD - bit < end - first ? WORD - bit : end - first;
        uint64_t mask = (count == WORD ? ~(uint64_t)0 : (((uint64_t)1 << count) - 1)) << bit;
        if (set) {
            bits[first / WORD] |= mask;
        } else {
            bits[first / WORD] &= ~mask;
        }
        first += count;
    }
}

/* The first page from `first` on, below `end`, whose bit is `set`; else `end`. */
static size_t find(const uint64_t *bits, bool set, size_t first, size_t end) {
    while (first < end) {
        uint64_t word = (set ? bits[first / WORD] : ~bits[first / WORD]) >> first % WORD;
        if (word != 0) {
            first += (size_t)__builtin_ctzll(word);
            return first < end ? first : end;
        }
        first += WORD - first % WORD;
    }
    return end;
}

size_t usm_space_run(const uint64_t *bits, bool set, size_t *first, size_t end) {
    *first = find(bits, set, *first, end);
    return *first < end ? find(bits, !set, *first, end) - *first : 0;
}

static size_t words(size_t pages) {
    return (pages + WORD - 1) / WORD;
}

size_t usm_space_bytes(size_t pages) {
    return 4 * words(pages) * sizeof(uint64_t);
}

void usm_space_make(struct usm_space *space, void *memory, size_t pages, size_t unit) {
    space->used = memory;
    space->starts = space->used + words(pages);
    space->foreign = space->starts + words(pages);
    space->guarded = space->foreign + words(pages);
    space->pages = pages;
    space->unit = unit;
    space->lowest = 0;
}

static size_t up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

static void take(struct usm_space *space, size_t first, size_t pages, bool starts) {
    usm_space_set(space->used, first, pages, true);
    usm_space_set(space->starts, first, pages, false);
    if (starts) {
        usm_space_set(space->starts, first, 1, true);
    }
    if (first <= space->lowest) {
        space->lowest = find(space->used, false, space->lowest, space->pages);
    }
}

static size_t search(struct usm_space *space, size_t pages, size_t align) {
    size_t first = up(space->lowest, align);
    while (first <= space->pages && pages <= space->pages - first) {
        size_t used = find(space->used, true, first, first + pages);
        if (used == first + pages) {
            return first;
        }
        first = up(find(space->used, false, used, space->pages), align);
    }
    return USM_NOWHERE;
}

size_t usm_space_take(struct usm_space *space, size_t pages, size_t align) {
    if (pages == 0 || pages > space->pages) {
        return USM_NOWHERE;
    }
    size_t whole = up(pages, space->unit), first = USM_NOWHERE;
    if (align > space->unit) {
        first = search(space, whole, align / space->unit * space->unit);
    }
    if (first == USM_NOWHERE) {
        first = search(space, whole, space->unit);
    }
    if (first != USM_NOWHERE) {
        take(space, first, pages, true);
    }
    return first;
}

static bool is_free(const struct usm_space *space, size_t first, size_t pages) {
    if (pages == 0 || pages > space->pages || first > space->pages - pages) {
        return false;
    }
    size_t end = up(first + pages, space->unit);
    return end <= space->pages && find(space->used, true, first, end) == end;
}

bool usm_space_take_at(struct usm_space *space, size_t first, size_t pages) {
    if (first % space->unit != 0 || !is_free(space, first, pages)) {
        return false;
    }
    take(space, first, pages, true);
    return true;
}

bool usm_space_grow(struct usm_space *space, size_t first, size_t pages) {
    if (!is_free(space, first, pages)) {
        return false;
    }
    take(space, first, pages, false);
    return true;
}

void usm_space_free(struct usm_space *space, size_t first, size_t pages) {
    size_t end = first + pages;
    /* What remains of a mapping behind a hole is a mapping of its own. */
    if (end < space->pages && get(space->used, end)) {
        usm_space_set(space->starts, end, 1, true);
    }
    usm_space_set(space->used, first, pages, false);
    usm_space_set(space->starts, first, pages, false);
    if (first < space->lowest) {
        space->lowest = first;
    }
}

size_t usm_space_mapping(const struct usm_space *space, size_t page, size_t *first) {
    *first = page;
    while (*first > 0 && !get(space->starts, *first) && get(space->used, *first - 1)) {
        (*first)--;
    }
    size_t end = find(space->used, false, page, space->pages);
    size_t next = page + 1 < end ? find(space->starts, true, page + 1, end) : end;
    return next;
}
