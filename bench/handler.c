/* A userfaultfd handler that does nothing else: the yardstick of bench/real_faults.py.
 *
 *   handler SOCKET LENGTH PAGES SPIN [FILE [direct]]
 *
 * It serves a fault on an untouched page as usmd does, in the same setting. A separate process makes a memfd of LENGTH
 * bytes, maps it, and sends it to the client over SOCKET (an inherited descriptor). The client maps it too, registers
 * it with a userfaultfd, and sends that back with the address. The handler reads each fault, and fills the PAGES pages
 * around it with zeros (UFFDIO_ZEROPAGE). It polls for SPIN microseconds before it waits in poll(). There are no
 * tables, no policies and no eviction. When the client closes its side, the handler sends the numbers of faults and of
 * calls that filled nothing over SOCKET, and ends. The caller chooses its CPU.
 *
 * With FILE it is the yardstick of swap-in: it reads the PAGES pages from the same offset of FILE (pread, with `direct`
 * past the page cache), and brings them in write-protected (UFFDIO_COPY).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGES 64

struct range {
	uint64_t start, length;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Send a byte with a descriptor. */
static void send_descriptor(int to, int descriptor)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
	if (sendmsg(to, &message, 0) != 1)
		die("sendmsg");
}

/* Receive the registered range, and its userfaultfd. */
static int receive_userfaultfd(int from, struct range *range)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec part = {range, sizeof(*range)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header;
	int descriptor;

	if (recvmsg(from, &message, MSG_WAITALL) != sizeof(*range) || !(header = CMSG_FIRSTHDR(&message)))
		die("recvmsg");
	memcpy(&descriptor, CMSG_DATA(header), sizeof(int));
	return descriptor;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Fill the block of `block` bytes around `address`, cut at the end of the range; 0 if nothing was missing there. */
static int serve(int userfaultfd, const struct range *range, uint64_t address, uint64_t block)
{
	uint64_t start = address - (address - range->start) % block, end = range->start + range->length;
	struct uffdio_zeropage fill = {.range = {start, start + block < end ? block : end - start}};

	while (ioctl(userfaultfd, UFFDIO_ZEROPAGE, &fill)) {
		uint64_t done = fill.zeropage > 0 ? (uint64_t)fill.zeropage : 0;

		if (errno == EEXIST) { /* another thread's fault was first */
			ioctl(userfaultfd, UFFDIO_WAKE, &fill.range);
			return done > 0;
		}
		if (errno != EAGAIN)
			die("UFFDIO_ZEROPAGE");
		fill.range.start += done;
		fill.range.len -= done;
	}
	return 1;
}

/* Where swapped pages are, and memory to read them into; file -1: there are none. */
struct swap {
	int file;
	char *staging;
};

/* As `serve`, with the pages' bytes. */
static int serve_swapped(int userfaultfd, const struct range *range, uint64_t address, uint64_t block, const struct swap *swap)
{
	uint64_t offset = (address - range->start) / block * block;
	uint64_t length = offset + block < range->length ? block : range->length - offset;
	struct uffdio_copy copy = {.dst = range->start + offset, .src = (uint64_t)(uintptr_t)swap->staging, .len = length,
				   .mode = UFFDIO_COPY_MODE_WP};

	if (pread(swap->file, swap->staging, length, (off_t)offset) != (ssize_t)length)
		die("pread");
	while (ioctl(userfaultfd, UFFDIO_COPY, &copy)) {
		uint64_t done = copy.copy > 0 ? (uint64_t)copy.copy : 0;

		if (errno == EEXIST) {
			struct uffdio_range woken = {copy.dst, copy.len};

			ioctl(userfaultfd, UFFDIO_WAKE, &woken);
			return done > 0;
		}
		if (errno != EAGAIN)
			die("UFFDIO_COPY");
		copy.dst += done;
		copy.src += done;
		copy.len -= done;
	}
	return 1;
}

/* Wait for a message; false if the client has closed its side. */
static int wait_for_message(int userfaultfd, int client)
{
	struct pollfd both[2] = {{.fd = userfaultfd, .events = POLLIN}, {.fd = client, .events = POLLIN}};

	while (poll(both, 2, -1) < 0)
		if (errno != EINTR)
			die("poll");
	return both[0].revents || !both[1].revents;
}

int main(int argc, char **argv)
{
	struct uffd_msg messages[MESSAGES];
	struct range range;
	uint64_t counts[2] = {0, 0}, idle_since = now();

	if (argc < 5 || argc > 7) {
		fprintf(stderr, "usage: handler SOCKET LENGTH PAGES SPIN [FILE [direct]]\n");
		return 2;
	}
	int client = atoi(argv[1]);
	uint64_t length = strtoull(argv[2], NULL, 10), spin = strtoull(argv[4], NULL, 10) * 1000;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), block = strtoull(argv[3], NULL, 10) * page;

	struct swap swap = {-1, NULL};

	if (argc > 5) {
		swap.file = open(argv[5], O_RDONLY | O_CLOEXEC | (argc > 6 ? O_DIRECT : 0));
		if (swap.file < 0 || posix_memalign((void **)&swap.staging, page, block))
			die(argv[5]);
	}
	int memory = memfd_create("bench", MFD_CLOEXEC);
	if (memory < 0 || ftruncate(memory, (off_t)length))
		die("memfd_create");
	if (mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0) == MAP_FAILED)
		die("mmap");
	send_descriptor(client, memory);
	int userfaultfd = receive_userfaultfd(client, &range);

	for (;;) {
		ssize_t got = read(userfaultfd, messages, sizeof(messages));

		if (got < 0 && errno != EAGAIN)
			die("read");
		if (got <= 0) {
			if (now() - idle_since >= spin) {
				if (!wait_for_message(userfaultfd, client))
					break;
				idle_since = now();
			}
			continue;
		}
		for (size_t i = 0; i < (size_t)got / sizeof(*messages); i++) {
			if (messages[i].event != UFFD_EVENT_PAGEFAULT)
				continue;
			counts[0]++;
			uint64_t address = messages[i].arg.pagefault.address & ~(page - 1);

			counts[1] += swap.file < 0 ? !serve(userfaultfd, &range, address, block)
						   : !serve_swapped(userfaultfd, &range, address, block, &swap);
		}
		idle_since = now();
	}
	if (write(client, counts, sizeof(counts)) != sizeof(counts))
		die("write");
	return 0;
}
