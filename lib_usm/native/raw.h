/* System calls that leave errno alone, for a thread that is none of the C library's: they return -errno. */

#ifndef USM_RAW_H
#define USM_RAW_H

#include <stdint.h>

#if defined(__x86_64__)
#define USM_RAW 1
static inline long usm_raw(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define USM_RAW 1
static inline long usm_raw(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#define USM_RAW 0
#endif

#define USM_RAW3(number, a, b, c) usm_raw(number, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define USM_RAW4(number, a, b, c, d) usm_raw(number, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

#endif
