/* The connection of the session to usmd: its lock, its requests and their answers. */

#define _GNU_SOURCE
#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SECONDS 10 /* for each answer; then usmd counts as gone */
#define MOST_DESCRIPTORS 4
#define DESCRIPTORS_FROM 200 /* out of the way of programs that count on low descriptors */
#define SYSTEM_FOLDER "/run/usmd"
#define NEW_USERFAULTFD 0xAA00

struct usm_session usm = {.connection = -1, .userfaultfd = -1, .stream = -1, .touches = -1};

/* The lock: 0 free, 1 taken, 2 taken and wanted */

int usm_session_lock;

void usm_lock_of(int *lock, struct usm_mask *saved) {
    uint64_t all[16];
    memset(all, 0xFF, sizeof all);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, all, saved->bits, 8);
    int found = 0;
    if (!__atomic_compare_exchange_n(lock, &found, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        while (__atomic_exchange_n(lock, 2, __ATOMIC_ACQUIRE) != 0) {
            syscall(SYS_futex, lock, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, NULL, NULL, 0);
        }
    }
}

void usm_unlock_of(int *lock, const struct usm_mask *saved) {
    if (__atomic_exchange_n(lock, 0, __ATOMIC_RELEASE) == 2) {
        syscall(SYS_futex, lock, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, saved->bits, NULL, 8);
}

/* Words */

void usm_say(const char *text) {
    char line[USM_ERROR_TEXT + 300];
    int length = snprintf(line, sizeof line, "usm: %s (process %d): %s\n", program_invocation_short_name,
                          (int)syscall(SYS_getpid), text);
    size_t most = length < (int)sizeof line ? (size_t)length : sizeof line - 1;
    ssize_t written = write(STDERR_FILENO, line, most);
    (void)written;
}

bool usm_fail(int error, const char *format, ...) {
    va_list values;
    usm.error = error;
    va_start(values, format);
    vsnprintf(usm.words, sizeof usm.words, format, values);
    va_end(values);
    return false;
}

size_t usm_hardware_page(void) {
    static size_t size;
    if (size == 0) {
        size = (size_t)sysconf(_SC_PAGESIZE);
    }
    return size;
}

bool usm_is_owner(void) {
    return usm.owner == (pid_t)syscall(SYS_getpid);
}

/* Out of the way of the program, which may expect to get the lowest numbers, or close all up to some number. */
static int out_of_the_way(int descriptor) {
    int moved = fcntl(descriptor, F_DUPFD_CLOEXEC, DESCRIPTORS_FROM);
    if (moved < 0) {
        return descriptor;
    }
    close(descriptor);
    return moved;
}

/* Requests */

void usm_close_all(int *descriptors, size_t count) {
    for (size_t index = 0; index < count; index++) {
        close(descriptors[index]);
        descriptors[index] = -1;
    }
}

static bool send_packet(int socket, const struct usm_message *message, int descriptor) {
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {(void *)message->bytes, message->length};
    struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
    if (message->too_long) {
        return usm_fail(EMSGSIZE, "the request is too long for usmd");
    }
    if (descriptor >= 0) {
        header.msg_control = control;
        header.msg_controllen = sizeof control;
        struct cmsghdr *with = CMSG_FIRSTHDR(&header);
        with->cmsg_level = SOL_SOCKET;
        with->cmsg_type = SCM_RIGHTS;
        with->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(with), &descriptor, sizeof descriptor);
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket, &header, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)message->length || usm_fail(errno, "usmd cannot be asked: %s", strerror(errno));
}

/* The answer in `reply`, and the `wanted` descriptors that come with it, or the one that `may_come`. False if there is no
   answer, or a wrong one. */
