/*
 * Makes a WASM module of a plugin that is written against ../tcpcopy_plugin.h: the functions of the
 * WIT package tcpcopy:plugin@0.1.0 (../../wit/v0.1.0/plugin.wit) in terms of its table. The author's
 * source is the same as for a native library:
 *
 *     clang --target=wasm32 -mbulk-memory -ffreestanding -O2 -nostdlib -Wl,--no-entry \
 *         -I C -I C/wasm -o mine.wasm mine.c C/wasm/adapter.c C/wasm/libc.c
 *
 * where C is this file's parent directory. `libc.c` is what of the C library plugins need most; instead
 * of it and of `-I C/wasm`, any library will do that imports nothing.
 *
 * What crosses the border here is the component model's canonical ABI: strings and lists as pointer
 * and length, what comes in allocated with `cabi_realloc` and ours to free, what goes out as a
 * pointer to a record that is good until the next call.
 */
#include "tcpcopy_plugin.h"

#include <stdlib.h>

const struct tcpcopy_plugin *tcpcopy_plugin_v0_1(void);

#define EXPORT(name) __attribute__((export_name("tcpcopy:plugin/guest@0.1.0#" name)))
#define IMPORT(name) \
    __attribute__((import_module("tcpcopy:plugin/host@0.1.0"), import_name(name)))

/* A string or a list of bytes, as it lies in memory. */
struct list {
    uint8_t *start;
    size_t length;
};

/* option<string>, option<list<u8>>, and result<_, string>. */
struct optional {
    uint8_t is_there;
    struct list value;
};

struct key {
    struct list name;
    uint8_t kind;
    struct list doc;
    struct optional default_value;
    uint8_t required, needs_origin, needs_target;
};

struct manifest {
    struct list name, version, description;
    uint8_t needs_origin, needs_target;
    struct key *keys;
    size_t key_count;
};

struct setting {
    struct list place;
    uint8_t tag; /* of enum value */
    union {
        struct list text;
        int64_t integer;
        double number;
        uint8_t boolean;
    } value;
};

enum value { TEXT, INTEGER, FLOAT, BOOLEAN, EMPTY_LIST, EMPTY_TABLE };

_Static_assert(sizeof(struct optional) == 12, "as the canonical ABI has it");
_Static_assert(sizeof(struct key) == 36, "as the canonical ABI has it");
_Static_assert(sizeof(struct manifest) == 36, "as the canonical ABI has it");
_Static_assert(sizeof(struct setting) == 24, "as the canonical ABI has it");

/* ---- memory --------------------------------------------------------------------------------- */

/* The host's way to put something into our memory. `malloc` aligns for every type. */
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_length,
                                                                 size_t align, size_t length) {
    if (length == 0)
        return (void *)align; /* is not looked at, but must not be null */
    void *new = realloc(old_length ? old : 0, length);
    if (!new)
        __builtin_trap();
    return new;
}

static void *must(void *allocated) {
    if (!allocated)
        __builtin_trap();
    return allocated;
}

/* Frees what the host has put in. */
static void drop(uint8_t *start, size_t length) {
    if (length)
        free(start);
}

static struct tcpcopy_bytes bytes(const uint8_t *start, size_t length) {
    struct tcpcopy_bytes bytes = {length ? start : 0, length};
    return bytes;
}

/* A buffer that a sink appends to; it keeps its memory from call to call. */
struct buffer {
    struct list list;
    size_t room;
};

static void append(void *context, struct tcpcopy_bytes bytes) {
    struct buffer *buffer = context;
    size_t length = buffer->list.length + bytes.length;
    if (length > buffer->room) {
        size_t room = length > 2 * buffer->room ? length : 2 * buffer->room;
        buffer->list.start = must(realloc(buffer->list.start, room));
        buffer->room = room;
    }
    if (bytes.length)
        memcpy(buffer->list.start + buffer->list.length, bytes.start, bytes.length);
    buffer->list.length = length;
}

static struct tcpcopy_sink into(struct buffer *buffer) {
    buffer->list.length = 0;
    struct tcpcopy_sink sink = {buffer, append};
    return sink;
}

/* ---- what the host answers at once ---------------------------------------------------------- */

IMPORT("random") uint64_t host_random(void);
IMPORT("log") void host_log(uint32_t level, const uint8_t *start, size_t length);
IMPORT("share-get") void host_share_get(const uint8_t *key, size_t length, struct optional *value);
IMPORT("share-take") void host_share_take(const uint8_t *key, size_t length, struct optional *value);
IMPORT("share-set") uint32_t host_share_set(const uint8_t *key, size_t key_length,
                                            const uint8_t *value, size_t value_length,
                                            uint64_t expiry);

static uint64_t draw(void *context) {
    (void)context;
    return host_random();
}

static void write_log(void *context, uint32_t level, struct tcpcopy_bytes message) {
    (void)context;
    host_log(level, message.start, message.length);
}

