/* A program that knows nothing of usmd; its first argument says what it does. It ends with 0 if every byte was
   right. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define MEBIBYTE ((size_t)1 << 20)
#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__, #condition, errno);                                 \
            exit(3);                                                                                                  \
        }                                                                                                             \
    } while (0)

static char *map(size_t length) {
    char *mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapped != MAP_FAILED);
    return mapped;
}

static int all(const char *bytes, size_t length, char value) {
    for (size_t at = 0; at < length; at++) {
        if (bytes[at] != value) {
            return 0;
        }
    }
    return 1;
}

/* churn THREADS ROUNDS BLOCKS: each thread allocates, reallocates, frees, and checks at random. */

static int rounds, blocks;

struct block {
    uint8_t *bytes, first;
    size_t length;
};

static size_t a_length(unsigned *seed) {
    return 1 + (size_t)rand_r(seed) % (rand_r(seed) % 4 == 0 ? 150000 : 3000);
}

static void fill(struct block *block, size_t from) {
    for (size_t at = from; at < block->length; at++) {
        block->bytes[at] = (uint8_t)(block->first + at);
    }
}

static void *churn(void *number) {
    unsigned seed = (unsigned)(uintptr_t)number;
    struct block *mine = calloc((size_t)blocks, sizeof *mine);
    for (int round = 0; round < rounds; round++) {
        struct block *block = &mine[rand_r(&seed) % blocks];
        for (int check = 0; check < 4 && block->bytes != NULL; check++) {
            size_t at = (size_t)rand_r(&seed) % block->length;
            CHECK(block->bytes[at] == (uint8_t)(block->first + at));
        }
        switch (block->bytes == NULL ? 1 : rand_r(&seed) % 4) {
        case 0:
            free(block->bytes);
            block->bytes = NULL;
            break;
        case 1:
            free(block->bytes);
            block->length = a_length(&seed);
            block->first = (uint8_t)rand_r(&seed);
            block->bytes = calloc(1, block->length);
            CHECK(all((char *)block->bytes, block->length, 0));
            fill(block, 0);
            break;
        case 2: {
            size_t before = block->length;
            block->length = a_length(&seed);
            block->bytes = realloc(block->bytes, block->length);
            CHECK(block->bytes != NULL);
            fill(block, before);
        }
        }
    }
    for (int index = 0; index < blocks; index++) {
        for (size_t at = 0; mine[index].bytes != NULL && at < mine[index].length; at++) {
            CHECK(mine[index].bytes[at] == (uint8_t)(mine[index].first + at));
        }
        free(mine[index].bytes);
    }
    free(mine);
    return NULL;
}

static void churn_all(int threads) {
    pthread_t made[64];
    for (intptr_t thread = 0; thread < threads; thread++) {
        CHECK(pthread_create(&made[thread], NULL, churn, (void *)(thread + 1)) == 0);
    }
    for (int thread = 0; thread < threads; thread++) {
        CHECK(pthread_join(made[thread], NULL) == 0);
    }
}

/* maps: what a program may do to its mappings */

