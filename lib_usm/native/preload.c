/* The part of libusm that `usmctl run` preloads: mmap and its siblings, as the program and its allocator call them.

   Large private anonymous mappings are answered from the region; all else goes to the kernel untouched. It is at work
   only where USM_RUN is set, in the process that began the session, and never in a child by fork or vfork. What glibc
   calls inside itself does not come here: its malloc, its stacks of threads. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session.h"

#define EXPORTED __attribute__((visibility("default")))
#define LEAST_SIZE ((size_t)64 << 10)
#define REFUSED 1 /* exit code with USM_REQUIRE */

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static int active = -1; /* -1: not known yet */
static size_t least_size = LEAST_SIZE;
static bool required, children_may_exec;
static pid_t home; /* the process that may begin a session: not a child by vfork, which would begin its parent's */

static bool is_active(void) {
    if (active < 0) {
        const char *size = secure_getenv("USM_MIN_SIZE"), *fork_rule = secure_getenv("USM_FORK");
        least_size = size != NULL && strtoull(size, NULL, 10) > 0 ? (size_t)strtoull(size, NULL, 10) : LEAST_SIZE;
        required = secure_getenv("USM_REQUIRE") != NULL;
        children_may_exec = fork_rule != NULL && strcmp(fork_rule, "exec-only") == 0;
        home = (pid_t)syscall(SYS_getpid);
        active = secure_getenv("USM_RUN") != NULL;
    }
    return active;
}

/* With the lock: whether there is a session, which the first call begins. */
static bool started(void) {
    if (usm.state == USM_UNTRIED && home != (pid_t)syscall(SYS_getpid)) {
        return false;
    }
    if (usm.state == USM_UNTRIED && !usm_begin(NULL, NULL)) {
        char line[USM_ERROR_TEXT + 64];
        snprintf(line, sizeof line, "%s; %s", usm.words, required ? "it does not start" : "it runs without usmd");
        usm_say(line);
        if (required) {
            _exit(REFUSED);
        }
    }
    return usm.state == USM_READY;
}

__attribute__((constructor)) static void at_start(void) {
    if (is_active() && required) {
        struct usm_mask saved;
        usm_lock(&saved);
        started();
        usm_unlock(&saved);
    }
}

static bool in_child(void) {
    return usm.state != USM_UNTRIED && !usm_is_owner();
}

static bool overlaps(const void *address, size_t length) {
    return is_active() && __atomic_load_n(&usm.base, __ATOMIC_ACQUIRE) != NULL && usm_overlaps(address, length);
}

/* The part of a range that is in the region. */
static size_t part(void *address, size_t length, char **first) {
    char *start = address, *end = start + length, *stop = usm.base + usm.length;
    *first = start > usm.base ? start : usm.base;
    return (size_t)((end < stop ? end : stop) - *first);
}

static size_t whole(size_t length) {
    return (length + usm_hardware_page() - 1) & ~(usm_hardware_page() - 1);
}

static bool is_misaligned(const void *address) {
    return ((uintptr_t)address & (usm_hardware_page() - 1)) != 0;
}

/* mmap */

static bool is_ours(const void *hint, size_t length, int protection, int flags) {
    int ignored = MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_DENYWRITE | MAP_EXECUTABLE;
    return length >= least_size && protection == (PROT_READ | PROT_WRITE) &&
           (flags & ~ignored) == (MAP_PRIVATE | MAP_ANONYMOUS) &&
           (hint == NULL || overlaps(hint, length));
}

static void *take(void *hint, size_t length) {
    static bool told;
    struct usm_mask saved;
    int before = errno;
    usm_lock(&saved);
    bool ready = started();
    void *found = ready ? usm_take(length, hint) : NULL;
    if (ready && found == NULL && !told) {
        told = true;
        usm_say("the region is full; further memory is not usmd's (a larger one: usmctl run --region-size)");
    }
    usm_unlock(&saved);
    errno = before;
    return found;
}

