/*
 * The contract between tcpcopy and a native protocol plugin, version 0.1.
 *
 * A plugin is a shared library that exports one function:
 *
 *     const struct tcpcopy_plugin *tcpcopy_plugin_v0_1(void);
 *
 * The table that it returns lives as long as the library. The same contract for WASM, with more
 * words on what each call means, is ../wit/v0.1.0/plugin.wit.
 *
 * - Every pointer that is passed in either direction is good until the call returns, and no longer:
 *   who wants to keep bytes copies them. Nobody frees what the other side has allocated. The
 *   exceptions: `host` lives until `destroy` has returned, and what `configure` and `open` return
 *   in `instance` and `session` is the plugin's own, until `destroy` and `close`.
 * - An instance and its sessions are used by one thread at a time. There may be several instances.
 * - No C++ exception, longjmp or the like may leave a call.
 * - Times are in microseconds, from an arbitrary beginning, and never go back.
 * - A published version of this file never changes.
 */
#ifndef TCPCOPY_PLUGIN_H
#define TCPCOPY_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0.1 */
#define TCPCOPY_PLUGIN_VERSION 0x00010000u

/* Bytes that belong to whoever passes them; `start` may be NULL when `length` is 0. Text is UTF-8. */
struct tcpcopy_bytes {
    const uint8_t *start;
    size_t length;
};

/* Takes bytes. Who is given one may use it several times, or not at all; it appends. */
struct tcpcopy_sink {
    void *context;
    void (*write)(void *context, struct tcpcopy_bytes bytes);
};

/* How a call ended. */
enum tcpcopy_status {
    TCPCOPY_OK = 0,
    /* `configure`: the configuration will not do; the sink has got the reason. */
    TCPCOPY_REFUSED = 1,
    /* Any call: the plugin is broken. The host closes its sessions, destroys it, and counts. */
    TCPCOPY_FAILED = 2
};

/* Which stream. */
enum tcpcopy_direction {
    TCPCOPY_CLIENT = 0,
    TCPCOPY_ORIGIN = 1,
    TCPCOPY_TARGET = 2
};

/* What the value of a key must be, and what a setting is (a setting is never a secret, list or
 * table: it is the text, the elements, or one of the empty ones). */
enum tcpcopy_kind {
    TCPCOPY_TEXT = 0,
    TCPCOPY_SECRET = 1,
    TCPCOPY_INTEGER = 2,
    TCPCOPY_FLOAT = 3,
    TCPCOPY_BOOLEAN = 4,
    TCPCOPY_LIST = 5,
    TCPCOPY_TABLE = 6,
    TCPCOPY_EMPTY_LIST = 7,
    TCPCOPY_EMPTY_TABLE = 8
};

/* How much a line of the log matters. */
enum tcpcopy_level {
    TCPCOPY_ERROR = 0,
    TCPCOPY_WARN = 1,
    TCPCOPY_INFO = 2,
    TCPCOPY_DEBUG = 3,
    TCPCOPY_TRACE = 4
};

/* `missing` of `on_gap` when it is not known. */
#define TCPCOPY_UNKNOWN UINT64_MAX

/* One key of configuration. */
struct tcpcopy_key {
    struct tcpcopy_bytes name;
    struct tcpcopy_bytes doc;
    /* What holds without it; shown, not applied. `start` is NULL when there is nothing to say. */
    struct tcpcopy_bytes default_value;
    uint32_t kind;     /* enum tcpcopy_kind */
    uint32_t required; /* 0 or 1 */
    /* Streams that the plugin wants besides the manifest's when the configuration has this key (empty
     * lists and tables do not count): 0 or 1. */
    uint32_t needs_origin;
    uint32_t needs_target;
};

/* Who the plugin is. The name is made of a-z, 0-9 and _. */
struct tcpcopy_manifest {
    struct tcpcopy_bytes name;
    struct tcpcopy_bytes version;
    struct tcpcopy_bytes description;
    const struct tcpcopy_key *keys;
    size_t key_count;
    uint32_t needs_origin; /* 0 or 1 */
    uint32_t needs_target; /* 0 or 1 */
};

