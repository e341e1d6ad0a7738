/* The faulting side of every measurement of real page faults: touches memory and times each touch.
 *
 * usmd, the C handler and the kernel alone are measured by the same code, so that only the server of the fault differs.
 * bench/native.py calls this library without Python's lock. Times are nanoseconds of CLOCK_MONOTONIC.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The word at `index` of the data of `seed` (splitmix64): no two pages are alike, and none compresses. */
static uint64_t word(uint64_t seed, uint64_t index)
{
	uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Read or write one byte of each page, in the given order; ns[i] is the time of touch i. */
void touch_pages(unsigned char *base, const uint32_t *pages, size_t count, size_t page_size, int write, uint64_t *ns)
{
	uint64_t before = now();

	for (size_t i = 0; i < count; i++) {
		volatile unsigned char *byte = base + (size_t)pages[i] * page_size;
		uint64_t after;

		if (write)
			*byte = 1;
		else
			(void)*byte;
		after = now();
		ns[i] = after - before;
		before = after;
	}
}

/* Store the data of `seed` in the `bytes` bytes at `offset`. */
void fill(unsigned char *base, size_t offset, size_t bytes, uint64_t seed)
{
	uint64_t *words = (uint64_t *)base;

	for (size_t i = offset / sizeof(*words); i < (offset + bytes) / sizeof(*words); i++)
		words[i] = word(seed, i);
}

/* Number of words of the `bytes` bytes at `offset` that differ from the data of `seed`. */
size_t wrong_words(const unsigned char *base, size_t offset, size_t bytes, uint64_t seed)
{
	const uint64_t *words = (const uint64_t *)base;
	size_t wrong = 0;

	for (size_t i = offset / sizeof(*words); i < (offset + bytes) / sizeof(*words); i++)
		wrong += words[i] != word(seed, i);
	return wrong;
}

#define RECORD_WORDS 8

/* Read `count` records of 64 bytes, numbered by records[i] from `base`; ns[i] is the time of read i.
 * Returns how many differ from the data of `seed`; the comparison is not timed.
 */
size_t read_records(const unsigned char *base, const uint32_t *records, size_t count, uint64_t seed, uint64_t *ns)
{
	size_t wrong = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t first = (uint64_t)records[i] * RECORD_WORDS, got[RECORD_WORDS], differs = 0;
		uint64_t before = now();

		memcpy(got, base + first * sizeof(*got), sizeof(got));
		__asm__ volatile("" : : "r"(got) : "memory"); /* the copy is made here, not later */
		ns[i] = now() - before;
		for (size_t w = 0; w < RECORD_WORDS; w++)
			differs |= got[w] ^ word(seed, first + w);
		wrong += differs != 0;
	}
	return wrong;
}
