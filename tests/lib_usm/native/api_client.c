/* Every call of usm.h, in a process whose daemon has 1 MiB of memory. Prints "done" if each did what it should. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <usm.h>

#define PAGE 4096
#define PAGES 512 /* 2 MiB */
#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "line %d: %s (errno %d, %s)\n", __LINE__, #condition, errno, usm_error());                \
            exit(3);                                                                                                  \
        }                                                                                                             \
    } while (0)
#define FAILS(call, number, words)                                                                                    \
    do {                                                                                                              \
        errno = 0;                                                                                                    \
        CHECK((call) && errno == (number) && strstr(usm_error(), words) != NULL);                                     \
    } while (0)

int main(int count, char **arguments) {
    if (count > 1) {
        FAILS(usm_connect(arguments[1], NULL) == -1, ENOENT, "cannot be reached");
        FAILS(usm_mmap(PAGE) == NULL, ENOENT, "cannot be reached"); /* tried again each time: it may be there by then */
        FAILS(usm_connect("unix:", NULL) == -1, EINVAL, "allowed is unix:PATH");
        puts("done");
        return 0;
    }
    CHECK(usm_connect(NULL, "api") == 0 && usm_connect(NULL, NULL) == 0);
    char *first = usm_mmap(PAGES * PAGE), *second = usm_mmap(10);
    CHECK(first != NULL && second != NULL && *second == 0 && *usm_error() == 0);
    memset(first, 1, PAGES * PAGE);
    FAILS(usm_mmap(0) == NULL, EINVAL, "a mapping of 0 bytes");
    FAILS(usm_mmap((size_t)1 << 50) == NULL, ENOMEM, "a mapping of");

    CHECK(usm_hint(first + 5 * PAGE, PAGE, "PRIORITY=HIGH") == 0);
    CHECK(usm_hint(second, 0, "X_OWNER=me") == 0 && usm_hint(second, 0, "") == 0);
    FAILS(usm_hint(first, 0, "PRIORITY=HIGHEST") == -1, EINVAL, "HIGHEST");
    FAILS(usm_hint(&count, 0, "PRIORITY=HIGH") == -1, EINVAL, "not all of that is memory of usmd's");
    FAILS(usm_hint(second, 3 * PAGE, "PRIORITY=HIGH") == -1, EINVAL, "not all of that is memory of usmd's");

    CHECK(usm_evict(first, 0) == 0 && usm_ensure(first, 32 * PAGE) == 0 && usm_ensure(first, 0) == 0);
    FAILS(usm_ensure(NULL, PAGE) == -1, EINVAL, "not all of that is memory of usmd's");
    for (int page = 0; page < PAGES; page++) {
        CHECK(first[page * PAGE] == 1 && first[page * PAGE + PAGE - 1] == 1);
    }

    FAILS(usm_munmap(first + 1, PAGE) == -1, EINVAL, "from a multiple of");
    FAILS(usm_munmap(first, 0) == -1, EINVAL, "at least a byte");
    CHECK(usm_munmap(first + PAGE, PAGE) == 0);
    FAILS(usm_munmap(first, 3 * PAGE) == -1, EINVAL, "not all of that is memory of usmd's");
    CHECK(usm_mmap(PAGE) == first + PAGE && first[PAGE] == 0 && first[0] == 1 && first[2 * PAGE] == 1);
    CHECK(usm_hint(first + 9 * PAGE, 0, "PRIORITY=LOW") == 0); /* the mapping now begins behind the hole */

    pid_t child = fork(); /* this program asked for the memory, and knows that a child has none */
    if (child == 0) {
        _exit(usm_mmap(PAGE) == NULL && errno == ECHILD && usm_munmap(first, PAGE) == -1 ? 7 : 8);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(usm_munmap(first, PAGES * PAGE) == 0 && usm_munmap(second, 10) == 0);
    puts("done");
    return 0;
}
