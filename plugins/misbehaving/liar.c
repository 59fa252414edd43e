/*
 * A plugin that breaks the contract, which a safe one in Rust can't: the test subject of the host.
 *
 * LIE, set by the compiler, is a lie before anything runs; the key `lie` is one while it runs. As a
 * WASM module it is built with plugin-api/c/wasm like every plugin in C.
 */
#include "tcpcopy_plugin.h"

#include <stdlib.h>

#define NONE 0
#define OTHER_VERSION 1   /* its symbol, and its table, are of another version */
#define NO_TABLE 2        /* its symbol gives none */
#define TABLE_VERSION 3   /* the version in the table is not that of the symbol */
#define HOLE_IN_TABLE 4   /* the table lacks an entry */
#define NO_MANIFEST 5     /* its manifest says nothing */
#define BAD_NAME 6        /* its name is none */
#define NOT_UTF8 7        /* its name is no text */
#define DOUBLE_KEY 8      /* it has the same key twice */
#define MANIFEST_FAILS 9  /* it fails when it is asked who it is */
#define MANIFEST_LOOPS 10 /* it never says who it is */
#define IMPORTS 11        /* as a WASM module, it wants what plugins do not get */

#ifndef LIE
#define LIE NONE
#endif

#if LIE == BAD_NAME
#define NAME "No Name"
#elif LIE == NOT_UTF8
#define NAME "\xff\xfe"
#else
#define NAME "liar"
#endif

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

#define KEY \
    {TEXT("lie"), \
     TEXT("what it does: none, cut, tag, label, name, status, failed, refused or nothing"), \
     TEXT("none"), TCPCOPY_TEXT, 0, 0, 0}

static const struct tcpcopy_key keys[] = {KEY, KEY};

static int32_t manifest(void *context, void (*take)(void *, const struct tcpcopy_manifest *)) {
    struct tcpcopy_manifest manifest = {
        TEXT(NAME), TEXT("0.1.0"), TEXT("breaks the contract, for tests"), keys,
        LIE == DOUBLE_KEY ? 2 : 1, 0, 1,
    };
    volatile int never = LIE == MANIFEST_LOOPS;
    while (never)
        ;
    if (LIE == MANIFEST_FAILS)
        return TCPCOPY_FAILED;
    if (LIE != NO_MANIFEST)
        take(context, &manifest);
    return TCPCOPY_OK;
}

/* An instance is its lie. A session has nothing to remember. */
#define LIE_BYTES 16
static char one_session;

static int32_t configure(const struct tcpcopy_host *host, const struct tcpcopy_setting *settings,
                         size_t setting_count, void **instance, struct tcpcopy_sink error) {
    (void)host;
    char *lie = calloc(1, LIE_BYTES);
    if (!lie)
        return TCPCOPY_FAILED;
    for (size_t i = 0; i < setting_count; i++) {
        size_t length = settings[i].text.length;
        if (settings[i].kind == TCPCOPY_TEXT && length < LIE_BYTES) {
            memcpy(lie, settings[i].text.start, length);
            lie[length] = 0;
        }
    }
    if (strcmp(lie, "refused") == 0) {
        struct tcpcopy_bytes words = TEXT("lie: not \xff text");
        error.write(error.context, words);
        free(lie);
        return TCPCOPY_REFUSED;
    }
    *instance = lie;
    return TCPCOPY_OK;
}

static int32_t open_session(void *instance, uint64_t now, const struct tcpcopy_session_info *info,
                            void **session, struct tcpcopy_sink actions) {
    (void)instance, (void)now, (void)info, (void)actions;
    *session = &one_session;
    return TCPCOPY_OK;
}

/* A good action before the bad one: nothing of such a list may be done. */
static int32_t raw(struct tcpcopy_sink actions, const char *bytes, size_t length) {
    struct tcpcopy_bytes all = {(const uint8_t *)bytes, length};
    tcpcopy_send(actions, "not to be sent", 14);
    actions.write(actions.context, all);
    return TCPCOPY_OK;
}

static int32_t on_data(void *instance, void *session, uint64_t now, uint32_t direction,
                       struct tcpcopy_bytes bytes, struct tcpcopy_sink actions) {
    (void)session, (void)now;
    const char *lie = instance;
    if (direction != TCPCOPY_CLIENT)
        return TCPCOPY_OK;
    if (strcmp(lie, "cut") == 0)
        return raw(actions, "\1\xff\xff\xff\xff", 5);
    if (strcmp(lie, "tag") == 0)
        return raw(actions, "\x63\0\0\0\0", 5);
    if (strcmp(lie, "label") == 0)
        return raw(actions, "\2\1\0\0\0\xff", 6);
    if (strcmp(lie, "name") == 0)
        return raw(actions, "\6\1\0\0\0A", 6);
    if (strcmp(lie, "status") == 0)
        return 77;
    if (strcmp(lie, "failed") == 0)
        return TCPCOPY_FAILED;
    if (strcmp(lie, "nothing") == 0)
        return TCPCOPY_OK;
    tcpcopy_send(actions, bytes.start, bytes.length);
    return TCPCOPY_OK;
}

static int32_t on_gap(void *instance, void *session, uint64_t now, uint32_t direction,
                      uint64_t missing, struct tcpcopy_sink actions) {
    (void)instance, (void)session, (void)now, (void)direction, (void)missing, (void)actions;
    return TCPCOPY_OK;
}

static int32_t on_end(void *instance, void *session, uint64_t now, uint32_t direction,
                      struct tcpcopy_sink actions) {
    (void)instance, (void)session, (void)now, (void)direction, (void)actions;
    return TCPCOPY_OK;
}

static int32_t on_timer(void *instance, void *session, uint64_t now, struct tcpcopy_sink actions) {
    (void)instance, (void)session, (void)now, (void)actions;
    return TCPCOPY_OK;
}

static int32_t on_shared(void *instance, void *session, uint64_t now, struct tcpcopy_bytes key,
                         const struct tcpcopy_bytes *value, struct tcpcopy_sink actions) {
    (void)instance, (void)session, (void)now, (void)key, (void)value, (void)actions;
    return TCPCOPY_OK;
}

#if LIE == IMPORTS
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sched_yield"))) int yield(void);
#else
static int yield(void) {
    return 0;
}
#endif

static int32_t close_session(void *instance, void *session) {
    (void)instance, (void)session;
    return yield() == 0 ? TCPCOPY_OK : TCPCOPY_FAILED;
}

static int32_t destroy(void *instance) {
    free(instance);
    return TCPCOPY_OK;
}

static const struct tcpcopy_plugin table = {
    LIE == TABLE_VERSION ? 0x00090009u : TCPCOPY_PLUGIN_VERSION, 0,
    manifest, configure, open_session, on_data, on_gap, on_end,
    LIE == HOLE_IN_TABLE ? 0 : on_timer,
    on_shared, close_session, destroy,
};

#if LIE == OTHER_VERSION
#define tcpcopy_plugin_v0_1 tcpcopy_plugin_v9_9
#endif

const struct tcpcopy_plugin *tcpcopy_plugin_v0_1(void);

const struct tcpcopy_plugin *tcpcopy_plugin_v0_1(void) {
    return LIE == NO_TABLE ? 0 : &table;
}