/* One value of the configuration with its place in it: `user`, `rules[0].header`, `names."x.y"`.
 * Keys that are not made of letters, digits, `_` and `-` stand in quotes, with \" and \\ inside.
 * Elements of a list come in order. */
struct tcpcopy_setting {
    struct tcpcopy_bytes place;
    struct tcpcopy_bytes text; /* TCPCOPY_TEXT */
    int64_t integer;           /* TCPCOPY_INTEGER; TCPCOPY_BOOLEAN: 0 or 1 */
    double number;             /* TCPCOPY_FLOAT */
    uint32_t kind;             /* enum tcpcopy_kind */
};

/* An address: the first `ip_length` bytes of `ip`, 4 or 16, in network order. */
struct tcpcopy_endpoint {
    uint8_t ip[16];
    uint16_t port;
    uint16_t ip_length;
};

/* Which connection a session replays. */
struct tcpcopy_session_info {
    uint64_t id;
    struct tcpcopy_endpoint client;
    struct tcpcopy_endpoint origin;
    struct tcpcopy_endpoint target;
    uint16_t copy;       /* which of the copies of this connection, from 0 */
    uint16_t start_seen; /* whether its beginning was captured: 0 or 1 */
};

/* What the host answers at once. The first argument is always `context`. */
struct tcpcopy_host {
    void *context;
    uint64_t (*random)(void *context);
    void (*log)(void *context, uint32_t level, struct tcpcopy_bytes message);
    /* 1 when there is a value; the sink has got it. */
    uint32_t (*share_get)(void *context, struct tcpcopy_bytes key, struct tcpcopy_sink value);
    uint32_t (*share_take)(void *context, struct tcpcopy_bytes key, struct tcpcopy_sink value);
    /* 1 when it was set, for `expiry` microseconds; 0 when it is larger than the host allows. */
    uint32_t (*share_set)(void *context, struct tcpcopy_bytes key, struct tcpcopy_bytes value,
                          uint64_t expiry);
};

/* What a plugin does; no entry may be NULL. Those that return int32_t return enum tcpcopy_status.
 * What one call writes to `actions`, taken together, is a list of actions; the functions at the end
 * of this file write them. */
struct tcpcopy_plugin {
    uint32_t version;  /* TCPCOPY_PLUGIN_VERSION */
    uint32_t reserved; /* 0 */

    /* Calls `take` once with its manifest. */
    int32_t (*manifest)(void *context,
                        void (*take)(void *context, const struct tcpcopy_manifest *manifest));

    /* Makes an instance from the configuration. */
    int32_t (*configure)(const struct tcpcopy_host *host, const struct tcpcopy_setting *settings,
                         size_t setting_count, void **instance, struct tcpcopy_sink error);

    /* Opens a session. */
    int32_t (*open)(void *instance, uint64_t now, const struct tcpcopy_session_info *info,
                    void **session, struct tcpcopy_sink actions);

    /* Bytes of a stream, at least one, in order and without holes. */
    int32_t (*on_data)(void *instance, void *session, uint64_t now, uint32_t direction,
                       struct tcpcopy_bytes bytes, struct tcpcopy_sink actions);

    /* A stream goes on after a hole of so many bytes, or TCPCOPY_UNKNOWN. */
    int32_t (*on_gap)(void *instance, void *session, uint64_t now, uint32_t direction,
                      uint64_t missing, struct tcpcopy_sink actions);

    /* A stream is finished: the client, the origin or the target has closed its side. The
     * connection to the target is closed after what has been sent when the client's is. */
    int32_t (*on_end)(void *instance, void *session, uint64_t now, uint32_t direction,
                      struct tcpcopy_sink actions);

    /* The session's timer has gone off. */
    int32_t (*on_timer)(void *instance, void *session, uint64_t now, struct tcpcopy_sink actions);

    /* A value that was waited for; NULL when the time was over. */
    int32_t (*on_shared)(void *instance, void *session, uint64_t now, struct tcpcopy_bytes key,
                         const struct tcpcopy_bytes *value, struct tcpcopy_sink actions);