/* MAP_FIXED over a part of the region. New zeros stay in the region; whatever else is mapped there leaves it. */
static void *over(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    struct usm_mask saved;
    void *mapped = MAP_FAILED;
    bool zeros = (flags & (MAP_PRIVATE | MAP_ANONYMOUS)) == (MAP_PRIVATE | MAP_ANONYMOUS) &&
                 (flags & (MAP_HUGETLB | MAP_GROWSDOWN | MAP_STACK | MAP_LOCKED)) == 0;
    usm_lock(&saved);
    if (zeros && !is_misaligned(address) && usm_inside(address, whole(length)) &&
        usm_renew(address, whole(length), protection)) {
        mapped = address;
    } else {
        mapped = (void *)syscall(SYS_mmap, address, length, protection, flags, descriptor, offset);
        if (mapped != MAP_FAILED) {
            int before = errno;
            char *first;
            size_t inside = part(address, whole(length), &first);
            usm_give_up(first, inside);
            errno = before;
        }
    }
    usm_unlock(&saved);
    return mapped;
}

EXPORTED void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    if (is_active() && !in_child()) {
        if ((flags & MAP_FIXED) != 0) {
            if ((flags & MAP_FIXED_NOREPLACE) != MAP_FIXED_NOREPLACE && length > 0 && overlaps(address, length)) {
                return over(address, length, protection, flags, descriptor, offset);
            }
        } else if (is_ours(address, length, protection, flags)) {
            void *taken = take(address, length);
            if (taken != NULL) {
                return taken;
            }
        }
    }
    return (void *)syscall(SYS_mmap, address, length, protection, flags, descriptor, offset);
}

EXPORTED void *mmap64(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    return mmap(address, length, protection, flags, descriptor, offset);
}

/* munmap */

EXPORTED int munmap(void *address, size_t length) {
    if (!overlaps(address, length)) {
        return (int)syscall(SYS_munmap, address, length);
    }
    if (is_misaligned(address)) {
        errno = EINVAL;
        return -1;
    }
    if (in_child()) {
        return 0; /* by fork: it is not there; by vfork: it is the parent's */
    }
    char *first, *start = address, *end = start + whole(length);
    size_t inside = part(address, whole(length), &first);
    struct usm_mask saved;
    int before = errno, result = 0;
    usm_lock(&saved);
    usm_give_back(first, inside);
    usm_unlock(&saved);
    if (start < first) {
        result = (int)syscall(SYS_munmap, start, first - start);
    }
    if (first + inside < end && result == 0) {
        result = (int)syscall(SYS_munmap, first + inside, end - (first + inside));
    }
    errno = result == 0 ? before : errno;
    return result;
}

/* madvise */

/* usmd is gone: what is resident can still be made zeros. The rest cannot be touched any more. */
static void clear_resident(char *first, size_t length) {
    for (char *page = first; page < first + length; page += usm_hardware_page()) {
        if (usm.residency[(size_t)(page - usm.base) / usm.page_size]) {
            memset(page, 0, usm_hardware_page());
        }
    }
}

static int advise(char *first, size_t length, int advice) {
    struct usm_mask saved;
    size_t offset = (size_t)(first - usm.base);
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
        usm_lock(&saved);
        if (!usm_clear(first, length) && advice != MADV_FREE) {
            clear_resident(first, length);
        }
        usm_unlock(&saved);
        return 0;
    case MADV_WILLNEED:
    case MADV_PAGEOUT:
        usm_lock(&saved);
        usm_ask_hint(offset, length, advice == MADV_PAGEOUT ? "DONTNEED" : "WILLNEED", NULL, 0); /* advice: no answer */
        usm_unlock(&saved);
        return 0;
    case MADV_DONTFORK:
    case MADV_DOFORK: /* it is never inherited */
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_COLD:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
        return 0; /* in the kernel these would only split the mapping */
    default:
        return (int)syscall(SYS_madvise, first, length, advice);
    }
}

EXPORTED int madvise(void *address, size_t length, int advice) {
    if (in_child() || !overlaps(address, length) || is_misaligned(address)) {
        return (int)syscall(SYS_madvise, address, length, advice);
    }
    char *first, *start = address, *end = start + whole(length);
    size_t inside = part(address, whole(length), &first);
    int before = errno, result = advise(first, inside, advice);
    if (start < first && result == 0) {
        result = (int)syscall(SYS_madvise, start, first - start, advice);
    }
    if (first + inside < end && result == 0) {
        result = (int)syscall(SYS_madvise, first + inside, end - (first + inside), advice);
    }
    errno = result == 0 ? before : errno;
    return result;
}

