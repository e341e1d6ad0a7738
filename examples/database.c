/* A database in C whose memory is usmd's: an index that every query needs, and a cache of records, larger than the
   memory there is. Two hints say which is which, so that scans of the cache do not push the index out.

   cc -O2 examples/database.c $(pkg-config --cflags --libs usm) -o database
   ./database RECORDS QUERIES [plain]

   With `plain` no hint is given. It prints how many queries took how long, after it has checked each answer. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <usm.h>

#define RECORD 1024
#define SCANNED 64 /* records that a query reads beside the one that it looks for */

struct entry {
    uint64_t key;
    uint64_t record;
};

static uint64_t key_of(uint64_t record) {
    return record * 0x9E3779B97F4A7C15u; /* every number once, in no order */
}

static size_t slot_of(uint64_t key, size_t slots) {
    return (size_t)(key >> 20) & (slots - 1);
}

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, usm_error());
    exit(1);
}

static void insert(struct entry *index, size_t slots, uint64_t record) {
    size_t slot = slot_of(key_of(record), slots);
    while (index[slot].key != 0) {
        slot = (slot + 1) & (slots - 1);
    }
    index[slot].key = key_of(record);
    index[slot].record = record;
}

static uint64_t look_up(const struct entry *index, size_t slots, uint64_t key) {
    size_t slot = slot_of(key, slots);
    while (index[slot].key != key) {
        slot = (slot + 1) & (slots - 1);
    }
    return index[slot].record;
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: %s RECORDS QUERIES [plain]\n", arguments[0]);
        return 2;
    }
    uint64_t records = strtoull(arguments[1], NULL, 10), queries = strtoull(arguments[2], NULL, 10);
    size_t slots = 1;
    while (slots < 2 * records) {
        slots *= 2;
    }
    struct entry *index_buffer = usm_mmap(slots * sizeof *index_buffer);
    char *data_cache = usm_mmap((records + SCANNED) * RECORD);
    if (index_buffer == NULL || data_cache == NULL) {
        die("usm_mmap");
    }
    if (count == 3 && (usm_hint(index_buffer, 0, "PRIORITY=HIGH; EVICTION=DENY") != 0 ||
                       usm_hint(data_cache, 0, "PRIORITY=LOW; EVICTION=ALLOW") != 0)) {
        die("usm_hint");
    }
    for (uint64_t record = 1; record <= records; record++) {
        insert(index_buffer, slots, record);
        memset(data_cache + (record - 1) * RECORD, (int)(record % 251), RECORD);
    }
    unsigned seed = 1;
    clock_t begun = clock();
    for (uint64_t query = 0; query < queries; query++) {
        uint64_t wanted = 1 + (uint64_t)rand_r(&seed) % records, found = look_up(index_buffer, slots, key_of(wanted));
        const char *bytes = data_cache + (found - 1) * RECORD;
        for (uint64_t other = 0; other < SCANNED && found + other <= records; other++) {
            if (bytes[other * RECORD] != (char)((found + other) % 251)) {
                fprintf(stderr, "record %llu is wrong\n", (unsigned long long)(found + other));
                return 1;
            }
        }
    }
    printf("%llu queries are right, %.2f s of CPU\n", (unsigned long long)queries,
           (double)(clock() - begun) / CLOCKS_PER_SEC);
    if (usm_munmap(data_cache, (records + SCANNED) * RECORD) != 0 ||
        usm_munmap(index_buffer, slots * sizeof *index_buffer) != 0) {
        die("usm_munmap");
    }
    return 0;
}
