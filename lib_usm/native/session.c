/* The beginning of the session: its userfaultfd, its region, and the hint on it. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "connection.h"
#include "raw.h"

#define LEAST_REGION ((uint64_t)1 << 20)
#define DEFAULT_REGION ((uint64_t)1 << 30) /* at least so large, however little memory and swap there is */
#define REGION_SHARE 4                     /* and at least so many times memory and swap: addresses take nothing */

static void *map(void *at, size_t length, int protection, int flags, int descriptor) {
    return (void *)syscall(SYS_mmap, at, length, protection, flags, descriptor, 0L);
}

static void printable_name(const char *name, char *to) {
    size_t length = 0;
    if (name == NULL || *name == 0) {
        name = secure_getenv("USM_NAME");
    }
    if (name == NULL || *name == 0) {
        name = program_invocation_short_name;
    }
    for (; *name != 0 && length < 64; name++) {
        to[length++] = (char)(*name < ' ' || *name > '~' ? '?' : *name);
    }
    to[length] = 0;
}

static bool map_region(const char *name, uint64_t wanted) {
    static struct usm_message message; /* of the lock: stacks may be small */
    static struct usm_reply reply;
    int descriptors[2];
    for (;; wanted /= 2) { /* the session may be allowed less, by memory.max_mapped */
        usm_encode_map(&message, wanted, name);
        if (usm_ask(&message, -1, &reply, descriptors, 2)) {
            break;
        }
        if (reply.reason != USM_LIMIT_EXCEEDED || wanted / 2 < LEAST_REGION) {
            return false;
        }
    }
    struct stat memory, map_of_pages;
    size_t length = (size_t)wanted, pages = length / usm.page_size;
    bool good = reply.region_id != 0 && reply.region_length == wanted && fstat(descriptors[0], &memory) == 0 &&
                fstat(descriptors[1], &map_of_pages) == 0 && (uint64_t)memory.st_size >= wanted &&
                (uint64_t)map_of_pages.st_size >= pages;
    char *room = good ? map(NULL, length + USM_ALIGNMENT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)
                      : MAP_FAILED;
    if (room == MAP_FAILED) {
        usm_close_all(descriptors, 2);
        return good ? usm_fail(ENOMEM, "no addresses for the region: %s", strerror(errno))
                    : usm_fail(EPROTO, "what usmd answered cannot be understood");
    }
    char *base = (char *)(((uintptr_t)room + USM_ALIGNMENT - 1) & ~(uintptr_t)(USM_ALIGNMENT - 1));
    size_t before = (size_t)(base - room);
    if (before > 0) {
        syscall(SYS_munmap, room, before);
    }
    if (before < USM_ALIGNMENT) {
        syscall(SYS_munmap, base + length, USM_ALIGNMENT - before);
    }
    void *mapped = map(base, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, descriptors[0]);
    void *residency = map(NULL, pages, PROT_READ, MAP_SHARED, descriptors[1]);
    void *bits = map(NULL, usm_space_bytes(length / usm_hardware_page()), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    usm_close_all(descriptors, 2);
    /* A forked child would see zeros where pages are not resident, and what this process stores later. */
    if (mapped == MAP_FAILED || residency == MAP_FAILED || bits == MAP_FAILED ||
        syscall(SYS_madvise, base, length, MADV_DONTFORK) != 0) {
        usm_fail(errno, "the region cannot be mapped: %s", strerror(errno));
        syscall(SYS_munmap, base, length);
        return false;
    }
    usm_encode_mapped(&message, reply.region_id, (uint64_t)(uintptr_t)base);
    uint64_t region_id = reply.region_id;
    if (!usm_ask(&message, -1, &reply, NULL, 0)) {
        syscall(SYS_munmap, base, length);
        return false;
    }
    usm_space_make(&usm.space, bits, length / usm_hardware_page(), usm.page_size / usm_hardware_page());
    usm.region_id = region_id;
    usm.residency = residency;
    usm.length = length;
    __atomic_store_n(&usm.base, base, __ATOMIC_RELEASE);
    return true;
}

static uint64_t number_of(const char *variable) {
    const char *text = secure_getenv(variable);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

static bool begin(const char *address, const char *name) {
    static struct usm_message message; /* of the lock: stacks may be small */
    static struct usm_reply reply;
    char of_session[65];
    printable_name(name, of_session);
    if (!usm_connect_to(address) || !usm_open_userfaultfd()) {
        return false;
    }
    usm_encode_begin(&message, of_session, secure_getenv("USM_ALLOC"), secure_getenv("USM_EVICT"),
                     number_of("USM_MEMORY_LIMIT"), USM_RAW);
    if (!usm_ask_to_begin(&message, &reply)) {
        return false;
    }
    uint64_t page = reply.page_size;
    if (page < usm_hardware_page() || (page & (page - 1)) != 0 || page > LEAST_REGION) {
        return usm_fail(EPROTO, "what usmd answered cannot be understood");
    }
    usm.page_size = (size_t)page;
    usm.process_id = reply.process_id;
    uint64_t length = number_of("USM_REGION_SIZE");
    if (length == 0) {
        length = reply.capacity > UINT64_MAX / REGION_SHARE ? DEFAULT_REGION : reply.capacity * REGION_SHARE;
        length = length < DEFAULT_REGION ? DEFAULT_REGION : length;
    }
    if (!map_region("heap", (length + USM_ALIGNMENT - 1) & ~(uint64_t)(USM_ALIGNMENT - 1))) {
        return false;
    }
    const char *hint = secure_getenv("USM_HINT");
    char unheeded[USM_TEXT] = "";
    if (hint != NULL && *hint != 0) {
        if (!usm_ask_hint(0, 0, hint, unheeded, sizeof unheeded)) {
            return false;
        }
        if (*unheeded != 0) {
            char line[USM_TEXT + 100];
            snprintf(line, sizeof line, "no policy of the session acts on these keys of the hint: %s", unheeded);
            usm_say(line);
        }
    }
    return true;
}

static void close_session(void) {
    usm_close_all(&usm.connection, usm.connection >= 0);
    usm_close_all(&usm.userfaultfd, usm.userfaultfd >= 0);
    usm_close_all(&usm.touches, usm.touches >= 0);
}

void usm_in_child(void) {
    close_session();
    __atomic_store_n(&usm_session_lock, 0, __ATOMIC_RELEASE); /* its holder is not here */
}

bool usm_begin(const char *address, const char *name) {
    if (usm.state == USM_UNTRIED) {
        usm.owner = (pid_t)syscall(SYS_getpid);
        if (begin(address, name)) {
            usm.state = USM_READY;
            usm_watch();
        } else {
            if (usm.base != NULL) {
                syscall(SYS_munmap, usm.base, usm.length);
                usm.base = NULL;
            }
            close_session();
            usm.state = USM_FAILED;
        }
    }
    return usm.state == USM_READY;
}

bool usm_ask_hint(size_t offset, size_t length, const char *text, char *unheeded, size_t room) {
    static struct usm_message message; /* of the lock: stacks may be small */
    static struct usm_reply reply;
    usm_encode_hint(&message, usm.region_id, offset, length, text);
    bool good = usm_ask(&message, -1, &reply, NULL, 0);
    if (good && unheeded != NULL) {
        snprintf(unheeded, room, "%s", reply.unheeded);
    }
    return good;
}