static uint32_t found(struct optional *value, struct tcpcopy_sink sink) {
    if (!value->is_there)
        return 0;
    sink.write(sink.context, bytes(value->value.start, value->value.length));
    drop(value->value.start, value->value.length);
    return 1;
}

static uint32_t share_get(void *context, struct tcpcopy_bytes key, struct tcpcopy_sink sink) {
    (void)context;
    struct optional value;
    host_share_get(key.start, key.length, &value);
    return found(&value, sink);
}

static uint32_t share_take(void *context, struct tcpcopy_bytes key, struct tcpcopy_sink sink) {
    (void)context;
    struct optional value;
    host_share_take(key.start, key.length, &value);
    return found(&value, sink);
}

static uint32_t share_set(void *context, struct tcpcopy_bytes key, struct tcpcopy_bytes value,
                          uint64_t expiry) {
    (void)context;
    return host_share_set(key.start, key.length, value.start, value.length, expiry);
}

static const struct tcpcopy_host host = {0, draw, write_log, share_get, share_take, share_set};

/* ---- the plugin and its sessions ------------------------------------------------------------ */

static void *instance;
static struct buffer actions;

/* A table of the sessions by their number: open addressing, never more than half full. */
struct place {
    uint64_t number;
    void *session;
    uint8_t is_taken;
};

static struct place *places;
static size_t place_count, session_count; /* place_count is a power of two, or 0 */

static size_t begins_at(uint64_t number) {
    return (size_t)((number * 0x9e3779b97f4a7c15u) >> 32) & (place_count - 1);
}

/* Where a session is, or would be. */
static struct place *find(uint64_t number) {
    size_t at = begins_at(number);
    while (places[at].is_taken && places[at].number != number)
        at = (at + 1) & (place_count - 1);
    return &places[at];
}

static void insert(uint64_t number, void *session) {
    if (2 * (session_count + 1) > place_count) {
        struct place *old = places;
        size_t old_count = place_count;
        place_count = old_count ? 2 * old_count : 64;
        places = must(calloc(place_count, sizeof *places));
        for (size_t i = 0; i < old_count; i++)
            if (old[i].is_taken)
                *find(old[i].number) = old[i];
        free(old);
    }
    struct place taken = {number, session, 1};
    *find(number) = taken;
    session_count++;
}

static void *session(uint64_t number) {
    struct place *place = place_count ? find(number) : 0;
    if (!place || !place->is_taken)
        __builtin_trap(); /* the host's mistake */
    return place->session;
}

/* Takes a session out, and closes the hole that it leaves in the way of others. */
static void forget(uint64_t number) {
    size_t hole = (size_t)(find(number) - places);
    size_t at = hole;
    session_count--;
    for (;;) {
        at = (at + 1) & (place_count - 1);
        if (!places[at].is_taken)
            break;
        size_t home = begins_at(places[at].number);
        if (((at - home) & (place_count - 1)) >= ((at - hole) & (place_count - 1))) {
            places[hole] = places[at];
            hole = at;
        }
    }
    places[hole].is_taken = 0;
}

/* ---- the exports ---------------------------------------------------------------------------- */

static struct list copy(struct tcpcopy_bytes bytes) {
    struct list list = {(uint8_t *)1, bytes.length};
    if (bytes.length) {
        list.start = must(malloc(bytes.length));
        memcpy(list.start, bytes.start, bytes.length);
    }
    return list;
}

/* What the plugin passes is good until it returns, so all of it is copied. */
static void take(void *context, const struct tcpcopy_manifest *from) {
    struct manifest *to = context;
    to->name = copy(from->name);
    to->version = copy(from->version);
    to->description = copy(from->description);
    to->needs_origin = from->needs_origin != 0;
    to->needs_target = from->needs_target != 0;
    to->key_count = from->key_count;
    to->keys = must(calloc(from->key_count + 1, sizeof *to->keys));
    for (size_t i = 0; i < from->key_count; i++) {
        const struct tcpcopy_key *key = &from->keys[i];
        to->keys[i].name = copy(key->name);
        to->keys[i].kind = (uint8_t)key->kind;
        to->keys[i].doc = copy(key->doc);
        to->keys[i].default_value.is_there = key->default_value.start != 0;
        to->keys[i].default_value.value = copy(key->default_value);
        to->keys[i].required = key->required != 0;
        to->keys[i].needs_origin = key->needs_origin != 0;
        to->keys[i].needs_target = key->needs_target != 0;
    }
}

EXPORT("manifest") struct manifest *manifest(void) {
    static struct manifest taken; /* always the same, so it is asked for once */
    if (!taken.keys && tcpcopy_plugin_v0_1()->manifest(&taken, take) != TCPCOPY_OK)
        __builtin_trap();
    return &taken;
}