/* mprotect: noted, so that the next mapping at these addresses has its rights */

EXPORTED int mprotect(void *address, size_t length, int protection) {
    int result = (int)syscall(SYS_mprotect, address, length, protection);
    if (result == 0 && !in_child() && overlaps(address, length)) {
        char *first;
        size_t inside = part(address, whole(length), &first);
        struct usm_mask saved;
        usm_lock(&saved);
        usm_note_protection(first, inside, protection);
        usm_unlock(&saved);
    }
    return result;
}

/* mremap */

static void *moved(char *from, size_t old, size_t new) {
    char *to = mmap(NULL, new, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (to != MAP_FAILED) {
        memcpy(to, from, old < new ? old : new);
        munmap(from, old);
    }
    return to;
}

static void *remap_ours(char *from, size_t old, size_t new, int flags, void *wanted) {
    if (is_misaligned(from) || old == 0 || new == 0 || (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0 ||
        ((flags & MREMAP_FIXED) != 0 && (is_misaligned(wanted) || (flags & MREMAP_MAYMOVE) == 0))) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    if (!usm_inside(from, old)) {
        errno = EFAULT;
        return MAP_FAILED;
    }
    if ((flags & MREMAP_FIXED) != 0) {
        if (usm_overlaps(wanted, new) || ((char *)wanted < from + old && from < (char *)wanted + new)) {
            errno = EINVAL;
            return MAP_FAILED;
        }
        void *to = (void *)syscall(SYS_mmap, wanted, new, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0L);
        if (to != MAP_FAILED) {
            memcpy(to, from, old < new ? old : new);
            munmap(from, old);
        }
        return to;
    }
    if (new <= old) {
        if (new < old) {
            munmap(from + new, old - new);
        }
        return from;
    }
    struct usm_mask saved;
    usm_lock(&saved);
    bool grown = usm_grow(from, old, new);
    usm_unlock(&saved);
    if (grown) {
        return from;
    }
    if ((flags & MREMAP_MAYMOVE) == 0) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return moved(from, old, new);
}

EXPORTED void *mremap(void *from, size_t old, size_t new, int flags, ...) {
    va_list more;
    va_start(more, flags);
    void *wanted = (flags & MREMAP_FIXED) != 0 ? va_arg(more, void *) : NULL;
    va_end(more);
    if (!in_child() && overlaps(from, old == 0 ? 1 : old)) {
        return remap_ours(from, whole(old), whole(new), flags, wanted);
    }
    void *mapped = (void *)syscall(SYS_mremap, from, old, new, flags, wanted);
    if (mapped != MAP_FAILED && (flags & MREMAP_FIXED) != 0 && !in_child() && overlaps(wanted, new)) {
        char *first;
        size_t inside = part(wanted, whole(new), &first);
        struct usm_mask saved;
        usm_lock(&saved);
        usm_give_up(first, inside);
        usm_unlock(&saved);
    }
    return mapped;
}

/* fork: a child would see this process's later stores, and zeros where pages are not resident */

static pid_t fork_by(const char *name) {
    pid_t (*real)(void) = (pid_t(*)(void))dlsym(RTLD_NEXT, name);
    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return real();
}

static pid_t fork_of(const char *name) {
    if (!is_active() || usm.base == NULL || in_child()) {
        pid_t child = fork_by(name);
        if (child == 0 && usm.state == USM_UNTRIED) {
            home = (pid_t)syscall(SYS_getpid);
            usm_in_child();
        }
        return child;
    }
    if (!children_may_exec) {
        usm_say("fork is refused: a child would not have this program's memory, which is usmd's (a child that only "
                "calls exec: usmctl run --fork=exec-only)");
        errno = ENOMEM;
        return -1;
    }
    /* Without the handlers of pthread_atfork, which would touch the allocator's memory in the child. */
    pid_t child = dlsym(RTLD_NEXT, "_Fork") != NULL ? fork_by("_Fork") : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        close(usm.connection);
        close(usm.userfaultfd);
        if (usm.stream >= 0) {
            close(usm.stream);
        }
        if (usm.touches >= 0) {
            close(usm.touches);
        }
    }
    return child;
}

EXPORTED pid_t fork(void) {
    return fork_of("fork");
}

EXPORTED pid_t _Fork(void) {
    return fork_of("_Fork");
}