static bool receive(int socket, struct usm_reply *reply, int *descriptors, size_t wanted, bool may_come) {
    static unsigned char bytes[USM_PACKET]; /* of the lock: stacks may be small */
    union {
        char bytes[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec data = {bytes, sizeof bytes};
    struct msghdr header = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    int found[MOST_DESCRIPTORS];
    size_t count = 0;
    ssize_t got;
    do {
        got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        const char *why = errno == EAGAIN ? "it did not answer in time" : strerror(errno);
        return usm_fail(errno == EAGAIN ? ETIMEDOUT : errno, "usmd is gone: %s", why);
    }
    for (struct cmsghdr *with = CMSG_FIRSTHDR(&header); with != NULL; with = CMSG_NXTHDR(&header, with)) {
        if (with->cmsg_level == SOL_SOCKET && with->cmsg_type == SCM_RIGHTS) {
            size_t here = (with->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t index = 0; index < here && count < MOST_DESCRIPTORS; index++) {
                memcpy(&found[count++], CMSG_DATA(with) + index * sizeof(int), sizeof(int));
            }
        }
    }
    if (got == 0) {
        usm_close_all(found, count);
        return usm_fail(ECONNRESET, "usmd has closed the connection");
    }
    if (count < wanted && (header.msg_flags & MSG_CTRUNC) != 0) {
        usm_close_all(found, count);
        return usm_fail(EMFILE, "the descriptors of the region cannot be taken: %s", strerror(EMFILE));
    }
    bool good = !(header.msg_flags & MSG_TRUNC) && usm_decode_reply(bytes, (size_t)got, reply);
    if (!good || (reply->reason == 0 && count != wanted && !(may_come && count == 1))) {
        usm_close_all(found, count);
        return usm_fail(EPROTO, "what usmd answered cannot be understood");
    }
    if (reply->reason != 0) {
        usm_close_all(found, count);
        return true;
    }
    for (size_t index = 0; index < count; index++) {
        descriptors[index] = found[index];
    }
    return true;
}

int usm_errno_of(uint64_t reason) {
    switch (reason) {
    case USM_INVALID_ARGUMENT:
    case USM_INVALID_HINT:
    case USM_OUT_OF_RANGE:
    case USM_NOT_FOUND:
        return EINVAL;
    case USM_OUT_OF_MEMORY:
        return ENOMEM;
    case USM_LIMIT_EXCEEDED:
        return EAGAIN;
    case USM_DATA_LOSS:
    case USM_SWAP_IO:
        return EIO;
    case USM_SESSION_KILLED:
    case USM_DRAINING:
        return ECONNRESET;
    default:
        return EPROTO;
    }
}

static void lost(void) {
    if (usm.state == USM_READY) {
        usm.state = USM_GONE;
        char line[USM_ERROR_TEXT + 64];
        snprintf(line, sizeof line, "%s; new memory is not usmd's from now on", usm.words);
        usm_say(line);
    }
}

static bool ask(const struct usm_message *message, int send, struct usm_reply *reply, int *descriptors, size_t wanted,
                bool may_come) {
    reply->reason = 0;
    if (!send_packet(usm.connection, message, send) ||
        !receive(usm.connection, reply, descriptors, wanted, may_come)) {
        if (!message->too_long) {
            lost();
        }
        return false;
    }
    if (reply->reason != 0) {
        usm_fail(usm_errno_of(reply->reason), "usmd refuses: %s", reply->message);
        if (reply->reason == USM_SESSION_KILLED || reply->reason == USM_DRAINING) {
            lost();
        }
        return false;
    }
    return true;
}

bool usm_ask(const struct usm_message *message, int send, struct usm_reply *reply, int *descriptors, size_t wanted) {
    return ask(message, send, reply, descriptors, wanted, false);
}

bool usm_ask_to_begin(const struct usm_message *message, struct usm_reply *reply) {
    if (!ask(message, usm.userfaultfd, reply, &usm.touches, 0, true)) {
        return false;
    }
    if (usm.touches >= 0) {
        usm.touches = out_of_the_way(usm.touches);
    }
    return true;
}

static bool is_own(const char *folder, bool link) {
    struct stat found;
    int error = link ? stat(folder, &found) : lstat(folder, &found);
    if (error != 0) {
        return errno == ENOENT;
    }
    return S_ISDIR(found.st_mode) && found.st_uid == geteuid() && !(found.st_mode & (S_IWGRP | S_IWOTH));
}

/* The client socket, by the rule of lib_usm/address.py. */
static bool find_socket(const char *address, char *path, size_t room) {
    if (address == NULL || *address == 0) {
        address = secure_getenv("USM_ADDRESS");
    }
    if (address != NULL && *address != 0) {
        const char *given = strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
        while (given[0] == '/' && given[1] == '/') {
            given++;
        }
        if (*given == 0 || strlen(given) >= room) {
            return usm_fail(EINVAL, "address %s cannot be used; allowed is unix:PATH, or a path", address);
        }
        strcpy(path, given);
        return true;
    }
    char folder[100] = SYSTEM_FOLDER;
    const char *base = secure_getenv("XDG_RUNTIME_DIR");
    if (base != NULL && *base == '/' && strlen(base) < sizeof folder - 6 && is_own(base, true)) {
        snprintf(folder, sizeof folder, "%s/usmd", base);
    } else if (geteuid() != 0) {
        snprintf(folder, sizeof folder, "/tmp/usmd-%u", (unsigned)geteuid());
    }
    bool safe = strcmp(folder, SYSTEM_FOLDER) == 0 || is_own(folder, false);
    snprintf(path, room, "%s/usmd.sock", folder);
    if (geteuid() != 0 && access(SYSTEM_FOLDER "/usmd.sock", F_OK) == 0 && !(safe && access(path, F_OK) == 0)) {
        snprintf(path, room, "%s", SYSTEM_FOLDER "/usmd.sock");
        return true;
    }
    return safe || usm_fail(EACCES, "folder %s may be another user's; name a socket in $USM_ADDRESS", folder);
}

bool usm_connect_to(const char *address) {
    struct sockaddr_un peer = {.sun_family = AF_UNIX};
    struct timeval seconds = {.tv_sec = SECONDS};
    char path[sizeof peer.sun_path];
    if (!find_socket(address, path, sizeof path - sizeof ".memory")) {
        return false;
    }
    snprintf(peer.sun_path, sizeof peer.sun_path, "%.*s.memory", (int)(sizeof path - sizeof ".memory"), path);
    int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (made < 0) {
        return usm_fail(errno, "no socket: %s", strerror(errno));
    }
    usm.connection = out_of_the_way(made);
    setsockopt(usm.connection, SOL_SOCKET, SO_RCVTIMEO, &seconds, sizeof seconds);
    setsockopt(usm.connection, SOL_SOCKET, SO_SNDTIMEO, &seconds, sizeof seconds);
    return connect(usm.connection, (struct sockaddr *)&peer, sizeof peer) == 0 ||
           usm_fail(errno, "usmd at %s cannot be reached: %s", path, strerror(errno));
}

/* A userfaultfd that reports the faults of system calls too: without them, read() into managed memory would fail. */
bool usm_open_userfaultfd(void) {
    int flags = O_CLOEXEC | O_NONBLOCK, made = -1, device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device >= 0) {
        made = ioctl(device, NEW_USERFAULTFD, flags);
        close(device);
    } else {
        made = (int)syscall(SYS_userfaultfd, flags);
    }
    if (made < 0) {
        return usm_fail(errno,
                        "this process may not have page faults of system calls served (%s); `usmctl doctor` says how "
                        "to allow it",
                        strerror(errno));
    }
    usm.userfaultfd = out_of_the_way(made);
    return true;
}