static struct tcpcopy_setting read(const struct setting *from) {
    struct tcpcopy_setting to = {bytes(from->place.start, from->place.length), {0, 0}, 0, 0, 0};
    switch (from->tag) {
    case TEXT:
        to.kind = TCPCOPY_TEXT;
        to.text = bytes(from->value.text.start, from->value.text.length);
        break;
    case INTEGER:
        to.kind = TCPCOPY_INTEGER;
        to.integer = from->value.integer;
        break;
    case FLOAT:
        to.kind = TCPCOPY_FLOAT;
        to.number = from->value.number;
        break;
    case BOOLEAN:
        to.kind = TCPCOPY_BOOLEAN;
        to.integer = from->value.boolean;
        break;
    case EMPTY_LIST:
        to.kind = TCPCOPY_EMPTY_LIST;
        break;
    default:
        to.kind = TCPCOPY_EMPTY_TABLE;
    }
    return to;
}

EXPORT("configure") struct optional *configure(struct setting *settings, size_t count) {
    static struct buffer words;
    static struct optional error;
    struct tcpcopy_setting *read_ones = must(calloc(count + 1, sizeof *read_ones));
    for (size_t i = 0; i < count; i++)
        read_ones[i] = read(&settings[i]);
    int32_t status = tcpcopy_plugin_v0_1()->configure(&host, count ? read_ones : 0, count,
                                                      &instance, into(&words));
    if (status != TCPCOPY_OK && status != TCPCOPY_REFUSED)
        __builtin_trap();
    for (size_t i = 0; i < count; i++) {
        drop(settings[i].place.start, settings[i].place.length);
        if (settings[i].tag == TEXT)
            drop(settings[i].value.text.start, settings[i].value.text.length);
    }
    drop((uint8_t *)settings, count);
    free(read_ones);
    error.is_there = status == TCPCOPY_REFUSED;
    error.value = words.list;
    return &error;
}

/* What a call asked for; a plugin that has failed is not asked again. */
static struct list *answer(int32_t status) {
    if (status != TCPCOPY_OK)
        __builtin_trap();
    return &actions.list;
}

static struct tcpcopy_endpoint endpoint(uint8_t *ip, size_t length, uint32_t port) {
    struct tcpcopy_endpoint endpoint = {{0}, (uint16_t)port, (uint16_t)length};
    if (length > sizeof endpoint.ip)
        __builtin_trap();
    memcpy(endpoint.ip, ip, length);
    drop(ip, length);
    return endpoint;
}

EXPORT("open")
struct list *open_session(uint64_t number, uint64_t now, uint8_t *client_ip, size_t client_length,
                          uint32_t client_port, uint8_t *origin_ip, size_t origin_length,
                          uint32_t origin_port, uint8_t *target_ip, size_t target_length,
                          uint32_t target_port, uint32_t copy_number, uint32_t start_seen) {
    struct tcpcopy_session_info info = {
        number,
        endpoint(client_ip, client_length, client_port),
        endpoint(origin_ip, origin_length, origin_port),
        endpoint(target_ip, target_length, target_port),
        (uint16_t)copy_number,
        (uint16_t)start_seen,
    };
    void *opened = 0;
    int32_t status =
        tcpcopy_plugin_v0_1()->open(instance, now, &info, &opened, into(&actions));
    if (status == TCPCOPY_OK)
        insert(number, opened);
    return answer(status);
}

EXPORT("on-data")
struct list *on_data(uint64_t number, uint64_t now, uint32_t direction, uint8_t *start,
                     size_t length) {
    int32_t status = tcpcopy_plugin_v0_1()->on_data(
        instance, session(number), now, direction, bytes(start, length), into(&actions));
    drop(start, length);
    return answer(status);
}

EXPORT("on-gap")
struct list *on_gap(uint64_t number, uint64_t now, uint32_t direction, uint32_t is_known,
                    uint64_t missing) {
    return answer(tcpcopy_plugin_v0_1()->on_gap(instance, session(number), now, direction,
                                                is_known ? missing : TCPCOPY_UNKNOWN,
                                                into(&actions)));
}

EXPORT("on-end") struct list *on_end(uint64_t number, uint64_t now, uint32_t direction) {
    return answer(tcpcopy_plugin_v0_1()->on_end(instance, session(number), now, direction,
                                                into(&actions)));
}

EXPORT("on-timer") struct list *on_timer(uint64_t number, uint64_t now) {
    return answer(
        tcpcopy_plugin_v0_1()->on_timer(instance, session(number), now, into(&actions)));
}

EXPORT("on-shared")
struct list *on_shared(uint64_t number, uint64_t now, uint8_t *key, size_t key_length,
                       uint32_t is_there, uint8_t *start, size_t length) {
    struct tcpcopy_bytes value = bytes(start, length);
    int32_t status = tcpcopy_plugin_v0_1()->on_shared(instance, session(number), now,
                                                      bytes(key, key_length),
                                                      is_there ? &value : 0, into(&actions));
    drop(key, key_length);
    if (is_there)
        drop(start, length);
    return answer(status);
}

EXPORT("close") void close_session(uint64_t number) {
    void *closed = session(number);
    forget(number);
    if (tcpcopy_plugin_v0_1()->close(instance, closed) != TCPCOPY_OK)
        __builtin_trap();
}
