/*
 * A plugin in C: a protocol of lines, in capitals for the target. plugins/upper is the same in Rust.
 *
 *     cc -O2 -shared -fPIC -I .. -o upper_c.so upper.c
 */
#include "tcpcopy_plugin.h"

#include <ctype.h>
#include <stdlib.h>

/* The longest line; a session with a longer one is refused. */
#define LINE_BYTES (64 * 1024)

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

struct plugin {
    char *prefix;
    size_t prefix_length;
};

struct session {
    uint8_t line[LINE_BYTES]; /* a line whose end has not come yet */
    size_t length;
    int is_lost; /* before the first boundary of a connection captured late */
};

static const struct tcpcopy_key keys[] = {
    {TEXT("prefix"), TEXT("what each line begins with"), TEXT("nothing"), TCPCOPY_TEXT, 0, 0, 0},
};

static int32_t manifest(void *context, void (*take)(void *, const struct tcpcopy_manifest *)) {
    struct tcpcopy_manifest manifest = {
        TEXT("upper_c"), TEXT("0.1.0"), TEXT("lines in capitals"), keys, 1,
        0, /* what the origin answers is not needed */
        1, /* what the target answers is */
    };
    take(context, &manifest);
    return TCPCOPY_OK;
}

static int is_place(struct tcpcopy_bytes place, const char *key) {
    return place.length == strlen(key) && memcmp(place.start, key, place.length) == 0;
}

static int32_t configure(const struct tcpcopy_host *host, const struct tcpcopy_setting *settings,
                         size_t setting_count, void **instance, struct tcpcopy_sink error) {
    (void)host;
    struct plugin *plugin = calloc(1, sizeof *plugin);
    if (!plugin)
        return TCPCOPY_FAILED;
    for (size_t i = 0; i < setting_count; i++) {
        const struct tcpcopy_setting *setting = &settings[i];
        if (!is_place(setting->place, "prefix") || setting->kind != TCPCOPY_TEXT)
            continue;
        if (setting->text.length && memchr(setting->text.start, '\n', setting->text.length)) {
            struct tcpcopy_bytes words = TEXT("prefix: must be within one line");
            error.write(error.context, words);
            free(plugin);
            return TCPCOPY_REFUSED;
        }
        /* What is passed is good until the call returns: a copy stays. */
        plugin->prefix = malloc(setting->text.length + 1);
        if (!plugin->prefix) {
            free(plugin);
            return TCPCOPY_FAILED;
        }
        if (setting->text.length)
            memcpy(plugin->prefix, setting->text.start, setting->text.length);
        plugin->prefix_length = setting->text.length;
    }
    *instance = plugin;
    return TCPCOPY_OK;
}

static int32_t open_session(void *instance, uint64_t now, const struct tcpcopy_session_info *info,
                            void **session, struct tcpcopy_sink actions) {
    (void)instance, (void)now, (void)actions;
    struct session *opened = malloc(sizeof *opened);
    if (!opened)
        return TCPCOPY_FAILED;
    opened->length = 0;
    opened->is_lost = !info->start_seen;
    *session = opened;
    return TCPCOPY_OK;
}

/* Sends the line that has been gathered. */
static void request(const struct plugin *plugin, struct session *session,
                    struct tcpcopy_sink actions) {
    if (session->is_lost) {
        session->is_lost = 0;
        tcpcopy_count(actions, "lines_without_beginning", 1);
    } else {
        for (size_t i = 0; i < session->length; i++)
            session->line[i] = (uint8_t)toupper(session->line[i]);
        tcpcopy_begin_exchange(actions, "line");
        if (plugin->prefix_length)
            tcpcopy_send(actions, plugin->prefix, plugin->prefix_length);
        tcpcopy_send(actions, session->line, session->length);
        tcpcopy_count(actions, "lines", 1);
    }
    session->length = 0;
}

static int32_t on_data(void *instance, void *opened, uint64_t now, uint32_t direction,
                       struct tcpcopy_bytes bytes, struct tcpcopy_sink actions) {
    (void)now;
    struct session *session = opened;
    for (size_t i = 0; i < bytes.length; i++) {
        int is_end = bytes.start[i] == '\n';
        if (direction == TCPCOPY_TARGET) {
            if (is_end)
                tcpcopy_end_exchange(actions, 1, 0, "");
            continue;
        }
        if (session->length == LINE_BYTES) {
            tcpcopy_refuse(actions, "line_too_long");
            return TCPCOPY_OK;
        }
        session->line[session->length++] = bytes.start[i];
        if (is_end)
            request(instance, session, actions);
    }
    return TCPCOPY_OK;
}

static int32_t on_gap(void *instance, void *session, uint64_t now, uint32_t direction,
                      uint64_t missing, struct tcpcopy_sink actions) {
    (void)instance, (void)session, (void)now, (void)direction, (void)missing;
    tcpcopy_refuse(actions, "capture_gap");
    return TCPCOPY_OK;
}

static int32_t on_end(void *instance, void *opened, uint64_t now, uint32_t direction,
                      struct tcpcopy_sink actions) {
    (void)now;
    struct session *session = opened;
    if (direction == TCPCOPY_CLIENT && session->length)
        request(instance, session, actions);
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

static int32_t close_session(void *instance, void *session) {
    (void)instance;
    free(session);
    return TCPCOPY_OK;
}

static int32_t destroy(void *instance) {
    struct plugin *plugin = instance;
    free(plugin->prefix);
    free(plugin);
    return TCPCOPY_OK;
}

static const struct tcpcopy_plugin table = {
    TCPCOPY_PLUGIN_VERSION, 0,
    manifest, configure, open_session,
    on_data, on_gap, on_end, on_timer, on_shared,
    close_session, destroy,
};

const struct tcpcopy_plugin *tcpcopy_plugin_v0_1(void);

const struct tcpcopy_plugin *tcpcopy_plugin_v0_1(void) {
    return &table;
}
