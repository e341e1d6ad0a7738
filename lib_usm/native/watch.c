/* The threads of the session. One notices that usmd is gone. It then serves what can be served without usmd: a first
   write to a page that was clean, a touch of a page that was taken out of the page table only. A touch of a page that is
   not in memory ends the program: its bytes are lost, and zeros would be wrong. The other takes pages out of the page
   table where usmd asks for that. It is one of its own, because the first one never lets go of the connection, which the
   program may have closed.

   The session may begin inside of malloc, so they are made by clone. They are none of the C library's: they have no
   memory of their own but what is here, and must call nothing that has, which is all that may set errno or uses stdio. */

#define _GNU_SOURCE
#include "connection.h"
#include "raw.h"
#include "taking_out.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#if USM_RAW

#define STACK ((size_t)32 << 10)
#define LOCALS ((size_t)8 << 10) /* what the compiler expects at the thread pointer */
#define EVENTS 16
#define WRITE_MILLISECONDS 1000 /* for stderr to take a line */
#define SIGNALLED 128           /* exit code of a shell for a signal, with its number */

#ifndef UFFDIO_POISON /* Linux 6.6 */
struct uffdio_poison {
    struct uffdio_range range;
    uint64_t mode;
    int64_t updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#define UFFDIO_POISON_MODE_DONTWAKE ((uint64_t)1)
#endif

static char prefix[300]; /* of what it says */

static long control(unsigned long request, void *what) {
    return USM_RAW3(SYS_ioctl, usm.userfaultfd, request, what);
}

static void wait_for(int descriptor, short events, int milliseconds, short *found) {
    struct pollfd on = {descriptor, events, 0};
    struct timespec time = {milliseconds / 1000, 0};
    usm_raw(SYS_ppoll, (long)&on, 1, (long)(milliseconds < 0 ? NULL : &time), 0, 0, 0);
    *found = on.revents;
}

static void say(const char *text) {
    short found;
    struct iovec parts[] = {{prefix, strlen(prefix)}, {(char *)text, strlen(text)}, {"\n", 1}};
    wait_for(STDERR_FILENO, POLLOUT, WRITE_MILLISECONDS, &found);
    if (found & POLLOUT) {
        USM_RAW3(SYS_writev, STDERR_FILENO, parts, 3);
    }
}

/* As usm_lock_of, but all signals are blocked here anyway. */
static void lock(void) {
    while (__atomic_exchange_n(&usm_session_lock, 2, __ATOMIC_ACQUIRE) != 0) {
        USM_RAW4(SYS_futex, &usm_session_lock, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, 0);
    }
}

static void unlock(void) {
    if (__atomic_exchange_n(&usm_session_lock, 0, __ATOMIC_RELEASE) == 2) {
        USM_RAW3(SYS_futex, &usm_session_lock, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
    }
}

static void append(char *to, size_t room, const char *text) {
    size_t at = strlen(to);
    while (at + 1 < room && *text != 0) {
        to[at++] = *text++;
    }
    to[at] = 0;
}

/* The connection has ended: notes and says so, unless a request has done that already. */
static void note_end(void) {
    static unsigned char bytes[USM_PACKET];
    static struct usm_reply reply;
    static char line[USM_ERROR_TEXT + 100];
    lock();
    if (usm.state == USM_READY) {
        long got = USM_RAW4(SYS_recvfrom, usm.connection, bytes, sizeof bytes, MSG_DONTWAIT);
        *usm.words = 0;
        if (got > 0 && usm_decode_reply(bytes, (size_t)got, &reply) && reply.reason != 0) {
            append(usm.words, sizeof usm.words, "usmd has ended the session: ");
            append(usm.words, sizeof usm.words, reply.message);
        } else {
            append(usm.words, sizeof usm.words, "usmd has closed the connection");
        }
        usm.error = ECONNRESET;
        usm.state = USM_GONE;
        append(line, sizeof line, usm.words);
        append(line, sizeof line, "; new memory is not usmd's from now on");
        say(line);
    }
    unlock();
}

/* Ends the program as the touch of lost memory does after a drain. A handler of the program's could not go on. */
static void end(uint64_t page) {
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {0};
    struct uffdio_range all = {(uintptr_t)usm.base, usm.length};
    struct uffdio_writeprotect unmark = {{page, usm_hardware_page()}, UFFDIO_WRITEPROTECT_MODE_DONTWAKE};
    struct uffdio_poison poison = {unmark.range, UFFDIO_POISON_MODE_DONTWAKE, 0};
    uint64_t none = 0;
    long process = USM_RAW3(SYS_getpid, 0, 0, 0);
    say("memory that usmd had is lost, and the program has touched it; it ends (SIGBUS)");
    USM_RAW4(SYS_rt_sigaction, SIGBUS, &action, NULL, sizeof none);
    /* A child by vfork may be the one that waits, and outlives this process. An evicted page has a mark of write
       protection, and the kernel poisons only what has none. */
    control(UFFDIO_WRITEPROTECT, &unmark);
    control(UFFDIO_POISON, &poison);
    /* The signal comes before the wake: a system call that waits for the page fails with EFAULT then, and the program
       must not go on with that. */
    USM_RAW3(SYS_kill, process, SIGBUS, 0);
    control(UFFDIO_WAKE, &all);
    /* No other thread takes the signal: */
    USM_RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
    USM_RAW3(SYS_tgkill, process, USM_RAW3(SYS_gettid, 0, 0, 0), SIGBUS);
    USM_RAW3(SYS_exit_group, SIGNALLED + SIGBUS, 0, 0); /* the first process of a container has no default action */
}

static void serve(const struct uffd_msg *event) {
    uint64_t page = event->arg.pagefault.address & ~(uint64_t)(usm_hardware_page() - 1);
    struct uffdio_range range = {page, usm_hardware_page()};
    if (event->event != UFFD_EVENT_PAGEFAULT) {
        return; /* the thread that has unmapped something goes on as this is read */
    }
    long done;
    if (event->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
        struct uffdio_writeprotect writable = {.range = range};
        done = control(UFFDIO_WRITEPROTECT, &writable);
    } else if (event->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR) {
        struct uffdio_continue there = {.range = range};
        done = control(UFFDIO_CONTINUE, &there);
        if (done == -EFAULT) {
            end(page);
        }
    } else {
        end(page);
        return;
    }
    if (done < 0) {
        control(UFFDIO_WAKE, &range); /* it looks again */
    }
}

static void serve_all(void) {
    static struct uffd_msg events[EVENTS];
    struct uffdio_range all = {(uintptr_t)usm.base, usm.length};
    short found;
    /* Those that usmd has heard of, and did not answer, are heard of again. It fails where the program has closed the
       descriptor, which may be another file by now. */
    while (control(UFFDIO_WAKE, &all) == 0) {
        wait_for(usm.userfaultfd, POLLIN, -1, &found);
        all.len = usm_hardware_page(); /* from now on only to see whose descriptor it is */
        long got = control(UFFDIO_WAKE, &all) == 0 ? USM_RAW3(SYS_read, usm.userfaultfd, events, sizeof events) : -EBADF;
        if (got < 0 && got != -EAGAIN && got != -EINTR) {
            return;
        }
        for (long at = 0; at < got / (long)sizeof *events; at++) {
            serve(&events[at]);
        }
    }
}

static void call_itself(const char *name) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct nothing[_LINUX_CAPABILITY_U32S_3] = {0};
    USM_RAW3(SYS_capset, &header, nothing, 0); /* it needs none, and would keep those that the program gives up */
    USM_RAW3(SYS_prctl, PR_SET_NAME, name, 0);
}

static int watch(void *unused) {
    short found = 0;
    (void)unused;
    call_itself("usm-watch");
    while (found == 0) {
        wait_for(usm.connection, 0, -1, &found); /* not for answers: for the end */
    }
    if ((found & POLLNVAL) == 0) {
        note_end();
        serve_all();
    }
    return 0;
}

static int take_out(void *unused) {
    int descriptor = usm.touches;
    uint64_t file = usm_file_of(descriptor);
    (void)unused;
    call_itself("usm-touches");
    while (usm_take_out(descriptor, file)) {
    }
    usm.touches = -1; /* a child by fork must not close what has its number next */
    return 0;
}

static bool begin(int (*thread)(void *)) {
    char *memory = (char *)syscall(SYS_mmap, NULL, STACK + LOCALS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                   -1, 0L);
    if (memory == MAP_FAILED) {
        return false;
    }
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS;
    char *locals = memory + STACK + LOCALS / 2;
    memcpy(locals, &locals, sizeof locals);
    if (clone(thread, memory + STACK, flags, NULL, NULL, locals, NULL) < 0) {
        syscall(SYS_munmap, memory, STACK + LOCALS);
        return false;
    }
    return true;
}

void usm_watch(void) {
    snprintf(prefix, sizeof prefix, "usm: %s (process %d): ", program_invocation_short_name,
             (int)syscall(SYS_getpid));
    usm_hardware_page();
    begin(watch); /* without it a touch of lost memory waits */
    if (usm.touches >= 0 && !begin(take_out)) {
        usm_close_all(&usm.touches, 1); /* by which usmd knows */
    }
}

#else

void usm_watch(void) {
}

#endif