    /* The session is over: frees it. */
    int32_t (*close)(void *instance, void *session);

    /* Frees the instance, after all its sessions. */
    int32_t (*destroy)(void *instance);
};

/* ---- actions: what a plugin wants, in order ------------------------------------------------- */

/* What is sent goes in order, with one exception: in the answer to anything but `open` and what
 * concerns the client's stream, what is sent before any `tcpcopy_begin_exchange` belongs to what is
 * under way with the target, and goes ahead of all that is held or waits for an answer.
 *
 * Each function writes one action to the sink. Names are 1 to 64 of a-z, 0-9 and _; labels are
 * UTF-8 of at most 256 bytes. As bytes, an action is a tag of one byte, the payload's length in
 * four, little-endian, and the payload: here a number (or none) and bytes (or none). */
static inline void tcpcopy_put(struct tcpcopy_sink sink, uint8_t tag, uint64_t number,
                               size_t number_length, const void *payload, size_t length) {
    uint8_t head[5 + 8];
    size_t all = number_length + length;
    head[0] = tag;
    for (size_t i = 0; i < 4; i++)
        head[1 + i] = (uint8_t)(all >> (8 * i));
    for (size_t i = 0; i < number_length; i++)
        head[5 + i] = (uint8_t)(number >> (8 * i));
    struct tcpcopy_bytes first = {head, 5 + number_length};
    sink.write(sink.context, first);
    if (length) {
        struct tcpcopy_bytes second = {(const uint8_t *)payload, length};
        sink.write(sink.context, second);
    }
}

/* Sends to the target, after all that was sent before. */
static inline void tcpcopy_send(struct tcpcopy_sink sink, const void *bytes, size_t length) {
    tcpcopy_put(sink, 1, 0, 0, bytes, length);
}

/* What is sent from here on is a new request; one of which nothing is sent before the next begins has
 * been left out, and is not among those that are ended. */
static inline void tcpcopy_begin_exchange(struct tcpcopy_sink sink, const char *label) {
    tcpcopy_put(sink, 2, 0, 0, label, strlen(label));
}

/* The target's answer to the oldest request without one is complete, or that request has none: it is
 * ended then once those before it are, whether it has left or not. */
static inline void tcpcopy_end_exchange(struct tcpcopy_sink sink, int ok, uint32_t status,
                                        const char *label) {
    uint64_t number = (uint64_t)(ok ? 1 : 0) | ((uint64_t)status << 8);
    tcpcopy_put(sink, 3, number, 5, label, strlen(label));
}

/* What is sent from here on waits, until `tcpcopy_release`. */
static inline void tcpcopy_hold(struct tcpcopy_sink sink) { tcpcopy_put(sink, 4, 0, 0, 0, 0); }

static inline void tcpcopy_release(struct tcpcopy_sink sink) { tcpcopy_put(sink, 5, 0, 0, 0, 0); }

/* The session can't be replayed. */
static inline void tcpcopy_refuse(struct tcpcopy_sink sink, const char *reason) {
    tcpcopy_put(sink, 6, 0, 0, reason, strlen(reason));
}

/* A counter grows. */
static inline void tcpcopy_count(struct tcpcopy_sink sink, const char *name, uint64_t n) {
    tcpcopy_put(sink, 7, n, 8, name, strlen(name));
}

/* `on_timer` once after so many microseconds, 1000 at least, replacing an earlier one. */
static inline void tcpcopy_set_timer(struct tcpcopy_sink sink, uint64_t after) {
    tcpcopy_put(sink, 8, after, 8, 0, 0);
}

/* The rest of the session bypasses the plugin. */
static inline void tcpcopy_pass_through(struct tcpcopy_sink sink) {
    tcpcopy_put(sink, 9, 0, 0, 0, 0);
}

/* `on_shared` when the key has a value, or after `timeout` microseconds. */
static inline void tcpcopy_wait(struct tcpcopy_sink sink, struct tcpcopy_bytes key,
                                uint64_t timeout) {
    tcpcopy_put(sink, 10, timeout, 8, key.start, key.length);
}

#ifdef __cplusplus
}
#endif

#endif
