/* Protocol buffers, as far as wire.h needs them. */

#include "wire.h"

#include <string.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

/* Encoding */

static void put(struct usm_message *to, const void *bytes, size_t length) {
    if (length > sizeof to->bytes - to->length) {
        to->too_long = true;
        return;
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

static void put_varint(struct usm_message *to, uint64_t value) {
    unsigned char bytes[10];
    size_t length = 0;
    do {
        bytes[length] = (unsigned char)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        value >>= 7;
        length++;
    } while (value != 0);
    put(to, bytes, length);
}

static void put_number(struct usm_message *to, unsigned field, uint64_t value) {
    if (value != 0) {
        put_varint(to, field << 3 | VARINT);
        put_varint(to, value);
    }
}

static void put_bytes(struct usm_message *to, unsigned field, const void *bytes, size_t length) {
    put_varint(to, field << 3 | BYTES);
    put_varint(to, length);
    put(to, bytes, length);
}

static void put_text(struct usm_message *to, unsigned field, const char *text) {
    if (text != NULL && *text != 0) {
        put_bytes(to, field, text, strlen(text));
    }
}

static void clear(struct usm_message *message) {
    message->length = 0;
    message->too_long = false;
}

/* Begins a message in a field; returns where it begins. Its length is written when it ends, always in two bytes. */
static size_t open_message(struct usm_message *to, unsigned field) {
    put_varint(to, field << 3 | BYTES);
    put(to, "\x80\0", 2);
    return to->length;
}

static void close_message(struct usm_message *to, size_t from) {
    if (!to->too_long) { /* then it is shorter than 2 to the 14th */
        size_t length = to->length - from;
        to->bytes[from - 2] = (unsigned char)(0x80 | (length & 0x7F));
        to->bytes[from - 1] = (unsigned char)(length >> 7);
    }
}

static size_t request(struct usm_message *to, unsigned field) {
    clear(to);
    return open_message(to, field);
}

void usm_encode_begin(struct usm_message *to, const char *name, const char *alloc, const char *evict,
                      uint64_t memory_max, bool takes_pages_out) {
    size_t from = request(to, 4);
    put_text(to, 1, name);
    put_text(to, 2, alloc);
    put_text(to, 3, evict);
    put_number(to, 4, 1); /* faults of system calls are reported, see connection.c */
    put_number(to, 5, memory_max);
    put_number(to, 6, takes_pages_out);
    close_message(to, from);
}

void usm_encode_map(struct usm_message *to, uint64_t length, const char *name) {
    size_t from = request(to, 5);
    put_number(to, 1, length);
    put_text(to, 2, name);
    close_message(to, from);
}

void usm_encode_mapped(struct usm_message *to, uint64_t region_id, uint64_t address) {
    size_t from = request(to, 3);
    put_number(to, 1, region_id);
    put_number(to, 2, address);
    close_message(to, from);
}

void usm_encode_hint(struct usm_message *to, uint64_t region_id, uint64_t offset, uint64_t length, const char *text) {
    size_t from = request(to, 7);
    put_number(to, 1, region_id);
    put_number(to, 2, offset);
    put_number(to, 3, length);
    put_bytes(to, 4, text, strlen(text));
    close_message(to, from);
}

void usm_encode_discard(struct usm_message *to, uint64_t region_id, uint64_t offset, uint64_t length) {
    size_t from = request(to, 9);
    put_number(to, 1, region_id);
    put_number(to, 2, offset);
    put_number(to, 3, length);
    close_message(to, from);
}

void usm_encode_stream(struct usm_message *to) {
    close_message(to, request(to, 8));
}

void usm_encode_fault(struct usm_message *to, uint64_t fault_id, uint64_t region_id, uint64_t page, uint64_t pages) {
    static const unsigned char prefix[5]; /* its length is the last byte: a fault takes less than 256 bytes */
    clear(to);
    put(to, prefix, sizeof prefix);
    size_t from = open_message(to, 1);
    put_number(to, 1, fault_id);
    put_number(to, 2, region_id);
    put_number(to, 3, page);
    put_number(to, 4, pages);
    close_message(to, from);
    to->bytes[sizeof prefix - 1] = (unsigned char)(to->length - sizeof prefix);
}

/* Decoding */

struct reader {
    const unsigned char *at, *end;
    bool bad;
};

struct field {
    uint64_t number, value; /* value: of a VARINT */
    unsigned type;
    struct reader bytes; /* of BYTES */
};

static uint64_t get_varint(struct reader *from) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && from->at < from->end; shift += 7) {
        unsigned char byte = *from->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
    from->bad = true;
    return 0;
}

/* The next field; false at the end, or if what follows is no field. */
static bool next(struct reader *from, struct field *field) {
    if (from->bad || from->at >= from->end) {
        return false;
    }
    uint64_t tag = get_varint(from), length = 0;
    field->number = tag >> 3;
    field->type = tag & 7;
    field->value = 0;
    field->bytes = (struct reader){NULL, NULL, false};
    if (field->number == 0) {
        from->bad = true;
    } else if (field->type == VARINT) {
        field->value = get_varint(from);
    } else {
        length = field->type == BYTES ? get_varint(from) : field->type == FIXED64 ? 8 : field->type == FIXED32 ? 4 : 0;
        from->bad = from->bad || (length == 0 && field->type != BYTES) || length > (uint64_t)(from->end - from->at);
        if (!from->bad) {
            field->bytes = (struct reader){from->at, from->at + length, false};
            from->at += length;
        }
    }
    return !from->bad;
}

/* Appends what is printable; the text comes from outside and goes to a terminal. */
static void append(char *to, size_t room, struct reader text) {
    size_t length = strlen(to);
    for (; text.at < text.end && length + 1 < room; text.at++) {
        to[length++] = (char)(*text.at < ' ' || *text.at == 0x7F ? '?' : *text.at);
    }
    to[length] = 0;
}

static bool decode_numbers(struct reader from, uint64_t *numbers, unsigned most) {
    struct field field;
    while (next(&from, &field)) {
        if (field.type == VARINT && field.number <= most) {
            numbers[field.number] = field.value;
        }
    }
    return !from.bad;
}

static bool decode_hinted(struct reader from, struct usm_reply *reply) {
    struct field field;
    while (next(&from, &field)) {
        if (field.number == 5 && field.type == BYTES) {
            if (*reply->unheeded != 0) {
                append(reply->unheeded, sizeof reply->unheeded,
                       (struct reader){(const unsigned char *)", ", (const unsigned char *)", " + 2, false});
            }
            append(reply->unheeded, sizeof reply->unheeded, field.bytes);
        }
    }
    return !from.bad;
}

bool usm_decode_reply(const unsigned char *bytes, size_t length, struct usm_reply *reply) {
    struct reader from = {bytes, bytes + length, false};
    struct field field;
    bool good = true;
    memset(reply, 0, sizeof *reply);
    while (good && next(&from, &field)) {
        uint64_t numbers[5] = {0};
        if (field.number == 1 && field.type == VARINT) {
            reply->reason = field.value;
        } else if (field.number == 2 && field.type == BYTES) {
            *reply->message = 0;
            append(reply->message, sizeof reply->message, field.bytes);
        } else if (field.number == 3 && field.type == BYTES) {
            good = decode_numbers(field.bytes, numbers, 3);
            reply->process_id = numbers[1];
            reply->page_size = numbers[2];
            reply->capacity = numbers[3];
        } else if (field.number == 4 && field.type == BYTES) {
            good = decode_numbers(field.bytes, numbers, 4);
            reply->region_id = numbers[1];
            reply->region_length = numbers[3];
        } else if (field.number == 5 && field.type == BYTES) {
            good = decode_hinted(field.bytes, reply);
        }
    }
    return good && !from.bad;
}

static bool decode_failure(struct reader from, struct usm_outcome *outcome) {
    struct field field;
    while (next(&from, &field)) {
        if (field.number == 1 && field.type == VARINT) {
            outcome->reason = field.value;
        } else if (field.number == 2 && field.type == BYTES) {
            *outcome->message = 0;
            append(outcome->message, sizeof outcome->message, field.bytes);
        }
    }
    return !from.bad;
}

static bool decode_one(struct reader from, struct usm_outcome *outcome) {
    struct field field;
    bool good = true;
    while (good && next(&from, &field)) {
        if (field.number == 1 && field.type == VARINT) {
            outcome->fault_id = field.value;
        } else if (field.number == 2 && field.type == BYTES) {
            outcome->ended = true;
        } else if (field.number == 4 && field.type == BYTES) {
            outcome->ended = true;
            good = decode_failure(field.bytes, outcome);
        }
    }
    return good && !from.bad;
}

bool usm_decode_outcome(const unsigned char *bytes, size_t length, size_t *at, struct usm_outcome *outcome,
                        bool *found) {
    struct reader from = {bytes + *at, bytes + length, false};
    struct field field;
    memset(outcome, 0, sizeof *outcome);
    *found = false;
    while (!*found && next(&from, &field)) {
        if (field.number == 1 && field.type == BYTES) {
            *found = true;
            if (!decode_one(field.bytes, outcome)) {
                return false;
            }
        }
    }
    *at = (size_t)(from.at - bytes);
    return !from.bad;
}
