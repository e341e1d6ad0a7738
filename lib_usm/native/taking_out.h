/* How this process takes pages out of its own page table, so that usmd hears of their next touch.

   usmd hands over a socket, and each of its packets has ranges of addresses. MADV_PAGEOUT destroys nothing, whatever is
   at an address by now: the program may have unmapped the region there, and have memory of its own in its place. */

#ifndef USM_TAKING_OUT_H
#define USM_TAKING_OUT_H

#include "raw.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#if USM_RAW

#define USM_MOST_RANGES 256 /* of a packet, see usm_wire/conventions.py */

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* What tells a socket from another one that has its descriptor by now; 0: there is none. */
static inline uint64_t usm_file_of(int descriptor) {
    struct stat found;
    return USM_RAW3(SYS_fstat, descriptor, &found, 0) == 0 ? (uint64_t)found.st_ino : 0;
}

/* Takes out the ranges of the next packet. False if there will be no more, or the program has closed the descriptor,
   which may be another file by now; else it is closed here. */
static inline bool usm_take_out(int descriptor, uint64_t file) {
    struct {
        uint64_t address, length;
    } ranges[USM_MOST_RANGES];
    if (usm_file_of(descriptor) != file) {
        return false;
    }
    long got = usm_raw(SYS_recvfrom, descriptor, (long)ranges, sizeof ranges, 0, 0, 0);
    bool goes_on = got > 0 || got == -EINTR;
    for (long index = 0; index < got / (long)sizeof *ranges; index++) {
        long done = USM_RAW3(SYS_madvise, ranges[index].address, ranges[index].length, MADV_PAGEOUT);
        /* A filter of system calls is for good. Other errors are of one range: it is unmapped, or locked. */
        goes_on = goes_on && done != -EPERM && done != -EACCES && done != -ENOSYS;
    }
    if (!goes_on && usm_file_of(descriptor) == file) {
        USM_RAW3(SYS_shutdown, descriptor, SHUT_RDWR, 0); /* a child by fork may have it open */
        USM_RAW3(SYS_close, descriptor, 0, 0);
    }
    return goes_on;
}

#endif

#endif
