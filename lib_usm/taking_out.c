/* A thread that takes pages out of the page table where usmd asks for that, see native/taking_out.h. It needs no lock of
   Python's: a thread in a page fault holds that. lib_usm/taking_out.py calls `usm_begin_taking_out`. */

#define _GNU_SOURCE
#include "native/taking_out.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#if USM_RAW

#define STACK ((size_t)256 << 10) /* reserved; 12 KiB of it are used */

struct socket {
    int descriptor;
    uint64_t file;
};

static void *run(void *argument) {
    struct socket of = *(struct socket *)argument;
    free(argument);
    prctl(PR_SET_NAME, "usm-touches", 0, 0, 0);
    while (usm_take_out(of.descriptor, of.file)) {
    }
    return NULL;
}

/* Begins the thread for a socket, which it closes when usmd ends the session. Returns an errno; then the socket is as
   it was. */
int usm_begin_taking_out(int descriptor) {
    struct socket *of = malloc(sizeof *of);
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (of == NULL || pthread_attr_init(&attributes) != 0) {
        free(of);
        return ENOMEM;
    }
    of->descriptor = descriptor;
    of->file = usm_file_of(descriptor);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all); /* the thread inherits that: no handler of the program's runs on it */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attributes, run, of);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        free(of);
    }
    return error;
}

#else

int usm_begin_taking_out(int descriptor) {
    (void)descriptor;
    return ENOSYS;
}

#endif