static void use_maps(void) {
    size_t length = 4 * MEBIBYTE; /* more than usmd has memory */
    char *first = map(length);
    CHECK(all(first, length, 0));
    memset(first, 1, length);
    CHECK(munmap(first + MEBIBYTE, MEBIBYTE) == 0);
    CHECK(all(first, MEBIBYTE, 1) && all(first + 2 * MEBIBYTE, 2 * MEBIBYTE, 1));
    char *second = map(MEBIBYTE);
    CHECK(second == first + MEBIBYTE); /* what was given back is used again, */
    CHECK(all(second, MEBIBYTE, 0));   /* and has no byte of before */
    memset(second, 2, MEBIBYTE);
    CHECK(madvise(second + PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
    CHECK(all(second, PAGE, 2) && all(second + PAGE, 2 * PAGE, 0) && all(second + 3 * PAGE, MEBIBYTE - 3 * PAGE, 2));

    char *grown = mremap(second, MEBIBYTE, 2 * MEBIBYTE, 0); /* something is behind it */
    CHECK(grown == MAP_FAILED && errno == ENOMEM);
    grown = mremap(second, MEBIBYTE, 2 * MEBIBYTE, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED && grown != second);
    CHECK(all(grown, PAGE, 2) && all(grown + PAGE, 2 * PAGE, 0) && all(grown + MEBIBYTE, MEBIBYTE, 0));
    CHECK(mremap(grown, 2 * MEBIBYTE, 3 * MEBIBYTE, 0) == grown); /* nothing is behind it */
    CHECK(all(grown + 2 * MEBIBYTE, MEBIBYTE, 0));
    memset(grown, 3, 3 * MEBIBYTE);
    CHECK(mremap(grown, 3 * MEBIBYTE, MEBIBYTE, 0) == grown);
    CHECK(mremap(grown, MEBIBYTE, 2 * MEBIBYTE, 0) == grown);
    CHECK(all(grown, MEBIBYTE, 3) && all(grown + MEBIBYTE, MEBIBYTE, 0));

    /* Rights that were taken away are there again for the next mapping. */
    CHECK(mprotect(grown + PAGE, PAGE, PROT_NONE) == 0);
    CHECK(munmap(grown, 2 * MEBIBYTE) == 0);
    char *again = map(2 * MEBIBYTE);
    memset(again, 4, 2 * MEBIBYTE);

    /* New zeros, and then another kind of mapping, over a part of it. */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    CHECK(mmap(again + PAGE, PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == again + PAGE);
    CHECK(all(again, PAGE, 4) && all(again + PAGE, PAGE, 0) && all(again + 2 * PAGE, PAGE, 4));
    flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
    CHECK(mmap(again + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == again + 3 * PAGE);
    again[3 * PAGE] = 5;
    CHECK(again[2 * PAGE] == 4 && again[4 * PAGE] == 4);
    CHECK(munmap(again, 2 * MEBIBYTE) == 0);
    CHECK(munmap(again, 2 * MEBIBYTE) == 0); /* where nothing is mapped, nothing is done */
    for (int round = 0; round < 50; round++) {
        char *other = map(2 * MEBIBYTE); /* not where the shared page was */
        CHECK(other[3 * PAGE] == 0);
        other[3 * PAGE] = 1;
        CHECK(munmap(other, 2 * MEBIBYTE) == 0);
    }

    int pipes[2]; /* system calls wait for their pages */
    CHECK(pipe(pipes) == 0 && write(pipes[1], first, 1000) == 1000);
    CHECK(read(pipes[0], first + 3 * MEBIBYTE, 1000) == 1000);
    CHECK(all(first, MEBIBYTE, 1) && all(first + 2 * MEBIBYTE, 2 * MEBIBYTE, 1));
    CHECK(munmap(first + PAGE / 2, PAGE) == -1 && errno == EINVAL);
}

/* signals: a handler that maps and unmaps, while its thread does */

static volatile sig_atomic_t handled;

static void on_alarm(int number) {
    (void)number;
    char *mapped = map(128 << 10);
    *mapped = 1;
    CHECK(munmap(mapped, 128 << 10) == 0);
    handled++;
}

static void use_signals(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
    while (handled < 100) {
        char *mapped = map(256 << 10);
        CHECK(*mapped == 0);
        *mapped = 1;
        CHECK(munmap(mapped, 256 << 10) == 0);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

/* children */

static int status_of(pid_t child) {
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void map_and_leave(void) {
    memset(map(MEBIBYTE), 1, MEBIBYTE);
    _exit(7);
}

static void spawn_children(char *self) {
    static char *arguments[] = {NULL, "exit", "7", NULL};
    extern char **environ;
    pid_t child;
    arguments[0] = self;
    CHECK(posix_spawn(&child, self, NULL, NULL, arguments, environ) == 0 && status_of(child) == 7);
    child = vfork();
    if (child == 0) {
        execv(self, arguments);
        _exit(1);
    }
    CHECK(status_of(child) == 7);
    CHECK(system("exit 7") >> 8 == 7);
}

/* outlive HOW: when usmd is gone, writes to each page that is in memory, and then touches one that is not */

static int is_resident(char *page) {
    unsigned char found;
    CHECK(mincore(page, PAGE, &found) == 0);
    return found & 1;
}

static void outlive(const char *how) {
    size_t pages = 512, written = 0;
    char *mapped = map(pages * PAGE), *lost = NULL, line[8];
    signal(SIGBUS, SIG_IGN); /* the end is not to depend on what the program does with signals */
    memset(mapped, 9, pages * PAGE);
    CHECK(all(mapped, pages * PAGE, 9)); /* what was read last is clean: the next write to it is a fault */
    puts("ready");
    fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin) != NULL);
    for (char *page = mapped; page < mapped + pages * PAGE; page += PAGE) {
        if (is_resident(page)) {
            CHECK(all(page, PAGE, 9));
            memset(page, 8, PAGE);
            written++;
        } else {
            lost = page;
        }
    }
    printf("%zu\n", written);
    fflush(stdout);
    CHECK(lost != NULL);
    if (strcmp(how, "by a system call") == 0) {
        int zeros = open("/dev/zero", O_RDONLY);
        CHECK(read(zeros, lost, 1) == 1);
    } else if (strcmp(how, "in a child by vfork") == 0 && vfork() == 0) {
        _exit(*lost);
    }
    printf("%d\n", *lost);
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    if (strcmp(what, "churn") == 0) {
        rounds = atoi(arguments[3]);
        blocks = atoi(arguments[4]);
        churn_all(atoi(arguments[2]));
    } else if (strcmp(what, "maps") == 0) {
        use_maps();
    } else if (strcmp(what, "hot") == 0) { /* touches some pages again and again between the others */
        int pages = atoi(arguments[2]), hot = atoi(arguments[3]);
        char *mapped = map((size_t)pages * PAGE);
        for (int page = 0; page < pages; page++) {
            mapped[(size_t)page * PAGE] = (char)(page % 100 + 1);
        }
        for (int page = hot; page < pages; page++) {
            CHECK(mapped[(size_t)page * PAGE] == (char)(page % 100 + 1));
            CHECK(mapped[(size_t)(page % hot) * PAGE] == (char)(page % hot % 100 + 1));
        }
    } else if (strcmp(what, "signals") == 0) {
        use_signals();
    } else if (strcmp(what, "exit") == 0) {
        return atoi(arguments[2]);
    } else if (strcmp(what, "fork") == 0) { /* prints what came of it */
        char *mapped = map(MEBIBYTE);
        memset(mapped, 6, MEBIBYTE);
        spawn_children(arguments[0]);
        pid_t child = fork();
        if (child == 0) {
            execl(arguments[0], arguments[0], "exit", "8", NULL);
            _exit(1);
        }
        printf("%d\n", child < 0 ? errno : status_of(child));
        CHECK(all(mapped, MEBIBYTE, 6));
    } else if (strcmp(what, "children first") == 0) { /* both have a mapping before this process has one */
        pid_t by_vfork = vfork();
        if (by_vfork == 0) {
            map_and_leave();
        }
        CHECK(status_of(by_vfork) == 7);
        pid_t by_fork = fork();
        if (by_fork == 0) {
            map_and_leave();
        }
        CHECK(status_of(by_fork) == 7);
        memset(map(MEBIBYTE), 1, MEBIBYTE);
    } else if (strcmp(what, "touch in child") == 0) {
        char *mapped = map(MEBIBYTE);
        *mapped = 6;
        pid_t child = fork();
        if (child == 0) {
            _exit(*mapped);
        }
        printf("%d\n", status_of(child));
    } else if (strcmp(what, "exec") == 0) { /* becomes another program, which has memory of its own */
        memset(map(MEBIBYTE), 1, MEBIBYTE);
        char *next[] = {arguments[0], "churn", "1", "300", "16", NULL};
        execv(arguments[0], next);
        return 1;
    } else if (strcmp(what, "outlive") == 0) {
        outlive(arguments[2]);
    } else if (strcmp(what, "hold") == 0) { /* holds bytes, and looks at them for each line of its input */
        size_t length = (size_t)atoi(arguments[2]) * PAGE;
        char *mapped = map(length), line[8];
        memset(mapped, 9, length);
        do {
            puts(all(mapped, length, 9) ? "right" : "wrong");
            fflush(stdout);
        } while (fgets(line, sizeof line, stdin) != NULL);
    } else {
        return 2;
    }
    puts("done");
    return 0;
}
