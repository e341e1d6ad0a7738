/* The few messages of proto/usm/v1/client.proto that a client of the memory socket needs, encoded and decoded.

   Nothing here allocates memory or makes a system call. What comes from the daemon is read within its bounds whatever
   it is; a message that is none is refused. */

#ifndef USM_WIRE_H
#define USM_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USM_PACKET 4096 /* most bytes of a message, either way */
#define USM_TEXT 1025

enum usm_reason { /* FailureReason of common.proto */
    USM_INVALID_ARGUMENT = 1,
    USM_OUT_OF_RANGE = 2,
    USM_INVALID_HINT = 3,
    USM_SESSION_KILLED = 5,
    USM_NOT_FOUND = 6,
    USM_OUT_OF_MEMORY = 7,
    USM_LIMIT_EXCEEDED = 8,
    USM_DATA_LOSS = 9,
    USM_SWAP_IO = 10,
    USM_DRAINING = 12,
};

struct usm_message {
    size_t length;
    bool too_long; /* it did not fit, and must not be sent */
    unsigned char bytes[USM_PACKET];
};

struct usm_reply {
    uint64_t reason; /* 0: done */
    char message[USM_TEXT];
    uint64_t process_id, page_size, capacity; /* of MemoryBegun; page_size 0: the reply has none */
    uint64_t region_id, region_length;        /* of Region; region_id 0: the reply has none */
    char unheeded[USM_TEXT];                  /* keys of a hint that no policy acts on, with commas */
};

struct usm_outcome {
    uint64_t fault_id;
    bool ended; /* else it yielded */
    uint64_t reason;
    char message[USM_TEXT];
};

/* `takes_pages_out`: usmd may hand over a socket, see taking_out.h. */
void usm_encode_begin(struct usm_message *to, const char *name, const char *alloc, const char *evict,
                      uint64_t memory_max, bool takes_pages_out);
void usm_encode_map(struct usm_message *to, uint64_t length, const char *name);
void usm_encode_mapped(struct usm_message *to, uint64_t region_id, uint64_t address);
void usm_encode_hint(struct usm_message *to, uint64_t region_id, uint64_t offset, uint64_t length, const char *text);
void usm_encode_discard(struct usm_message *to, uint64_t region_id, uint64_t offset, uint64_t length);
void usm_encode_stream(struct usm_message *to);
/* A StreamFaultsRequest with one fault, behind its prefix. */
void usm_encode_fault(struct usm_message *to, uint64_t fault_id, uint64_t region_id, uint64_t page, uint64_t pages);

bool usm_decode_reply(const unsigned char *bytes, size_t length, struct usm_reply *reply);
/* The next outcome of a StreamFaultsResponse from `*at` on; `found` is false at its end. */
bool usm_decode_outcome(const unsigned char *bytes, size_t length, size_t *at, struct usm_outcome *outcome,
                        bool *found);

#endif
