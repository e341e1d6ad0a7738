/* Faults that are asked for: a stream socket of the session's, on which a fault is answered when its pages are in
   memory, or with the reason why they cannot be. A touch that cannot be served is SIGBUS instead. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "connection.h"

#define SECONDS 60 /* for each batch of pages */
#define PAGES_A_FAULT 16
#define PREFIX 5
#define MESSAGE 0
#define MOST_BYTES 65536

static int lock; /* of the stream: the session's is not held while a device is read */

bool usm_open_stream(void) {
    static struct usm_message message; /* of the lock: stacks may be small */
    static struct usm_reply reply;
    struct timeval seconds = {.tv_sec = SECONDS};
    if (usm.stream < 0) {
        usm_encode_stream(&message);
        if (!usm_ask(&message, -1, &reply, &usm.stream, 1)) {
            return false;
        }
        setsockopt(usm.stream, SOL_SOCKET, SO_RCVTIMEO, &seconds, sizeof seconds);
        setsockopt(usm.stream, SOL_SOCKET, SO_SNDTIMEO, &seconds, sizeof seconds);
    }
    return true;
}

static bool move(bool out, unsigned char *bytes, size_t length) {
    while (length > 0) {
        ssize_t moved = out ? send(usm.stream, bytes, length, MSG_NOSIGNAL) : recv(usm.stream, bytes, length, 0);
        if (moved <= 0 && !(moved < 0 && errno == EINTR)) {
            return false;
        }
        if (moved > 0) {
            bytes += moved;
            length -= (size_t)moved;
        }
    }
    return true;
}

/* Reads messages until fault `id` has ended. */
static bool wait_for(uint64_t id, struct usm_outcome *outcome) {
    static unsigned char bytes[MOST_BYTES]; /* with the lock */
    unsigned char prefix[PREFIX];
    for (;;) {
        if (!move(false, prefix, sizeof prefix)) {
            return false;
        }
        size_t length = (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4], at = 0;
        if (prefix[0] != MESSAGE || length > sizeof bytes || !move(false, bytes, length)) {
            return false;
        }
        for (bool found = true; found;) {
            if (!usm_decode_outcome(bytes, length, &at, outcome, &found)) {
                return false;
            }
            if (found && outcome->fault_id == id && outcome->ended) {
                return true;
            }
        }
    }
}

static int bring_in(size_t page, size_t pages, char *words, size_t room) {
    static uint64_t last_id;
    static struct usm_message message; /* of the lock: stacks may be small */
    static struct usm_outcome outcome;
    usm_encode_fault(&message, ++last_id, usm.region_id, page, pages);
    if (usm.stream < 0 || !move(true, message.bytes, message.length) || !wait_for(last_id, &outcome)) {
        usm_close_all(&usm.stream, usm.stream >= 0);
        snprintf(words, room, "usmd is gone, or answered what cannot be understood");
        return ECONNRESET;
    }
    if (outcome.reason != 0) {
        snprintf(words, room, "%s", outcome.message);
        return usm_errno_of(outcome.reason);
    }
    return 0;
}

int usm_ensure_pages(size_t page, size_t pages, char *words, size_t room) {
    for (size_t end = page + pages; page < end;) {
        size_t count = 1;
        if (usm.residency[page]) {
            page++;
            continue;
        }
        while (count < PAGES_A_FAULT && page + count < end && !usm.residency[page + count]) {
            count++;
        }
        struct usm_mask saved;
        usm_lock_of(&lock, &saved);
        int error = bring_in(page, count, words, room);
        usm_unlock_of(&lock, &saved);
        if (error != 0) {
            return error;
        }
        page += count;
    }
    return 0;
}
