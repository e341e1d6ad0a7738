/* Prints on stderr which page of which region caused a SIGBUS, then lets the process end as it would have.
   This is C, for Python runs its own handlers between two bytecodes, while the thread that touched the page is in the
   middle of one, perhaps without the interpreter's lock. The handler needs no lock, allocates nothing, opens no file,
   and waits at most 0.6 s. lib_usm/sigbus.py calls `usm_watch` and `usm_forget`, one thread at a time. */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define MOST_REGIONS 4096
#define MOST_NAME 256
#define MOST_REASONS 64
#define MOST_REASON 128
#define END_MILLISECONDS 500 /* on a busy machine the daemon may take this long to hang up */
#define WRITE_MILLISECONDS 100

struct region {
    volatile uintptr_t start; /* written last; 0: unused */
    uintptr_t end;
    uintptr_t page_size;
    volatile int connection; /* of the session: it hangs up when the session ends; -1: ended */
    const volatile unsigned char *reasons; /* one byte a page */
    char name[MOST_NAME];
};

static struct region regions[MOST_REGIONS];
static char reason_texts[MOST_REASONS][MOST_REASON];
static struct sigaction before;
static int called;

static void append(char *text, size_t *length, size_t room, const char *more) {
    while (*more != 0 && *length < room) {
        text[(*length)++] = *more++;
    }
}

static void append_number(char *text, size_t *length, size_t room, uintptr_t number) {
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    append(text, length, room, digits + at);
}

static int has_ended(const struct region *region, int milliseconds) {
    struct pollfd connection = {.fd = region->connection, .events = POLLRDHUP};
    return region->connection < 0 || poll(&connection, 1, milliseconds) == 1;
}

static void say(const struct region *region, uintptr_t address) {
    char text[MOST_NAME * 3];
    size_t length = 0, room = sizeof text;
    uintptr_t offset = address - region->start;
    append(text, &length, room, "lib_usm: SIGBUS at page ");
    append_number(text, &length, room, offset / region->page_size);
    append(text, &length, room, " (byte ");
    append_number(text, &length, room, offset);
    append(text, &length, room, ") of ");
    append(text, &length, room, region->name);
    const char *reason = reason_texts[region->reasons[offset / region->page_size] % MOST_REASONS];
    /* A page without a reason: the session is ending; the daemon poisons its pages shortly before it hangs up. */
    if (has_ended(region, *reason == 0 ? END_MILLISECONDS : 0)) {
        append(text, &length, room,
               ": the session has ended, so its bytes are gone (usmd was drained or killed it, or the client was "
               "closed); the daemon's log says why.\n");
    } else {
        append(text, &length, room, ": the daemon could not bring the page");
        append(text, &length, room, *reason != 0 ? ": " : "");
        append(text, &length, room, reason);
        append(text, &length, room,
               "; its log and `usmctl explain` say more. Region.ensure and Region.read raise an error instead.\n");
    }
    struct pollfd standard_error = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&standard_error, 1, WRITE_MILLISECONDS) == 1) { /* a pipe with room accepts the whole text at once */
        ssize_t written = write(STDERR_FILENO, text, length);
        (void)written;
    }
}

static void on_sigbus(int number, siginfo_t *info, void *context) {
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    (void)context;
    if (info->si_code > 0) { /* caused by a touch, not by kill() */
        for (int index = 0; index < MOST_REGIONS; index++) {
            const struct region *region = &regions[index];
            if (region->start != 0 && region->start <= address && address < region->end) {
                say(region, address);
                break;
            }
        }
    }
    /* When this returns, the touch is repeated and goes to the earlier handler. The exchange allows that only once: an
       earlier handler may reinstall this one and raise the signal again, as faulthandler does. */
    if (__atomic_exchange_n(&called, 1, __ATOMIC_SEQ_CST)) {
        before.sa_handler = SIG_DFL;
        before.sa_flags = 0;
    }
    sigaction(SIGBUS, &before, NULL);
    if (info->si_code <= 0) {
        raise(number);
    }
    errno = saved;
}

/* Set the text for a value of the `reasons` bytes. */
void usm_reason(int number, const char *text) {
    if (0 <= number && number < MOST_REASONS) {
        strncpy(reason_texts[number], text, MOST_REASON - 1);
    }
}

/* Watch a range of addresses, with one byte a page at `reasons`. Returns its number, or -1 if there are too many. */
int usm_watch(uintptr_t start, uintptr_t length, uintptr_t page_size, int connection, const char *name,
              const unsigned char *reasons) {
    struct sigaction current;
    for (int index = 0; index < MOST_REGIONS; index++) {
        struct region *region = &regions[index];
        if (region->start != 0) {
            continue;
        }
        region->end = start + length;
        region->page_size = page_size;
        region->connection = connection;
        region->reasons = reasons;
        strncpy(region->name, name, MOST_NAME - 1);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        region->start = start;
        sigaction(SIGBUS, NULL, &current);
        if (!(current.sa_flags & SA_SIGINFO) || current.sa_sigaction != on_sigbus) {
            /* Also if the application has installed a handler since: that one runs after this one. */
            struct sigaction ours = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
            sigemptyset(&ours.sa_mask);
            before = current;
            sigaction(SIGBUS, &ours, NULL);
        }
        return index;
    }
    return -1;
}

/* The session of a range has ended, or this process has closed its connection. */
void usm_ended(int index) {
    regions[index].connection = -1;
}

/* End what `usm_watch` began. */
void usm_forget(int index) {
    regions[index].start = 0;
}
